"""The rings of a host: in the kernel and on file, of which this process keeps a few words each.

A ring is half a mebibyte. It is read back from its file when it moves; rings that are alike lie in one file
and in one table of the kernel.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from xds_agent.datapath.maglev import Ring
from xds_agent.datapath.ring_tables import RingTables
from xds_agent.node.datapath.rings import RingFiles

RingKey = tuple[str, int]
"""Service and IP version; 0 where one ring serves both, with OF_DSR added where reals keep packets' ports."""
OF_DSR = 10
Step = Callable[[Ring, "array[int]"], Ring]
"""The ring after a step to a table; the one given may be changed."""
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

    def __init__(self, files: RingFiles, tables: RingTables, step: Step) -> None:
        self._files, self._tables, self._step = files, tables, step
        self.placed: dict[RingKey, Placed] = {}
        # What each ring that this process has put in place was made of.
        self._made_of: dict[RingKey, object] = {}
        self._waiting: list[RingKey] = []
        # On file, and perhaps not in the kernel: what could not be put there.
        self._doubted: set[RingKey] = set()
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

    def bring(
        self, key: RingKey, number: int, table: array[int], reals: frozenset[int], recipe: object
    ) -> None:
        """To a table of these reals: a new ring, or a step of what is there; live after `flush`.

        Raises OSError.
        """
        self._made_of.pop(key, None)
        ring = self.get(key)
        if ring is None:
            fresh = self._fresh_of(table, reals)
            self._put(key, replace(fresh.placed, number=number), fresh.ring)
        else:
            held = self.placed[key].reals
            ring = self._step(ring, table)
            self._put(key, _placed(number, ring, time.monotonic(), reals, held), ring)
        self._made_of[key] = recipe

    def _fresh_of(self, table: array[int], reals: frozenset[int]) -> _Fresh:
        """Services with the same reals begin one after the other with the same ring."""
        if self._fresh is None or self._fresh.table is not table:
            placed = Placed(0, moved=0, served=bool(reals), reals=reals, moved_s=0.0)
            self._fresh = _Fresh(table, Ring(table), placed)
        return self._fresh

    def finalise(self, key: RingKey, slots: Collection[int]) -> None:
        """Forget where these were; live after `flush`. Raises OSError."""
        one, ring = self.placed[key], self[key]
        ring.finalise(slots)
        self._put(key, _placed(one.number, ring, one.moved_s), ring)

    def flush(self) -> None:
        """All that waits goes live, at once, and what could not before. Raises OSError: bring it all again
        then; a number that a slot held must not be given away before this came to its end."""
        try:
            for key in self._doubted & self.placed.keys():
                if (ring := self.get(key)) is not None:
                    self._tables.put(self.placed[key].number, ring)
            self._tables.flush()
        except OSError:
            self._doubt()
            raise
        self._waiting, self._fresh = [], None
        self._doubted.clear()

    def drop(self, key: RingKey, number: int) -> None:
        """No service may name it any more. Raises OSError."""
        self.placed.pop(key, None)
        self._made_of.pop(key, None)
        self._tables.delete(number)
        self._files.forget(number)

    def close(self) -> None:
        self._tables.close()

    def _put(self, key: RingKey, placed: Placed, ring: Ring) -> None:
        self._waiting.append(key)
        try:
            self._files.write(placed.number, ring)
            self.placed[key] = placed
            self._tables.put(placed.number, ring)
        except OSError:
            self._doubt()
            raise

    def _doubt(self) -> None:
        """Until they are in place nobody knows which they are."""
        for key in self._waiting:
            self._made_of.pop(key, None)
        self._doubted.update(self._waiting)
        self._waiting = []


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A ring that has never moved, and the very table it was made of."""

    table: array[int]
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


def _placed(
    number: int, ring: Ring, moved_s: float,
    current: frozenset[int] | None = None, held: frozenset[int] | None = None,
) -> Placed:  # fmt: skip
    """`current`: the reals that its slots hold now, `held`: those that they held before, where all of them
    are known."""
    if current is None:
        current = frozenset(ring.current) - {0}
    return Placed(number, ring.moving(), bool(current), ring.reals(current, held) - {0}, moved_s)
