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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress, count

SLOTS = 65537
Reals = Mapping[int, tuple[str, int]]
"""Number -> name and weight."""
Populate = Callable[[Reals], Sequence[int]]
"""A way to make the table of so many reals."""
# A slot is a u64: the current real in its lower half, in the upper one the previous and the mark.
_WORD_BYTES, _HALF_BYTES = 8, 4
_NOW, _BEFORE = (0, 1) if sys.byteorder == "little" else (1, 0)
_MOVED = 1 << 31
_HIGHEST_BYTE = _WORD_BYTES - 1 if sys.byteorder == "little" else 0
_MARKS = bytes(128) + b"\1" * 128
_LOOK_SLOTS = 1024


def populate(reals: Reals, *, slots: int = SLOTS) -> list[int]:
    """Number of the real of each slot; zeros where there is none.

    `reals`: number (> 0) -> (name, weight > 0). The name alone decides a real's preferences, so that a change
    of others moves few of its slots. A real of weight w takes w turns where the heaviest takes its own. What
    the table is, this says; `maglev_program` makes the same one faster.
    """
    table = [0] * slots
    if not reals:
        return table
    choosers = choosers_of(reals, slots)
    heaviest = max(one.weight for one in choosers)
    # When each is next to choose, in rounds: its k-th turn is in round ceil(k * heaviest / weight). A heap,
    # since most rounds are the heaviest's alone where weights differ by far.
    turns = [(-(-heaviest // one.weight), place, one) for place, one in enumerate(choosers)]
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
class Chooser:
    """A real that fills slots in an order of its own; `turn`: which of its turns is next, from 1."""

    number: int
    weight: int
    at: int
    skip: int
    turn: int = 1


def choosers_of(reals: Reals, slots: int) -> list[Chooser]:
    """In the order in which they choose where it is the turn of several."""
    found = []
    for number, (name, weight) in sorted(reals.items(), key=lambda entry: entry[1][0]):
        digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
        offset, skip = struct.unpack("<QQ", digest)
        found.append(Chooser(number, weight, offset % slots, skip % (slots - 1) + 1))
    return found


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

    def step(self, target: Sequence[int]) -> int:
        """Go to another table; returns how many slots changed now. What moved earlier stays moved. What the
        ring is then, this says; `maglev_program` makes the same one faster."""
        table = target if isinstance(target, array) else array("I", target)
        # All slots at once, as one number: 31 bits of a number's slot and a bit to carry into.
        size = len(table)
        differ = _number(self.current) ^ _number(table)
        changed = (differ + _lanes(_MOVED - 1, size)) & _lanes(_MOVED, size)
        self._halves[_NOW::2], self._digest = table, b""
        # Of a slot on the move the previous one stays: whoever came since its first step is in the flow
        # table, so an unknown flow is of the real before, wherever the slot has been meanwhile.
        before = _number(self._halves[_BEFORE::2]) | changed
        self._halves[_BEFORE::2] = array("I", before.to_bytes(size * _HALF_BYTES, sys.byteorder))
        return changed.bit_count()

    def finalise(self, slots: Iterable[int] | None = None) -> None:
        """Forget where these slots (all) were: no flow is pinned in them any more."""
        self._digest = b""
        for slot in range(len(self._halves) // 2) if slots is None else slots:
            self._halves[2 * slot + _BEFORE] = self._halves[2 * slot + _NOW]

    def moving(self) -> int:
        """How many slots still ask the flow table."""
        return int.from_bytes(self.moved, sys.byteorder).bit_count()

    def moved_slots(self) -> set[int]:
        """Slots that still ask the flow table."""
        return set(compress(count(), self.moved))

    def reals(
        self, current: frozenset[int] | None = None, among: frozenset[int] | None = None
    ) -> frozenset[int]:
        """Numbers that some slot holds or held; 0 stands for slots without one.

        Where the caller knows more, not every slot is looked at: `current` are those of the table it was
        brought to last, and `among` has all that slots held before, but for 0, which may be missing then.
        """
        found = set(self.current if current is None else current)
        for first in range(0, len(self._halves), 2 * _LOOK_SLOTS):
            if among is not None and found >= among:
                break
            before = set(self._halves[first + _BEFORE : first + 2 * _LOOK_SLOTS : 2])
            found |= {half & ~_MOVED for half in before if half & _MOVED}
        return frozenset(found)

    def digest(self) -> bytes:
        """The same for rings whose words are the same."""
        if not self._digest:
            # Half a mebibyte at each step: SHA-1 is the one that is fast on every processor.
            self._digest = hashlib.sha1(self._halves, usedforsecurity=False).digest()
        return self._digest

    @classmethod
    def of_words(cls, words: bytes, digest: bytes = b"") -> Ring:
        """The ring that a program has, as `words` gave it; `digest` where the caller knows it."""
        ring = cls(())
        ring._halves.frombytes(words)
        ring._digest = digest
        return ring

    def words(self) -> bytes:
        """The slots as the program reads them: one u64 each, so that one read sees both reals and mark."""
        return self._halves.tobytes()


def _number(slots: array[int]) -> int:
    return int.from_bytes(slots.tobytes(), sys.byteorder)


@lru_cache(maxsize=2)
def _lanes(value: int, size: int) -> int:
    """`value` in each of so many slots."""
    return _number(array("I", [value]) * size)
