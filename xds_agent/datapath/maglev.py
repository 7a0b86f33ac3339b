"""Maglev rings of two generations.

`populate` is Maglev's table (Eisenbud et al., NSDI 2016) with weights. A ring step writes current and
previous real of each slot; a slot once moved keeps its `moved` mark until `finalise`, which only may happen
when no flow is pinned in it: else a flow that went to B while A was down would find A again, because "A
before, A now" looks as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import heapq
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SLOTS = 65537
_MOVED = 1 << 63


def populate(reals: Mapping[int, tuple[str, int]], *, slots: int = SLOTS) -> list[int]:
    """Number of the real of each slot; zeros where there is none.

    `reals`: number (> 0) -> (name, weight > 0). The name alone decides a real's preferences, so that a change
    of others moves few of its slots. A real of weight w takes w turns where the heaviest takes its own.
    """
    table = [0] * slots
    if not reals:
        return table
    heaviest = max(weight for _, weight in reals.values())
    # When each is next to choose, in rounds: its k-th turn is in round ceil(k * heaviest / weight). A heap,
    # since most rounds are the heaviest's alone where weights differ by far.
    turns = []
    for place, (number, (name, weight)) in enumerate(sorted(reals.items(), key=lambda entry: entry[1][0])):
        digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
        offset, skip = struct.unpack("<QQ", digest)
        chooser = _Chooser(number, weight, offset % slots, skip % (slots - 1) + 1)
        turns.append((-(-heaviest // weight), place, chooser))
    heapq.heapify(turns)
    for _ in range(slots):
        _, place, chooser = turns[0]
        at = chooser.at
        while table[at]:
            at = (at + chooser.skip) % slots
        table[at] = chooser.number
        chooser.at = (at + chooser.skip) % slots
        chooser.turn += 1
        heapq.heapreplace(turns, (-(-chooser.turn * heaviest // chooser.weight), place, chooser))
    return table


@dataclass(slots=True)
class _Chooser:
    """A real that fills slots in an order of its own; `turn`: which of its turns is next, from 1."""

    number: int
    weight: int
    at: int
    skip: int
    turn: int = 1


class Ring:
    """One service's ring: what each slot holds now and held before."""

    def __init__(self, current: Sequence[int]) -> None:
        self.current, self.previous = list(current), list(current)
        self.moved = bytearray(len(self.current))

    def step(self, target: Sequence[int]) -> int:
        """Go to another table; returns how many slots changed now. What moved earlier stays moved."""
        changed = 0
        for slot, real in enumerate(target):
            if real != self.current[slot]:
                # Of a slot on the move it stays: whoever came since its first step is in the flow table, so
                # an unknown flow is of the real before, wherever the slot has been meanwhile.
                if not self.moved[slot]:
                    self.previous[slot] = self.current[slot]
                self.current[slot] = real
                self.moved[slot] = 1
                changed += 1
        return changed

    def finalise(self, slots: Sequence[int] | None = None) -> None:
        """Forget where these slots (all) were: no flow is pinned in them any more."""
        for slot in range(len(self.current)) if slots is None else slots:
            self.previous[slot], self.moved[slot] = self.current[slot], 0

    def moved_slots(self) -> set[int]:
        """Slots that still ask the flow table."""
        return {slot for slot, moved in enumerate(self.moved) if moved}

    @classmethod
    def of_words(cls, words: bytes) -> Ring:
        """The ring that a program has, as `words` gave it."""
        slots = array("Q", words)
        ring = cls([slot & 0xFFFFFFFF for slot in slots])
        ring.previous = [slot >> 32 & 0x7FFFFFFF for slot in slots]
        ring.moved = bytearray(slot >> 63 for slot in slots)
        return ring

    def words(self) -> bytes:
        """The slots as the program reads them: one u64 each, so that one read sees both reals and mark."""
        packed = array(
            "Q",
            (
                current | previous << 32 | (_MOVED if moved else 0)
                for current, previous, moved in zip(self.current, self.previous, self.moved, strict=True)
            ),
        )
        return packed.tobytes()
