"""The fabric of this checkout's lab on this machine, as the clouds have it now."""

from __future__ import annotations

import fcntl
import ipaddress
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import clients, network
from lab.cloud_site import RANGES
from lab.commands import attempt, podman_json, run
from lab.fabric import routes
from lab.fabric.filter import Ways, filter_of, nothing_of
from lab.fabric.world import World, world_of
from lab.place import ROOT, Place

PYTHON = ROOT / "pulumi" / ".venv" / "bin" / "python"
REMEDY = "script/lab up --from-pulumi installs nftables, which the simulated clouds' rules need"
# What clouds serve to machines: an instance's metadata, and the API at a public address of the simulated AWS.
METADATA, API = ("169.254.169.254", 80), ("198.19.255.1", 80)
_SERVICE_NUMBER = 200


def ensure(place: Place) -> None:
    """Bring this machine to what the clouds hold; closed before open, and nothing of ours without clouds."""
    if not folder(place).is_dir():
        remove(place)
        return
    with _alone(place):
        world = read(place)
        bridges = bridges_of(place)
        if not bridges:
            _clear(place)
            return
        clients.ensure(place)
        _outside(place, world)
        for bridge in bridges.values():
            _route_within(bridge)
        _set_filter(place, _filter(place, world, bridges))
        _route(place, world, bridges)


def read(place: Place) -> World:
    """What the clouds hold."""
    command = ["env", "-C", ROOT / "pulumi", PYTHON, "-m", "simcloud", "--world", folder(place), "fabric"]
    return world_of(json.loads(run(command)))


def folder(place: Place) -> Path:
    """Where the clouds keep what they hold."""
    return place.state / "pulumi" / "world"


def remove(place: Place) -> None:
    """Take away all of it."""
    if (
        any(routes.preference(place.octet) == rule["priority"] for rule in _rules())
        or table_of(place) in attempt(["nft", "list", "tables"]).stdout
    ):
        _clear(place)


def _clear(place: Place) -> None:
    _set_filter(place, nothing_of(table_of(place)))
    _set_rules(place, {})
    for number in _tables(place):
        run(["ip", "-4", "route", "flush", "table", str(number)])


def _set_filter(place: Place, text: str) -> None:
    """Tables that are as they should be keep their counters."""
    there = place.state / "fabric.nft"
    listed = run(["nft", "list", "tables"], remedy=REMEDY)
    if there.exists() and there.read_text() == text and table_of(place) in listed:
        return
    run(["nft", "-f", "-"], stdin=text, remedy=REMEDY)
    there.write_text(text)


def table_of(place: Place) -> str:
    """The name of its tables of nftables."""
    return f"{place.prefix}-fabric"


def range_of(place: Place) -> tuple[str, str]:
    """The first and the last address of the clouds' networks."""
    first, last = RANGES
    return f"10.{place.octet}.{first}.0", f"10.{place.octet}.{last}.255"


def service(place: Place) -> str:
    """Where the clouds' own services are, among those who are in no cloud."""
    return clients.address(place, _SERVICE_NUMBER)


def bridges_of(place: Place) -> dict[str, str]:
    """Range of a cloud's subnet -> its bridge."""
    first, last = (ipaddress.IPv4Address(each) for each in range_of(place))
    found = podman_json(
        "network", "ls", "--format", "json", "--filter", f"label={network.CHECKOUT}={place.root}"
    )
    return {
        subnet["subnet"]: entry["network_interface"]
        for entry in found
        for subnet in entry["subnets"]
        if first <= ipaddress.IPv4Network(subnet["subnet"])[0] <= last
    }


def _filter(place: Place, world: World, bridges: dict[str, str]) -> str:
    first, last = range_of(place)
    probes = sorted({probe.source for probe, _ in routes.asked(world.subnets)})
    ways = Ways(
        public=world.public,
        services={METADATA: (service(place), METADATA[1]), API: (service(place), API[1])},
        outside=clients.near(place),
        ranges=(f"{first}-{last}", *probes),
        mark=routes.MARK,
    )
    return filter_of(
        table_of(place), machines=world.machines, bridges=bridges.values(), ranges=(first, last), ways=ways
    )


