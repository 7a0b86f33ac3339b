"""The fabric of this checkout's lab on this machine, as the clouds have it now."""

from __future__ import annotations

import fcntl
import ipaddress
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import clients, network, wires
from lab.cloud_site import FIRST_THIRD, RANGES
from lab.commands import attempt, podman_json, run
from lab.fabric import checks, fronts, guests, routes
from lab.fabric.filter import Ways, filter_of, nothing_of
from lab.fabric.world import World, world_of
from lab.place import ROOT, Place
from lab.wan import running as wan

PYTHON = ROOT / "pulumi" / ".venv" / "bin" / "python"
REMEDY = "script/lab up --from-pulumi installs nftables, which the simulated clouds' rules need"
# What clouds serve to machines: an instance's metadata, and the API at a public address of the simulated AWS.
METADATA, API = ("169.254.169.254", 80), ("198.19.255.1", 80)
_SERVICE_NUMBER, _NAMES_NUMBER = 200, 53
# This machine among the people who log in, whom the site file's `ssh.sources` let in.
_OPERATOR_NUMBER = 1


@dataclass(frozen=True)
class Rule:
    """Packets with a mark go by a table of routes; those of one bridge, or of any."""

    table: int
    mark: int
    bridge: str = ""


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
        # A card of a cloud sends what XDP hands it, whether `script/lab` or `pulumi up` alone made the host.
        wires.let_pass(bridges.values())
        _set_filter(place, _filter(place, world, bridges))
        _route(place, world, bridges)
        _end_flows(place, world)
        guests.ensure(place, world)


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
    _set_rules(place, set())
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


def names_at(place: Place) -> str:
    """Where the clouds' DNS answers, among those who are in no cloud."""
    return clients.address(place, _NAMES_NUMBER)


def inside(place: Place) -> Path:
    """The namespace of those who are in no cloud."""
    return Path("/run/netns", clients.namespace(place))


def operator(place: Place) -> str:
    """The address from which this machine logs in to the clouds' hosts."""
    return f"10.{place.octet}.{FIRST_THIRD}.{_OPERATOR_NUMBER}"


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
    probes = sorted({probe.source for probe, _ in world.asked})
    ways = Ways(
        public=world.public,
        outbound=world.outbound,
        services={METADATA: (service(place), METADATA[1]), API: (service(place), API[1])},
        outside=clients.near(place),
        wan=wan.device(place),
        ranges=(f"{first}-{last}",),
        probes=tuple(probes),
        mark=routes.MARK,
        fronts=world.fronts,
        well=checks.read(place),
    )
    return filter_of(
        table_of(place), machines=world.machines, bridges=bridges.values(), ranges=(first, last), ways=ways
    )


def _outside(place: Place, world: World) -> None:
    """Addresses of the clouds' services, of their health checks, and of whoever logs in from this machine."""
    run(["ip", "addr", "replace", f"{operator(place)}/32", "dev", clients.near(place)])
    add = ["ip", "-n", clients.namespace(place), "addr", "replace"]
    for own in (service(place), names_at(place)):
        run([*add, f"{own}/24", "dev", "eth0"])
    for source in {probe.source for probe, _ in world.asked}:
        run([*add, f"{source}/32", "dev", "eth0"])


def _route_within(bridge: str) -> None:
    """Who asks for a neighbour is told of the router, at once; a bridge without hosts is not there."""
    for file, value in ((f"conf/{bridge}/proxy_arp_pvlan", "1"), (f"neigh/{bridge}/proxy_delay", "0")):
        path = Path("/proc/sys/net/ipv4") / file
        if path.exists():
            path.write_text(value)


def _route(place: Place, world: World, bridges: dict[str, str]) -> None:
    outside = {f"{probe.source}/32": clients.address(place, clients.ORDINARY) for probe, _ in world.asked}
    known = checks.read(place)
    ways = {
        Rule(routes.number_of(one.range), routes.MARK, bridges[one.range]): routes.table_of(
            one, well=known, outside=outside
        )
        for one in world.subnets
        if one.range in bridges
    }
    for number, target in fronts.marks(world.fronts).items():
        ways[Rule(number, number)] = {"default": ("via", target)}
    for rule, table in ways.items():
        _set_table(rule.table, table)
    _set_rules(place, set(ways))
    for number in _tables(place) - {rule.table for rule in ways}:
        run(["ip", "-4", "route", "flush", "table", str(number)])


def _end_flows(place: Place, world: World) -> None:
    """Flows to targets that ceased to be well; their next packet opens another, to a target that is well."""
    for front, target in fronts.broken(world.fronts, checks.read(place)):
        flow = ["--proto", front.protocol, "--orig-dst", front.address, "--orig-port-dst", str(front.port)]
        attempt(["conntrack", "-D", *flow, "--reply-src", target.address])


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


def _set_rules(place: Place, wanted: set[Rule]) -> None:
    own = str(routes.preference(place.octet))
    here = {
        Rule(int(rule["table"]), int(rule["fwmark"], 16), rule.get("iif", ""))
        for rule in _rules()
        if str(rule["priority"]) == own and "fwmark" in rule and str(rule["table"]).isdigit()
    }
    for action, which in (("add", wanted - here), ("del", here - wanted)):
        for rule in which:
            comes = ["iif", rule.bridge] if rule.bridge else []
            words = ["pref", own, *comes, "fwmark", hex(rule.mark), "lookup", str(rule.table)]
            run(["ip", "-4", "rule", action, *words])


def _tables(place: Place) -> set[int]:
    shown = run(["ip", "-j", "-4", "route", "show", "table", "all"])
    named = {str(route.get("table", "")) for route in json.loads(shown or "[]")}
    ours = routes.numbers(place.octet), fronts.tables(place.octet)
    return {int(name) for name in named if name.isdigit() and any(int(name) in one for one in ours)}


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    """What was read last is what stands in the end."""
    with (place.state / "fabric.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
