"""What a program that runs already has in its maps: services, reals, and what is known of these."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from xds_agent.datapath.layout import Value
from xds_agent.datapath.program import Generation
from xds_agent.node.datapath.wanted import Address, Front, RealKey

NO_MAC = bytes(6)


@dataclass(frozen=True)
class LiveReals:
    """Reals by their numbers; of those whose next hop was found, its MAC, and which of them were down."""

    numbers: dict[RealKey, int]
    macs: dict[Address, bytes]
    down: frozenset[RealKey]


def live_services(generation: Generation) -> dict[Front, tuple[int, int]]:
    """Number and ring of the service at each front. Raises OSError."""
    found: dict[Front, tuple[int, int]] = {}
    for table in ("services4", "services6"):
        entries = generation.maps[table]
        for key in list(entries.keys()):
            value = entries.get(key)
            if value is not None:
                front = Front(_address(key["address"]), key["port"], key["protocol"])
                found[front] = (value["id"], value["ring"])
    return found


def live_reals(generation: Generation) -> LiveReals:
    """Raises OSError."""
    table, states = generation.maps["reals"], generation.enum("real_state")
    numbers: dict[RealKey, int] = {}
    macs: dict[Address, bytes] = {}
    down: set[RealKey] = set()
    for number in range(1, generation.sizes.reals):
        value = table.get(number)
        if value is None or value["state"] == states["REAL_ABSENT"]:
            continue
        key = _real_key(value)
        numbers[key] = number
        if value["mac"] != NO_MAC:
            macs[key.address] = value["mac"]
            if value["state"] == states["REAL_DOWN"]:
                down.add(key)
    return LiveReals(numbers, macs, frozenset(down))


def _address(value: Value) -> Address:
    return ip_address(value) if isinstance(value, bytes) else IPv4Address(value)


def _real_key(value: Value) -> RealKey:
    size = 4 if value["version"] == 4 else 16
    return RealKey(ip_address(value["address"][:size]), value["port"])
