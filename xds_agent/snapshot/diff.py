"""Diff: which resources of each type a step from one set to another adds, changes and removes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from xds_agent.snapshot.resource import TYPES, Resource, Snapshot


@dataclass(frozen=True, slots=True)
class Change:
    """Names of one type, each tuple sorted."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def updated(self) -> tuple[str, ...]:
        """What has to be sent: added and changed."""
        return self.added + self.changed


NO_CHANGE = Change()


@dataclass(frozen=True, slots=True)
class Diff:
    """Change per type; types that do not differ are absent."""

    changes: Mapping[str, Change]

    @classmethod
    def between(cls, old: Snapshot, new: Snapshot, only: Mapping[str, Iterable[str]] | None = None) -> Diff:
        """Compare by version. `only` names all that can differ, where the caller knows it."""
        return cls.of_resources(old.resources, new.resources, only)

    @classmethod
    def of_resources(
        cls,
        old: Mapping[str, Mapping[str, Resource]],
        new: Mapping[str, Mapping[str, Resource]],
        only: Mapping[str, Iterable[str]] | None = None,
    ) -> Diff:
        changes: dict[str, Change] = {}
        for type_url in TYPES:
            before, after = old.get(type_url, {}), new.get(type_url, {})
            if before is after:
                continue
            names = None if only is None else only.get(type_url, ())
            if change := compare(before, after, names):
                changes[type_url] = change
        return cls(changes)

    def of(self, type_url: str) -> Change:
        return self.changes.get(type_url, NO_CHANGE)

    def names(self) -> dict[str, frozenset[str]]:
        """Every name that differs, per type."""
        return {t: frozenset(c.updated + c.removed) for t, c in self.changes.items()}

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __iter__(self) -> Iterator[tuple[str, Change]]:
        return iter(self.changes.items())


def compare(
    before: Mapping[str, Resource], after: Mapping[str, Resource], only: Iterable[str] | None = None
) -> Change:
    """Change from `before` to `after`, both of one type."""
    added, changed, removed = [], [], []
    for name in before.keys() | after.keys() if only is None else set(only):
        old, new = before.get(name), after.get(name)
        if old is new:
            continue
        if new is None:
            removed.append(name)
        elif old is None:
            added.append(name)
        elif old.version != new.version:
            changed.append(name)
    return Change(tuple(sorted(added)), tuple(sorted(changed)), tuple(sorted(removed)))
