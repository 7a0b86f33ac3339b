#!/usr/bin/python3
"""The program that takes the outer header off what edges send by GUE, on a backend's interfaces.

decap.py SETTINGS (attach, or exchange what is attached), decap.py --off SETTINGS. Needs bpftool and ip.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

NAME = "xdp_decap"
MODES = {"native": "xdpdrv", "skb": "xdpgeneric"}
# XDP_ATTACHED_DRV, XDP_ATTACHED_SKB.
_MODE_NAMES = {1: "native", 2: "skb"}
ARP = Path("/proc/sys/net/ipv4/conf/all")
# The edge answers for the services' addresses; nobody on this link must.
QUIET = {"arp_ignore": "1", "arp_announce": "2"}


class DecapError(Exception):
    """What is in the way, and the remedy."""


def run(*command: str) -> str:
    """What the command prints. Raises DecapError with its words."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DecapError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def attached(interface: str) -> tuple[str, str]:
    """Name and mode of the XDP program on an interface, "" for none. Raises DecapError."""
    [link] = json.loads(run("ip", "-j", "-d", "link", "show", "dev", interface))
    xdp = link.get("xdp", {})
    number = xdp.get("prog", {}).get("id")
    if number is None:
        # With programs in several modes at once, none of them alone is the interface's.
        return ("", "") if not xdp.get("attached") else ("several", "")
    shown = json.loads(run("bpftool", "-j", "prog", "show", "id", str(number)))
    return str(shown.get("name") or number), _MODE_NAMES.get(xdp.get("mode"), "")


def interfaces() -> set[str]:
    """Names of those there are. Raises DecapError."""
    return {link["ifname"] for link in json.loads(run("ip", "-j", "link", "show"))}


def on_loopback() -> set[str]:
    """Addresses of lo. Raises DecapError."""
    [link] = json.loads(run("ip", "-j", "address", "show", "dev", "lo"))
    return {one["local"] for one in link["addr_info"]}


def plain(address: str) -> str:
    """As `ip` writes it. Raises ValueError."""
    return str(ipaddress.ip_address(address))


def read_state(settings: dict) -> dict | None:
    """What earlier runs put on this host since it was booted, None if nothing. Raises OSError, ValueError."""
    path = Path(settings["state"])
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_state(settings: dict, state: dict) -> None:
    """Raises OSError."""
    path = Path(settings["state"])
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(state, indent=1), encoding="utf-8")
    fresh.replace(path)


def load(program: str, place: Path, edges: list[str]) -> Path:
    """Programs and maps below `place`, the edges in them; returns the pin. Raises DecapError."""
    # All of them are read before anything is loaded.
    networks = [network_of(text) for text in edges]
    if not os.path.ismount(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "bpf", "bpf", str(place.parent))
    run("bpftool", "prog", "loadall", program, str(place), "type", "xdp", "pinmaps", str(place / "maps"))
    for network in networks:
        key = network.prefixlen.to_bytes(4, sys.byteorder) + network.network_address.packed
        run("bpftool", "map", "update", "pinned", str(place / "maps" / f"edges{network.version}"),
            "key", "hex", *key.hex(" ").split(), "value", "hex", "01", "00", "00", "00")  # fmt: skip
    return place / NAME


def network_of(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Raises DecapError."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise DecapError(f"edges: {error}; correct decap_edges, or the addresses of group l4") from error


def attach(settings: dict) -> None:
    """Raises DecapError; what ran before goes on where it was not exchanged."""
    found = {one: attached(one) for one in settings["interfaces"]}
    foreign = {one: name for one, (name, _) in found.items() if name not in ("", NAME)}
    if foreign:
        words = "; ".join(
            f"{one} carries another XDP program already ({name}): take it off "
            f"(ip link set dev {one} xdp off), or take {one} out of decap_interfaces"
            for one, name in foreign.items()
        )
        raise DecapError(words)
    addresses = [plain(one) for one in settings["addresses"]]
    pins = Path(settings["pins"])
    # `ip` makes a folder of its own in any BPF file system it finds first.
    before = [path for path in pins.glob("*") if path.name.isdigit()] if os.path.ismount(pins) else []
    number = max((int(path.name) for path in before), default=0) + 1
    pin = load(settings["program"], pins / str(number), settings["edges"])
    was = read_state(settings) or {"interfaces": [], "addresses": [], "arp": {}}
    ours = sorted({*was["addresses"], *(set(addresses) - on_loopback())})
    state = {
        "interfaces": sorted({*was["interfaces"], *settings["interfaces"]}),
        "addresses": ours,
        "arp": was["arp"] or {name: (ARP / name).read_text().strip() for name in QUIET if addresses},
    }
    # First, so that what fails half way is known to the next run.
    write_state(settings, state)
    for interface in settings["interfaces"]:
        put_on(interface, pin, settings["mode"], found[interface])
    take_away(
        {**state, "interfaces": [one for one in state["interfaces"] if one not in settings["interfaces"]],
         "addresses": [one for one in ours if one not in addresses]},
        arp=not addresses,
    )  # fmt: skip
    if addresses:
        # Before the addresses: not one neighbour is answered for them.
        for name, value in QUIET.items():
            (ARP / name).write_text(value)
    for address in addresses:
        run("ip", "address", "replace", host_of(address), "dev", "lo")
    write_state(
        settings,
        {
            "interfaces": sorted(settings["interfaces"]),
            "addresses": [one for one in ours if one in addresses],
            "arp": state["arp"] if addresses else {},
        },
    )
    for path in before:
        shutil.rmtree(path)


def put_on(interface: str, pin: Path, mode: str, found: tuple[str, str]) -> None:
    """In one step: no packet meets the interface without a program, unless the mode is another one now."""
    name, mode_now = found
    if name and mode_now != mode:
        # A driver's program and a generic one are not active together.
        off(interface, mode_now)
    run("ip", "-force", "link", "set", "dev", interface, MODES[mode], "pinned", str(pin))


def off(interface: str, mode: str) -> None:
    """Without its mode said, `off` looks for the driver's program alone. Raises DecapError."""
    run("ip", "link", "set", "dev", interface, MODES.get(mode, "xdp"), "off")


def host_of(address: str) -> str:
    one = ipaddress.ip_address(address)
    return f"{one}/{one.max_prefixlen}"


def take_away(state: dict, *, arp: bool) -> None:
    """Programs and addresses of a state; with `arp`, the kernel answers neighbours as it did before.

    Raises DecapError.
    """
    there = interfaces()
    for interface in state["interfaces"]:
        if interface in there and (found := attached(interface))[0] == NAME:
            off(interface, found[1])
    here = on_loopback()
    for address in state["addresses"]:
        if address in here:
            run("ip", "address", "del", host_of(address), "dev", "lo")
    for name, value in state["arp"].items() if arp else ():
        # Whoever set it since then means it.
        if (ARP / name).read_text().strip() == QUIET[name]:
            (ARP / name).write_text(value)


def take_off(settings: dict) -> None:
    """Raises DecapError."""
    state = read_state(settings) or {"interfaces": [], "addresses": [], "arp": {}}
    take_away(
        {**state, "interfaces": sorted({*state["interfaces"], *settings["interfaces"]})},
        arp=True,
    )  # fmt: skip
    Path(settings["state"]).unlink(missing_ok=True)
    if os.path.ismount(settings["pins"]):
        run("umount", settings["pins"])


def main() -> int:
    *words, path = sys.argv[1:]
    try:
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
        (take_off if "--off" in words else attach)(settings)
    except (DecapError, OSError, ValueError) as error:
        print(f"decap: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
