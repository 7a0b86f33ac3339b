"""How full the tables are that traffic or the inventory fills."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from xds_agent.datapath.info import map_info
from xds_agent.datapath.program import NAT_WAYS, Generation

_HASHES = ("services4", "services6", "flows", "flows_new")


@dataclass(frozen=True, slots=True)
class Fill:
    """Entries in use of so many. LRU tables are full by design once they were; then the oldest entry goes."""

    used: int
    capacity: int


def fills(generation: Generation) -> dict[str, Fill]:
    """By map; `nat` are flows with a port, `nat_open` those that no flood can evict. Raises OSError."""
    found = {}
    for name in _HASHES:
        table = generation.maps[name]
        found[name] = Fill(sum(1 for _ in table.entries()), map_info(table.fd).max_entries)
    stages = generation.enum("nat_state")
    mask, unpack = stages["NAT_STAGE"], struct.Struct(f"={NAT_WAYS}Q").unpack
    states = [
        tag & mask
        for _, tags in generation.maps["nat_sets"].entries()
        if any(tags)
        for tag in unpack(tags)
        if tag & mask
    ]
    capacity = generation.sizes.nat_flows
    return found | {
        "nat": Fill(len(states), capacity),
        "nat_open": Fill(states.count(stages["NAT_OPEN"]), capacity),
    }
