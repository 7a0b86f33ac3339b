"""The program, its device and the kernel's rules: there while some direction has a distance, gone else."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import clients
from lab.apart import TUNNELS
from lab.commands import attempt, podman_json, run
from lab.errors import LabError
from lab.fabric.world import PUBLIC_OF
from lab.network import CHECKOUT, NAME
from lab.place import FIRST_OCTET, Place
from lab.wan import table
from lab.wan.table import Direction, Met, Way, Ways

SOURCE = Path(__file__).with_name("wan.c")
# Before the main table (32766); by the second octet of its addresses and its name each lab has its own.
_FIRST_RULE, _RULES_OF_CHECKOUT = 20_000, 100
_MESSAGE_BYTES = 65_536
_PATIENCE_S = 10.0
_PEER = struct.Struct("3i")  # struct ucred: process, user, group


@dataclass(frozen=True)
class Side:
    """What lies on one side of the WAN: devices of this machine, and the addresses behind them."""

    name: str
    devices: tuple[str, ...]
    ranges: tuple[str, ...]
    public: tuple[str, ...] = ()
    """Where a simulated cloud's machines are known outside of it."""


Sides = Mapping[str, Side]


def sides(place: Place) -> dict[str, Side]:
    """Clouds, the network of the control host, and the clients': those this lab has."""
    found: dict[str, Side] = {}
    ours = f"label={CHECKOUT}={place.root}"
    for entry in podman_json("network", "ls", "--format", "json", "--filter", ours):
        if entry["labels"].get(NAME) != place.name:
            continue
        name = entry["name"].removeprefix(f"{place.prefix}-").split("-")[0]
        was = found.get(name, Side(name, (), ()))
        ranges = tuple(subnet["subnet"] for subnet in entry["subnets"])
        public = (PUBLIC_OF[name],) if place.from_clouds else ()
        found[name] = Side(name, (*was.devices, entry["network_interface"]), (*was.ranges, *ranges), public)
    near = clients.near(place)
    if _exists(near):
        found["clients"] = Side("clients", (near,), (clients.range_of(place),))
    return found


def state(place: Place, known: Sides) -> dict[Direction, tuple[Way, Met]]:
    """What holds now, and what packets met; empty when no direction has a distance."""
    said = _ask(place, "show")
    return {} if said is None else table.read(said, _ranges(known))


def apply(place: Place, ways: Ways, known: Sides) -> None:
    """From now on these hold. Starts the program when it is needed, and ends it when it is not."""
    if not ways:
        stop(place)
        return
    if _ask(place, "show") is None:
        _start(place)
    said = _ask(place, table.program(ways, _ranges(known)))
    if said is None or said == "error\n":
        raise LabError(f"the WAN did not take what was set: {said or 'it has died'}", f"see {_log(place)}")
    # Between clouds apart nothing passes but tunnels: what is to be dropped must not come in by this way.
    ports = TUNNELS if place.apart.exists() else ""
    wanted = {
        (device, target, ports)
        for source, to in ways for device in known[source].devices
        for target in _targets(known[source], known[to])
    }  # fmt: skip
    _set_untracked(place, {(device, target) for device, target, _ in wanted} if place.from_clouds else set())
    _set_rules(place, wanted)


def _targets(source: Side, to: Side) -> tuple[str, ...]:
    """Where packets are addressed to: between simulated clouds there is no way to private addresses."""
    return to.public if source.public and to.public else (*to.ranges, *to.public)


def _set_untracked(place: Place, ways: set[tuple[str, str]]) -> None:
    """What simulated clouds translate they do when it comes out of the WAN: nobody remembers it going in."""
    name = f"{place.prefix}-wan"
    pairs = ", ".join(f'"{device}" . {target}' for device, target in sorted(ways))
    table_ = f"""
table ip {name} {{
  set ways {{ type ifname . ipv4_addr; flags interval; elements = {{ {pairs} }} }}
  chain entering {{
    type filter hook prerouting priority raw;
    iifname . ip daddr @ways notrack
  }}
}}
"""
    run(["nft", "-f", "-"], stdin=f"table ip {name} {{ }}\ndelete table ip {name}\n{table_ if ways else ''}")


def renew(place: Place) -> None:
    """Rules as they have to be now: networks may have other devices, and clouds be apart that were not."""
    if _ask(place, "show") is not None:
        known = sides(place)
        apply(place, {at: way for at, (way, _) in state(place, known).items()}, known)


