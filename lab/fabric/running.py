"""The fabric of this checkout's lab, as the clouds have it now."""

from __future__ import annotations

import fcntl
import ipaddress
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import network
from lab.cloud_site import RANGES
from lab.commands import attempt, podman_json, run
from lab.fabric.filter import Guard, Machine, filter_of, nothing_of
from lab.place import ROOT, Place

PYTHON = ROOT / "pulumi" / ".venv" / "bin" / "python"
REMEDY = "script/lab up --from-pulumi installs nftables, which the simulated clouds' rules need"


def ensure(place: Place) -> None:
    """Bring this machine to what the clouds hold; closed before open, and nothing of ours without clouds."""
    world = place.state / "pulumi" / "world"
    if not world.is_dir():
        remove(place)
        return
    with _alone(place):
        said = json.loads(
            run(["env", "-C", ROOT / "pulumi", PYTHON, "-m", "simcloud", "--world", world, "fabric"])
        )
        bridges = bridges_of(place)
        for bridge in bridges:
            _route_within(bridge)
        text = (
            filter_of(table_of(place), machines=machines(said), bridges=bridges, ranges=range_of(place))
            if bridges
            else nothing_of(table_of(place))
        )
        run(["nft", "-f", "-"], stdin=text, remedy=REMEDY)


def remove(place: Place) -> None:
    """Take away all of it."""
    if table_of(place) in attempt(["nft", "list", "tables"]).stdout:
        run(["nft", "-f", "-"], stdin=nothing_of(table_of(place)))


def table_of(place: Place) -> str:
    """The name of its tables."""
    return f"{place.prefix}-fabric"


def range_of(place: Place) -> tuple[str, str]:
    """The first and the last address of the clouds' networks."""
    first, last = RANGES
    return f"10.{place.octet}.{first}.0", f"10.{place.octet}.{last}.255"


def machines(said: dict[str, Any]) -> list[Machine]:
    """As `simcloud fabric` describes them."""
    return [
        Machine(
            name=one["name"],
            address=one["address"],
            forwards=one["forwards"],
            guards=tuple(
                Guard(
                    lets=guard["lets"],
                    sources=tuple(guard["sources"]),
                    protocol=guard["protocol"],
                    ports=tuple((low, high) for low, high in guard["ports"]),
                )
                for guard in one["guards"]
            ),
        )
        for one in said["machines"]
    ]


def bridges_of(place: Place) -> list[str]:
    """Bridges of the clouds' subnets."""
    first, last = (ipaddress.IPv4Address(each) for each in range_of(place))
    found = podman_json(
        "network", "ls", "--format", "json", "--filter", f"label={network.CHECKOUT}={place.root}"
    )
    return [
        entry["network_interface"]
        for entry in found
        for subnet in entry["subnets"]
        if first <= ipaddress.IPv4Network(subnet["subnet"])[0] <= last
    ]


def _route_within(bridge: str) -> None:
    """Who asks for a neighbour is told of the router, at once; a bridge without hosts is not there."""
    for file, value in ((f"conf/{bridge}/proxy_arp_pvlan", "1"), (f"neigh/{bridge}/proxy_delay", "0")):
        path = Path("/proc/sys/net/ipv4") / file
        if path.exists():
            path.write_text(value)


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    """What was read last is what stands in the end."""
    with (place.state / "fabric.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
