"""Maglev rings of two generations.

`populate` is Maglev's table (Eisenbud et al., NSDI 2016) with weights. A ring step writes current and
previous real of each slot; a slot once moved keeps its `moved` mark until `finalise`, which only may happen
when no flow is pinned in it: else a flow that went to B while A was down would find A again, because "A
before, A now" looks as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Mapping, Sequence

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
    turns = []
    for number, (name, weight) in sorted(reals.items(), key=lambda entry: entry[1][0]):
        digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
        offset, skip = struct.unpack("<QQ", digest)
        turns.append([number, offset % slots, skip % (slots - 1) + 1, weight, 0])
    filled = 0
    while True:
        for turn in turns:
            turn[4] += turn[3]
            if turn[4] < heaviest:
                continue
            turn[4] -= heaviest
            at = turn[1]
            while table[at]:
                at = (at + turn[2]) % slots
            table[at] = turn[0]
            turn[1] = (at + turn[2]) % slots
            filled += 1
            if filled == slots:
                return table


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
