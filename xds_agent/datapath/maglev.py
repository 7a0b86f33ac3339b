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
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, count
from operator import ne

SLOTS = 65537
# A slot is a u64: the current real in its lower half, in the upper one the previous and the mark.
_WORD_BYTES = 8
_NOW, _BEFORE = (0, 1) if sys.byteorder == "little" else (1, 0)
_MOVED = 1 << 31
_HIGHEST_BYTE = _WORD_BYTES - 1 if sys.byteorder == "little" else 0
_MARKS = bytes(128) + b"\1" * 128


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
    """One service's ring: what each slot holds now and held before, as the program reads it.

    Half a mebibyte, so nobody keeps many. A slot that has not moved held before what it holds now.
    """

    __slots__ = ("_digest", "_halves")

    def __init__(self, current: Sequence[int]) -> None:
        table = current if isinstance(current, array) else array("I", current)
        self._halves = array("I", bytes(len(table) * _WORD_BYTES))
        self._halves[_NOW::2] = self._halves[_BEFORE::2] = table
        self._digest = b""

    @property
    def current(self) -> array[int]:
        """Number of the real of each slot, 0 for none."""
        return self._halves[_NOW::2]

    @property
    def previous(self) -> array[int]:
        """Of slots on the move, where they were; of others the current real."""
        return array("I", [half & ~_MOVED for half in self._halves[_BEFORE::2]])

    @property
    def moved(self) -> bytes:
        """Per slot, 1 where it still asks the flow table."""
        highest = self._halves.tobytes()[_HIGHEST_BYTE::_WORD_BYTES]
        return highest.translate(_MARKS)

    def step(self, target: Sequence[int]) -> list[int]:
        """Go to another table; returns the slots that changed now. What moved earlier stays moved."""
        table = target if isinstance(target, array) else array("I", target)
        changed = list(compress(range(len(table)), map(ne, self.current, table)))
        self._halves[_NOW::2], self._digest = table, b""
        # Of a slot on the move the previous one stays: whoever came since its first step is in the flow
        # table, so an unknown flow is of the real before, wherever the slot has been meanwhile.
        for slot in changed:
            self._halves[2 * slot + _BEFORE] |= _MOVED
        return changed

    def finalise(self, slots: Iterable[int] | None = None) -> None:
        """Forget where these slots (all) were: no flow is pinned in them any more."""
        self._digest = b""
        for slot in range(len(self._halves) // 2) if slots is None else slots:
            self._halves[2 * slot + _BEFORE] = self._halves[2 * slot + _NOW]

    def moved_slots(self) -> set[int]:
        """Slots that still ask the flow table."""
        return set(compress(count(), self.moved))

    def reals(self) -> frozenset[int]:
        """Numbers that some slot holds or held; 0 stands for slots without one."""
        if 1 not in self.moved:
            return frozenset(self.current)
        return frozenset(half & ~_MOVED for half in set(self._halves))

    def digest(self) -> bytes:
        """The same for rings whose words are the same."""
        if not self._digest:
            self._digest = hashlib.blake2b(self._halves, digest_size=16).digest()
        return self._digest

    @classmethod
    def of_words(cls, words: bytes) -> Ring:
        """The ring that a program has, as `words` gave it."""
        ring = cls(())
        ring._halves.frombytes(words)
        return ring

    def words(self) -> bytes:
        """The slots as the program reads them: one u64 each, so that one read sees both reals and mark."""
        return self._halves.tobytes()
