"""Which ring slots have live flows elsewhere: what a step of a ring waits for before it is finalised.

A flow that goes where its slot goes now needs no mark. What `nat` translates is known from its own table,
seen since the step or not; of other flows only those that sent a packet since: give the silent ones their
time (`flow_idle_s`, or as long as connections may be silent) between a step and the question.
"""

from __future__ import annotations

import struct
import time
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from xds_agent.datapath.maglev import Ring
from xds_agent.datapath.maps import mapped
from xds_agent.datapath.program import NAT_WAYS, Generation
from xds_agent.datapath.services import Tables

IDLE_S = 900  # a connection that was silent for so long is over
_PENDING_S = 10  # a translated flow that nobody confirmed for so long is no flow


@dataclass(frozen=True, slots=True)
class _Flow:
    ring: int
    slot: int
    real: int


def pinned_slots(
    generation: Generation, *, idle_s: int = IDLE_S, rings: Mapping[int, Ring] | None = None
) -> dict[int, set[int]]:
    """Slots by number of their ring, each with a flow that goes to another real than the slot does now.

    Flows not seen for `idle_s` seconds do not count. All other slots may be finalised. `rings`: those in
    question, as they are in place; None reads them from the kernel, which needs CAP_SYS_ADMIN.
    Raises OSError.
    """
    found: dict[int, set[tuple[int, int]]] = defaultdict(set)
    for flow in _live(generation, idle_s):
        if rings is None or flow.ring in rings:
            found[flow.ring].add((flow.slot, flow.real))
    tables, pinned = Tables(generation), {}
    # One ring at a time: they may be many, and large.
    for number, flows in found.items():
        ring = tables.ring(number) if rings is None else rings[number]
        current = ring.current if ring is not None else ()
        slots = {slot for slot, real in flows if slot < len(current) and current[slot] != real}
        if slots:
            pinned[number] = slots
    return pinned


def pinned_reals(generation: Generation, *, idle_s: int = IDLE_S) -> set[int]:
    """Numbers of reals that live flows go to, as far as a table knows of them. Raises OSError."""
    return {flow.real for flow in _live(generation, idle_s)}


def open_flows(generation: Generation) -> dict[int, int]:
    """How many connections of each service (by number) `nat` has open: confirmed, not closed, not idle for
    longer than they may be. Walks the table, half a second for a million. Raises OSError."""
    states, count = generation.enum("nat_state"), generation.sizes.nat_flows
    settings, table = generation.maps["settings"].get(0), generation.maps["nat_flows"]
    assert settings is not None
    stage_of, udp, reset = states["NAT_STAGE"], states["NAT_UDP"], states["NAT_RESET"]
    ends, opened = states["NAT_FIN_CLIENT"] | states["NAT_FIN_REAL"], states["NAT_OPEN"]
    patience_s = {0: settings["nat_tcp_s"], udp: settings["nat_udp_s"]}
    service_at, found = struct.Struct("=I"), defaultdict[int, int](int)
    offset, size = table.value.offset("id"), table.value.size
    tags, now_s = _tags(generation)
    with mapped(table, count * size) as memory:
        for slot, tag in enumerate(tags):
            if tag & stage_of != opened or tag & reset or tag & ends == ends:
                continue
            if (now_s - (tag >> 8 & 0xFFFFFF) & 0xFFFFFF) <= patience_s[tag & udp]:
                found[service_at.unpack_from(memory, slot * size + offset)[0]] += 1
    return dict(found)


def _live(generation: Generation, idle_s: int) -> Iterator[_Flow]:
    now_s = _now_s()
    for table in (generation.maps[name] for name in ("flows", "flows_new")):
        for _, value in table.entries():
            flow = table.value.unpack(value)
            if now_s - flow["seen_s"] <= idle_s:
                yield _Flow(flow["ring"], flow["slot"], flow["real"])
    yield from _translated(generation, idle_s)


def _now_s() -> int:
    return int(time.clock_gettime(time.CLOCK_MONOTONIC))


def _tags(generation: Generation) -> tuple[array[int], int]:
    """Of NAT's flows, and the second they are of. The clock is read after them: by 24 bits, one of a later
    second would be half a year old."""
    with mapped(generation.maps["nat_sets"], generation.sizes.nat_flows * 8) as memory:
        tags = array("Q", bytes(memory))
    return tags, _now_s()


def _translated(generation: Generation, idle_s: int) -> Iterator[_Flow]:
    states, count = generation.enum("nat_state"), generation.sizes.nat_flows
    ends = states["NAT_FIN_CLIENT"] | states["NAT_FIN_REAL"]
    flows, size = generation.maps["nat_flows"], generation.maps["nat_flows"].value.size
    tags, now_s = _tags(generation)
    assert len(tags) % NAT_WAYS == 0
    with mapped(flows, count * size) as memory:
        for slot, tag in enumerate(tags):
            stage, age_s = tag & states["NAT_STAGE"], now_s - (tag >> 8 & 0xFFFFFF) & 0xFFFFFF
            if stage < states["NAT_NEW"] or tag & states["NAT_RESET"] or tag & ends == ends:
                continue
            if age_s <= (idle_s if stage == states["NAT_OPEN"] else min(idle_s, _PENDING_S)):
                flow = flows.value.unpack(memory[slot * size : (slot + 1) * size])
                yield _Flow(flow["ring"], flow["slot"], flow["real"])
