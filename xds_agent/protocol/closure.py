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

    def add(self, resource: Resource) -> None:
        """A resource joined the set, or replaced the one of its name."""
        if resource.type_url in _REFERRING:
            self._pending[resource.type_url, resource.name] = resource

    def remove(self, resource: Resource) -> None:
        """A resource left the set."""
        if resource.type_url in _REFERRING:
            self._pending[resource.type_url, resource.name] = None

    def problem(self, staged: Mapping[str, Mapping[str, Resource]]) -> str:
        """What does not close, in words; empty when everything does."""
        try:
            counts = self._settle(staged)
        except DecodeError as error:
            return f"a cluster or listener cannot be read: {error}"
        missing = [r for r in counts if r[1] not in staged.get(r[0], {})]
        unused = [(t, n) for t in _NAMED for n in staged.get(t, {}) if (t, n) not in counts]
        parts = []
        if missing:
            parts.append("missing, though referred to: " + _listed(missing))
        if unused:
            parts.append("referred to by nothing: " + _listed(unused))
        return "the revision does not close: " + "; ".join(parts) if parts else ""

    def _settle(self, staged: Mapping[str, Mapping[str, Resource]]) -> Counter[Reference]:
        if self._counts is None:
            self._counts = Counter()
            self._pending = {(t, name): resource for t in _REFERRING for name, resource in staged[t].items()}
        for key, resource in self._pending.items():
            after = references(resource) if resource is not None else frozenset()
            before = self._of.pop(key, frozenset())
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


def _listed(found: Iterable[Reference]) -> str:
    ordered = sorted(f"{SHORT[t]} {name}" for t, name in found)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more
