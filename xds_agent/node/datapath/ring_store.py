"""The rings of a host: in the kernel and on file, of which this process keeps a few words each.

A ring is half a mebibyte. It is read back from its file when it moves; rings that are alike lie in one file
and in one table of the kernel.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from xds_agent.datapath.maglev import Ring
from xds_agent.datapath.ring_tables import RingTables
from xds_agent.node.datapath.rings import RingFiles

RingKey = tuple[str, int]
"""Service and IP version; 0 where one ring serves both, with OF_DSR added where reals keep packets' ports."""
OF_DSR = 10
VERSIONS = (0, 4, 6, 4 + OF_DSR, 6 + OF_DSR)


@dataclass(frozen=True, slots=True)
class Placed:
    """What is known of a ring without reading it."""

    number: int
    moved: int
    """Slots that still ask the flow table."""
    served: bool
    reals: frozenset[int]
    """Numbers that its slots hold or held."""
    moved_s: float
    """When it last moved, by the clock of `time.monotonic`; of one that was taken over, when that was."""


class RingStore(Mapping[RingKey, Ring]):
    """Read as a mapping, each ring from its file. For one thread at a time; others may read `placed`."""

    def __init__(self, files: RingFiles, tables: RingTables) -> None:
        self._files, self._tables = files, tables
        self.placed: dict[RingKey, Placed] = {}
        # What each ring that this process has put in place was made of.
        self._made_of: dict[RingKey, object] = {}
        self._waiting: list[RingKey] = []
        self._fresh: _Fresh | None = None

    def __getitem__(self, key: RingKey) -> Ring:
        ring = self._files.read(self.placed[key].number)
        if ring is None:
            raise KeyError(key)
        return ring

    def __iter__(self) -> Iterator[RingKey]:
        return iter(tuple(self.placed))

    def __len__(self) -> int:
        return len(self.placed)

    def of_service(self, name: str) -> list[Placed]:
        return [one for version in VERSIONS if (one := self.placed.get((name, version))) is not None]

    def moving(self) -> list[RingKey]:
        """Rings with slots that still ask the flow table."""
        return [key for key, one in self.placed.items() if one.moved]

    def is_made_of(self, key: RingKey, recipe: object) -> bool:
        return key in self._made_of and self._made_of[key] == recipe

    def adopt(self, numbers: Mapping[RingKey, int]) -> None:
        """What a predecessor put in place, as far as files are whole."""
        known: dict[int, Placed] = {}
        for key, number in numbers.items():
            file = self._files.inode(number)
            if file not in known and (ring := self._files.read(number)) is not None:
                known[file] = _placed(number, ring, time.monotonic())
            if file in known:
                self._files.adopt(number, like=known[file].number)
                self.placed[key] = replace(known[file], number=number)

    def bring(self, key: RingKey, number: int, table: Sequence[int], recipe: object) -> None:
        """To a table: a new ring, or a step of what is there; live after `flush`. Raises OSError."""
        self._made_of.pop(key, None)
        ring = self.get(key)
        if ring is None:
            fresh = self._fresh_of(table)
            self._put(key, replace(fresh.placed, number=number), fresh.ring, None)
        else:
            slots = ring.step(table)
            self._put(key, _placed(number, ring, time.monotonic()), ring, slots)
        self._made_of[key] = recipe

    def _fresh_of(self, table: Sequence[int]) -> _Fresh:
        """Services with the same reals begin one after the other with the same ring."""
        if self._fresh is None or self._fresh.table is not table:
            ring = Ring(table)
            self._fresh = _Fresh(table, ring, _placed(0, ring, 0.0))
        return self._fresh

    def finalise(self, key: RingKey, slots: Collection[int]) -> None:
        """Forget where these were; live after `flush`. Raises OSError."""
        done, ring = sorted(slots), self[key]
        ring.finalise(done)
        one = self.placed[key]
        self._put(key, _placed(one.number, ring, one.moved_s), ring, done)

    def flush(self) -> None:
        """All that waits goes live, at once. Raises OSError: bring it all again then."""
        try:
            self._tables.flush()
        except OSError:
            self._doubt()
            raise
        self._waiting, self._fresh = [], None

    def drop(self, key: RingKey, number: int) -> None:
        """No service may name it any more. Raises OSError."""
        self.placed.pop(key, None)
        self._made_of.pop(key, None)
        self._tables.delete(number)
        self._files.forget(number)

    def close(self) -> None:
        self._tables.close()

    def _put(self, key: RingKey, placed: Placed, ring: Ring, slots: Sequence[int] | None) -> None:
        self._waiting.append(key)
        try:
            self._files.write(placed.number, ring)
            self.placed[key] = placed
            self._tables.put(placed.number, ring, slots)
        except OSError:
            self._doubt()
            raise

    def _doubt(self) -> None:
        """Until they are in place nobody knows which they are."""
        for key in self._waiting:
            self._made_of.pop(key, None)
        self._waiting = []


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A ring that has never moved, and the very table it was made of."""

    table: Sequence[int]
    ring: Ring
    placed: Placed


class ByNumber(Mapping[int, Ring]):
    """Some of the rings, by their numbers; each is read when it is asked for."""

    def __init__(self, rings: RingStore, keys: Mapping[int, RingKey]) -> None:
        self._rings, self._keys = rings, keys

    def __getitem__(self, number: int) -> Ring:
        return self._rings[self._keys[number]]

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _placed(number: int, ring: Ring, moved_s: float) -> Placed:
    reals = ring.reals()
    return Placed(number, ring.moved.count(1), any(ring.current), reals - {0}, moved_s)