def _outside(place: Place, world: World) -> None:
    """Addresses of the clouds' services, and of their health checks."""
    inside = ["ip", "-n", clients.namespace(place), "addr", "replace"]
    run([*inside, f"{service(place)}/24", "dev", "eth0"])
    for source in {probe.source for probe, _ in routes.asked(world.subnets)}:
        run([*inside, f"{source}/32", "dev", "eth0"])


def _route_within(bridge: str) -> None:
    """Who asks for a neighbour is told of the router, at once; a bridge without hosts is not there."""
    for file, value in ((f"conf/{bridge}/proxy_arp_pvlan", "1"), (f"neigh/{bridge}/proxy_delay", "0")):
        path = Path("/proc/sys/net/ipv4") / file
        if path.exists():
            path.write_text(value)


def _route(place: Place, world: World, bridges: dict[str, str]) -> None:
    outside = {
        f"{probe.source}/32": clients.address(place, clients.ORDINARY)
        for probe, _ in routes.asked(world.subnets)
    }
    known = well(place)
    tables = {
        routes.number_of(one.range): (bridges[one.range], routes.table_of(one, well=known, outside=outside))
        for one in world.subnets
        if one.range in bridges
    }
    for number, (_, table) in tables.items():
        _set_table(number, table)
    _set_rules(place, {number: bridge for number, (bridge, _) in tables.items()})
    for number in _tables(place) - tables.keys():
        run(["ip", "-4", "route", "flush", "table", str(number)])


def _set_table(number: int, table: routes.Table) -> None:
    """Route by route, so that none is missing in between; a hop whose bridge is not there leads nowhere."""
    shown = attempt(["ip", "-j", "-4", "route", "show", "table", str(number)])
    # A table without routes does not exist.
    here = set() if shown.returncode else {_whole(route["dst"]) for route in json.loads(shown.stdout or "[]")}
    for range_, words in table.items():
        if words[0] in ("throw", "blackhole"):
            run(["ip", "-4", "route", "replace", *words, range_, "table", str(number)])
        elif attempt(["ip", "-4", "route", "replace", range_, *words, "table", str(number)]).returncode:
            run(["ip", "-4", "route", "replace", "blackhole", range_, "table", str(number)])
    for range_ in here - {_whole(range_) for range_ in table}:
        run(["ip", "-4", "route", "del", range_, "table", str(number)])


def _whole(range_: str) -> str:
    return range_ if range_ == "default" or "/" in range_ else f"{range_}/32"


def _rules() -> list[dict[str, Any]]:
    return list(json.loads(run(["ip", "-j", "-4", "rule", "show"])))


def _set_rules(place: Place, wanted: dict[int, str]) -> None:
    """Number of a table -> the bridge whose marked packets go by it."""
    own = str(routes.preference(place.octet))
    here = {
        (int(rule["table"]), rule["iif"])
        for rule in _rules()
        if str(rule["priority"]) == own and "iif" in rule and str(rule["table"]).isdigit()
    }
    for action, which in (("add", wanted.items() - here), ("del", here - wanted.items())):
        for number, bridge in which:
            words = ["pref", own, "iif", bridge, "fwmark", hex(routes.MARK), "lookup", str(number)]
            run(["ip", "-4", "rule", action, *words])


def _tables(place: Place) -> set[int]:
    shown = run(["ip", "-j", "-4", "route", "show", "table", "all"])
    named = {str(route.get("table", "")) for route in json.loads(shown or "[]")}
    ours = routes.numbers(place.octet)
    return {int(name) for name in named if name.isdigit() and int(name) in ours}


def well(place: Place) -> set[routes.Asked]:
    """Health checks whose answer is good now, as the watcher left word."""
    try:
        said = json.loads((place.state / "pulumi" / "well.json").read_text())
    except (FileNotFoundError, ValueError):
        return set()
    return {(routes.Probe(**probe), address) for probe, address in said}


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    """What was read last is what stands in the end."""
    with (place.state / "fabric.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
