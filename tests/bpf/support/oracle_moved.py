"""Moved slots once more, in Python: what the flow table says and learns. Nothing is evicted, nothing idle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from xds_agent.datapath.maglev import Ring

Key = tuple[str, int, str, int, int]
"""Source, its port, destination, its port, protocol; ports 0 for what is hashed by addresses."""


@dataclass
class Moved:
    """The flow table; `down`: numbers of reals that take no packets."""

    flows: dict[Key, int] = field(default_factory=dict)
    down: set[int] = field(default_factory=set)

    def real_of(self, key: Key, ring: Ring, at: int, *, opens: bool, related: bool) -> Iterator[int | str]:
        """Notes that are counted, at last the real (0: none)."""
        current, previous = ring.current[at], ring.previous[at]
        if opens:
            if current:
                self.flows[key] = current
                yield "note_flow_new"
            yield current
            return
        if (known := self.flows.get(key)) is not None:
            if known not in self.down:
                yield "note_flow_pinned"
                yield known
                return
            if current:
                self.flows[key] = current
                yield "note_flow_remapped"
            yield current
            return
        chosen = previous if previous and previous not in self.down else current
        if chosen and not related:
            self.flows[key] = chosen
            yield "note_flow_new"
        yield chosen

    def nat_candidate(self, key: Key, ring: Ring, at: int, *, opens: bool, udp: bool) -> tuple[int, bool]:
        """Whom NAT is asked about first, and whether the flow table said so."""
        known = self.flows.get(key)
        number = ring.previous[at] if known is None else known
        if opens or not number or (udp and number in self.down):
            return ring.current[at], False
        return number, known is not None
