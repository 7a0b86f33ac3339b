"""Which ring slots still have live flows: what a step of a ring waits for before it is finalised."""

from __future__ import annotations

import time
from collections import defaultdict

from xds_agent.datapath.program import Generation


def pinned_slots(generation: Generation, *, idle_s: int = 900) -> dict[int, set[int]]:
    """Slots by number of their ring, each with a flow seen within `idle_s` seconds. Raises OSError.

    A slot that is in none of these may be finalised; a real that no slot's flow holds may be deleted.
    """
    pinned: dict[int, set[int]] = defaultdict(set)
    now_s = int(time.clock_gettime(time.CLOCK_MONOTONIC))
    for _, flow in _flows(generation):
        if now_s - flow["seen_s"] <= idle_s:
            pinned[flow["ring"]].add(flow["slot"])
    return dict(pinned)


def pinned_reals(generation: Generation, *, idle_s: int = 900) -> set[int]:
    """Numbers of reals that live flows of moved slots go to. Raises OSError."""
    now_s = int(time.clock_gettime(time.CLOCK_MONOTONIC))
    return {flow["real"] for _, flow in _flows(generation) if now_s - flow["seen_s"] <= idle_s}


def _flows(generation: Generation) -> list[tuple[bytes, dict[str, int]]]:
    tables = [generation.maps[name] for name in ("flows", "flows_new")]
    return [(key, table.value.unpack(value)) for table in tables for key, value in table.entries()]
