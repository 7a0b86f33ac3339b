"""Route tables of clouds as the kernel's. Pure: what the clouds hold and who is well goes in.

Each subnet has a table of the kernel, which holds what its cloud's table says, and nothing else of the other
clouds: what is not there is dropped, as in a cloud. Within its network a packet goes by the main table.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from lab.place import FIRST_OCTET

# Packets that have to go by a table of ours carry it; by the lab's second octet each lab has its own rules.
MARK = 0x6D70FAB
_FIRST_TABLE, _TABLES_OF_LAB, _FIRST_RULE = 1_000_000, 1024, 19_000
# The smallest subnet that the lab's /22 networks are cut into.
_SUBNET_BITS = 26


@dataclass(frozen=True)
class Probe:
    """A balancer's health check."""

    source: str
    port: int
    path: str
    interval_s: int
    unhealthy_after: int
    protocol: str = "http"
    """http or tcp."""
    healthy_after: int = 1
    timeout_s: int = 1
    accepts: tuple[int, int] = (200, 200)
    """First and last status that is well."""


@dataclass(frozen=True)
class Route:
    """A way out of a network: machines that packets may be handed to, and who asks whether they are well."""

    range: str
    hops: tuple[str, ...]
    probe: Probe | None


@dataclass(frozen=True)
class Subnet:
    """A subnet with its route table; ``network`` are the ranges of all of its network."""

    range: str
    network: tuple[str, ...]
    routes: tuple[Route, ...]


Asked = tuple[Probe, str]
"""A health check and the address it asks."""
Table = Mapping[str, tuple[str, ...]]
"""Destination -> words of `ip route` behind it; "throw" and "blackhole" come before it there."""


def asked(subnets: Iterable[Subnet]) -> set[Asked]:
    """Every health check that is made."""
    return {
        (route.probe, hop) for one in subnets for route in one.routes if route.probe for hop in route.hops
    }


def table_of(subnet: Subnet, *, well: Collection[Asked], outside: Mapping[str, str]) -> Table:
    """The subnet's routes; ``outside``: ranges that lie beyond the clouds, and through whom."""
    found: dict[str, tuple[str, ...]] = {"default": ("blackhole",)}
    for range_, via in outside.items():
        found[range_] = ("via", via)
    for range_ in subnet.network:
        found[range_] = ("throw",)
    for route in subnet.routes:
        hops = [hop for hop in route.hops if route.probe is None or (route.probe, hop) in well]
        if len(hops) == 1:
            found[route.range] = ("via", hops[0])
        elif hops:
            found[route.range] = tuple(word for hop in hops for word in ("nexthop", "via", hop))
    return found


def number_of(range_: str) -> int:
    """The kernel's number of a subnet's table, its own on this machine."""
    address = int(ipaddress.ip_network(range_).network_address)
    return _FIRST_TABLE + (address >> (32 - _SUBNET_BITS)) % (_TABLES_OF_LAB * 256)


def numbers(octet: int) -> range:
    """Numbers of all tables of a lab."""
    first = number_of(f"10.{octet}.0.0/26")
    return range(first, first + _TABLES_OF_LAB)


def preference(octet: int) -> int:
    """Where the rules that lead to a lab's tables stand: before the WAN's and the main table."""
    return _FIRST_RULE + octet - FIRST_OCTET
