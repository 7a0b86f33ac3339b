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


class DecapError(Exception):
    """What is in the way, and the remedy."""


def run(*command: str) -> str:
    """What the command prints. Raises DecapError with its words."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DecapError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def attached(interface: str) -> str:
    """Name of the XDP program on an interface, "" for none. Raises DecapError."""
    [link] = json.loads(run("ip", "-j", "-d", "link", "show", "dev", interface))
    number = link.get("xdp", {}).get("prog", {}).get("id")
    if number is None:
        return ""
    return str(json.loads(run("bpftool", "-j", "prog", "show", "id", str(number))).get("name") or number)


def load(program: str, place: Path, edges: list[str]) -> Path:
    """Programs and maps below `place`, the edges in them; returns the pin. Raises DecapError."""
    if not os.path.ismount(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "bpf", "bpf", str(place.parent))
    run("bpftool", "prog", "loadall", program, str(place), "type", "xdp", "pinmaps", str(place / "maps"))
    for text in edges:
        network = ipaddress.ip_network(text)
        key = network.prefixlen.to_bytes(4, sys.byteorder) + network.network_address.packed
        run("bpftool", "map", "update", "pinned", str(place / "maps" / f"edges{network.version}"),
            "key", "hex", *key.hex(" ").split(), "value", "hex", "01", "00", "00", "00")  # fmt: skip
    return place / NAME


def attach(settings: dict) -> None:
    """Raises DecapError; what ran before goes on where it was not exchanged."""
    foreign = {one: name for one in settings["interfaces"] if (name := attached(one)) not in ("", NAME)}
    if foreign:
        words = "; ".join(
            f"{one} carries another XDP program already ({name}): take it off "
            f"(ip link set dev {one} xdp off), or take {one} out of decap_interfaces"
            for one, name in foreign.items()
        )
        raise DecapError(words)
    pins = Path(settings["pins"])
    before = [path for path in pins.glob("*") if path.is_dir()] if os.path.ismount(pins) else []
    number = max((int(path.name) for path in before), default=0) + 1
    pin = load(settings["program"], pins / str(number), settings["edges"])
    for interface in settings["interfaces"]:
        # One step: no packet meets the interface without a program.
        run("ip", "-force", "link", "set", "dev", interface, MODES[settings["mode"]], "pinned", str(pin))
    for address in settings["addresses"]:
        one = ipaddress.ip_address(address)
        run("ip", "address", "replace", f"{one}/{one.max_prefixlen}", "dev", "lo")
    if settings["addresses"]:
        # The edge answers for these addresses; nobody on this link must.
        Path("/proc/sys/net/ipv4/conf/all/arp_ignore").write_text("1")
        Path("/proc/sys/net/ipv4/conf/all/arp_announce").write_text("2")
    for path in before:
        shutil.rmtree(path)


def take_off(settings: dict) -> None:
    """Raises DecapError."""
    for interface in settings["interfaces"]:
        if attached(interface) == NAME:
            run("ip", "link", "set", "dev", interface, MODES[settings["mode"]], "off")
    for address in settings["addresses"]:
        one = ipaddress.ip_address(address)
        subprocess.run(
            ["ip", "address", "del", f"{one}/{one.max_prefixlen}", "dev", "lo"],
            check=False,
            capture_output=True,
        )
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
