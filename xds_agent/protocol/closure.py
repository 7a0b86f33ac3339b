"""Closure: whether a set refers to nothing that is missing, and holds nothing that no one refers to.

Envoy serves 503 for what is missing, and never acknowledges what it has no reason to ask for (trap 5), so
neither may reach it. Kept up incrementally; reading every reference is put off until first asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from google.protobuf.message import DecodeError

from xds_agent.snapshot.references import Reference, references
from xds_agent.snapshot.resource import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    ROUTES,
    SECRET,
    SHORT,
    Resource,
)

# Types whose resources Envoy asks for by name, because another names them.
_NAMED = (SECRET, ENDPOINTS, ROUTES, EXTENSION)
_REFERRING = (CLUSTER, LISTENER, EXTENSION)
_SHOWN = 5


class Closure:
    """Counts who refers to what among clusters, listeners and extensions."""

    def __init__(self) -> None:
        self._counts: Counter[Reference] | None = None
        self._of: dict[Reference, frozenset[Reference]] = {}
        self._pending: dict[Reference, Resource | None] = {}
        # References and names to be judged again.
        self._touched: set[Reference] = set()
        self._missing: set[Reference] = set()
        self._unused: set[Reference] = set()

    def add(self, resource: Resource) -> None:
        """A resource joined the set, or replaced the one of its name."""
        self._note(resource, resource)

    def remove(self, resource: Resource) -> None:
        """A resource left the set."""
        self._note(resource, None)

    def _note(self, resource: Resource, now: Resource | None) -> None:
        key = (resource.type_url, resource.name)
        if resource.type_url in _REFERRING:
            self._pending[key] = now
        if resource.type_url in _NAMED:
            self._touched.add(key)

    def problem(self, staged: Mapping[str, Mapping[str, Resource]]) -> str:
        """What does not close, in words; empty when everything does."""
        try:
            counts = self._settle(staged)
        except DecodeError as error:
            return f"a cluster or listener cannot be read: {error}"
        for reference in self._touched:
            held, referred = reference[1] in staged.get(reference[0], {}), reference in counts
            _put(self._missing, reference, referred and not held)
            _put(self._unused, reference, held and not referred)
        self._touched.clear()
        parts = []
        if self._missing:
            parts.append("missing, though referred to: " + _listed(self._missing))
        if self._unused:
            parts.append("referred to by nothing: " + _listed(self._unused))
        return "the revision does not close: " + "; ".join(parts) if parts else ""

    def _settle(self, staged: Mapping[str, Mapping[str, Resource]]) -> Counter[Reference]:
        if self._counts is None:
            self._counts = Counter()
            self._pending = {(t, name): resource for t in _REFERRING for name, resource in staged[t].items()}
            self._touched = {(t, name) for t in _NAMED for name in staged[t]}
        for key, resource in self._pending.items():
            after = references(resource) if resource is not None else frozenset()
            before = self._of.pop(key, frozenset())
            self._touched |= before ^ after
            for reference in before - after:
                self._counts[reference] -= 1
                if not self._counts[reference]:
                    del self._counts[reference]
            for reference in after - before:
                self._counts[reference] += 1
            if after:
                self._of[key] = after
        self._pending = {}
        return self._counts


def _put(found: set[Reference], reference: Reference, belongs: bool) -> None:
    if belongs:
        found.add(reference)
    else:
        found.discard(reference)


def _listed(found: Iterable[Reference]) -> str:
    ordered = sorted(f"{SHORT[t]} {name}" for t, name in found)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more
