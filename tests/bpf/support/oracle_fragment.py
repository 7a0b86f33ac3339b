"""Fragments of what NAT translates once more, in Python: whom the later ones follow. Nothing is over here."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.bpf.support.oracle_nat import Flow
from tests.bpf.support.oracle_parse import Seen, Stop

_Key = tuple[str, str, int, int]


@dataclass
class First:
    """A first fragment that was seen; `flow` None: the kernel's."""

    flow: Flow | None
    answer: bool = False
    confirmed: bool = False


@dataclass
class Fragments:
    """By addresses, identification and (IPv4) protocol."""

    firsts: dict[_Key, First] = field(default_factory=dict)

    def keep(self, seen: Seen, flow: Flow | None, *, answer: bool = False) -> None:
        """Raises Stop where it would take the place of a confirmed flow's."""
        fresh = First(flow, answer, confirmed=flow is not None and flow.stage == "open")
        held = self.firsts.get(_key(seen))
        if held and held.confirmed and not fresh.confirmed and held.flow is not flow:
            raise Stop("drop_fragments_full")
        self.firsts[_key(seen)] = fresh

    def follow(self, seen: Seen) -> First | None:
        first = self.firsts.get(_key(seen))
        if first is None:
            return None
        seen.followed = True
        if first.flow is not None:
            seen.protocol = first.flow.tuple[4]
            if not first.answer:
                seen.sport, seen.dport = first.flow.tuple[1], first.flow.tuple[3]
        return first


def _key(seen: Seen) -> _Key:
    return seen.source, seen.destination, seen.id, seen.protocol if seen.version == 4 else 0