def stop(place: Place) -> bool:
    """All ways are short again and nothing of it runs; False if nothing did. Needs no podman, no networks."""
    was = bool(rules(place)) or _exists(device(place))
    _set_rules(place, set())
    attempt(["nft", "delete", "table", "ip", f"{place.prefix}-wan"])
    # Its program ends with it.
    attempt(["ip", "link", "del", device(place)])
    _until(lambda: _ask(place, "show") is None)
    _socket(place).unlink(missing_ok=True)
    return was


def device(place: Place) -> str:
    """At most 15 characters: digests of the checkout and of the lab's name (molecule has labs of its own)."""
    return f"{place.prefix.split('-')[0]}-w{_digest(place)[:4]}"


def process(place: Place) -> int:
    """Number of the process that holds packets. LabError when there is none."""
    with _line(place) as line:
        if line is None:
            raise LabError("no WAN runs", "script/lab wan aws-gcp --rtt 80ms")
        return _PEER.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[0]


def compile_program(folder: Path) -> Path:
    """Compile it unless that is done."""
    made = folder / "wan"
    if not made.exists() or made.stat().st_mtime < SOURCE.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / "wan.new"
        run(
            ["clang", "-O2", "-Wall", "-Wextra", "-Werror", "-o", fresh, SOURCE],
            remedy="script/lab up installs what building needs",
        )
        fresh.rename(made)
    return made


def _start(place: Place) -> None:
    if not Path("/dev/net/tun").exists():
        raise LabError("this machine has no /dev/net/tun, which the WAN needs", "modprobe tun")
    made = compile_program(_folder(place))
    with _log(place).open("w") as log:
        subprocess.Popen(
            [made, device(place), _socket(place)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    if not _until(lambda: _ask(place, "show") is not None):
        raise LabError(f"the WAN did not start: {_log(place).read_text().strip()}")
    # Packets come out of it from everywhere: a loose check of where they come from, which wants an address.
    Path(f"/proc/sys/net/ipv4/conf/{device(place)}/rp_filter").write_text("2")
    run(["ip", "addr", "replace", f"10.{place.octet}.255.1/32", "dev", device(place)])
    run(["ip", "route", "replace", "default", "dev", device(place), "table", str(_number(place))])


def _ask(place: Place, message: str) -> str | None:
    """The program's answer; None when none runs."""
    with _line(place) as line:
        if line is None:
            return None
        try:
            line.send(message.encode())
            return line.recv(_MESSAGE_BYTES).decode()
        except ConnectionError:
            return None


@contextmanager
def _line(place: Place) -> Iterator[socket.socket | None]:
    """To the program; None when none runs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.settimeout(_PATIENCE_S)
        try:
            line.connect(str(_socket(place)))
        except (FileNotFoundError, ConnectionError):
            yield None
        else:
            yield line


def _exists(name: str) -> bool:
    # Not /sys, which shows the devices of the namespace it was mounted in.
    return any(name == one for _, one in socket.if_nameindex())


def _until(reached: Callable[[], bool]) -> bool:
    end = time.monotonic() + _PATIENCE_S
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


Rule = tuple[str, str, str]
"""(device packets come from, range they go to, UDP ports FROM:TO; empty: whatever they are)."""


def rules(place: Place) -> set[Rule]:
    """Those that stand."""
    number = str(_number(place))
    found = json.loads(run(["ip", "-j", "-4", "rule", "show", "pref", number]) or "[]")
    return {
        (one["iif"], f"{one['dst']}/{one['dstlen']}",
         f"{one['dport_start']}:{one['dport_end']}" if "dport_start" in one else "")
        for one in found
    }  # fmt: skip


def _set_rules(place: Place, wanted: set[Rule]) -> None:
    number, have = str(_number(place)), rules(place)
    for action, which in (("add", wanted - have), ("del", have - wanted)):
        for source, target, ports in sorted(which):
            words = ["pref", number, "iif", source, "to", target, "lookup", number]
            if ports:
                words += ["ipproto", "udp", "dport", ports.replace(":", "-")]
            run(["ip", "-4", "rule", action, *words])


def _ranges(known: Sides) -> table.Sides:
    return {name: (*side.ranges, *side.public) for name, side in known.items()}


def _number(place: Place) -> int:
    of_checkout = _RULES_OF_CHECKOUT * (place.octet - FIRST_OCTET)
    return _FIRST_RULE + of_checkout + int(_digest(place), 16) % _RULES_OF_CHECKOUT


def _digest(place: Place) -> str:
    return hashlib.sha256(place.name.encode()).hexdigest()


def _folder(place: Place) -> Path:
    return place.state / "wan"


def _socket(place: Place) -> Path:
    return Path("/run") / f"{place.prefix}-wan.sock"


def _log(place: Place) -> Path:
    return _folder(place) / "wan.log"
