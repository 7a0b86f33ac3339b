"""Numbers of services, reals and rings in the maps: kept while the thing lives, whoever restarts. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Set
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class MapFull(ValueError):
    """A map holds fewer than the revision needs; the words say which, how many, and the remedy."""


class Numbers(Generic[K]):
    """Hands out numbers from 1 on. A number that was given back is taken again only when no other is left:
    counters and flows of its last owner are the longer forgotten."""

    def __init__(self, what: str, capacity: int, remedy: str, known: Mapping[K, int] | None = None) -> None:
        """`known`: what a restarted agent found in the maps. `capacity`: rows of the map, row 0 included."""
        self._what, self._capacity, self._remedy = what, capacity, remedy
        self._of: dict[K, int] = dict(known or {})
        self._next = max(self._of.values(), default=0) + 1
        self._free: list[int] = sorted(set(range(1, self._next)) - set(self._of.values()))

    def __getitem__(self, key: K) -> int:
        return self._of[key]

    def get(self, key: K) -> int | None:
        return self._of.get(key)

    def items(self) -> Iterable[tuple[K, int]]:
        """As they are now: metrics are read while the writer's thread writes."""
        return tuple(self._of.items())

    @property
    def used(self) -> int:
        return len(self._of)

    def check(self, keys: Set[K]) -> None:
        """Raises MapFull when not all of `keys` fit."""
        wanted = len(keys)
        if wanted > self._capacity - 1:
            raise MapFull(
                f"{wanted} {self._what} are wanted, the maps hold {self._capacity - 1}; {self._remedy}"
            )

    def take(self, key: K) -> int:
        """The number of `key`, a new one if it has none. Raises MapFull."""
        if key in self._of:
            return self._of[key]
        if self._next < self._capacity:
            number, self._next = self._next, self._next + 1
        elif self._free:
            number = self._free.pop(0)
        else:
            raise MapFull(f"no number is left for {key}: the maps hold {self._capacity - 1} {self._what}")
        self._of[key] = number
        return number

    def give_back(self, key: K) -> int | None:
        """Forget `key`; returns the number it had."""
        number = self._of.pop(key, None)
        if number is not None:
            self._free.append(number)
        return number
