"""Ranges and addresses, as clouds hand them out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def inside(inner: str, outer: str) -> bool:
    a, b = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    return a.version == b.version and a.subnet_of(b)  # type: ignore[arg-type]


def overlapping(range_: str, others: Iterable[str]) -> str | None:
    """The first of ``others`` that shares an address with ``range_``."""
    wanted = ipaddress.ip_network(range_)
    return next((each for each in others if wanted.overlaps(ipaddress.ip_network(each))), None)


def usable(address: Any, range_: str, *, reserved_first: int, reserved_last: int) -> bool:
    """Whether a cloud that keeps the first and last few addresses of a subnet would give this one."""
    subnet = ipaddress.ip_network(range_)
    found = ipaddress.ip_address(str(address))
    if found not in subnet:
        return False
    place = int(found) - int(subnet.network_address)
    return reserved_first <= place < subnet.num_addresses - reserved_last


def free(range_: str, taken: set[str], *, reserved_first: int, reserved_last: int) -> str | None:
    """The lowest address of the subnet that is neither kept by the cloud nor taken; None if it is full."""
    subnet = ipaddress.ip_network(range_)
    for place in range(reserved_first, subnet.num_addresses - reserved_last):
        address = str(subnet[place])
        if address not in taken:
            return address
    return None


def next_public(pool: str, taken: set[str]) -> str | None:
    """A public address of the simulated internet (198.18.0.0/15, which no network uses)."""
    return free(pool, taken, reserved_first=1, reserved_last=1)
