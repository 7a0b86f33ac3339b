"""Fanout: encodes each step from one set to another once, however many streams take it.

Streams of one view hold the very same mapping objects, so a step is known by the identity of both sides; what
a reconnecting node says it holds is interned first, so that a thousand of them share one mapping too.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from xds_agent.protocol.revision import revision_resource
from xds_agent.protocol.wire import delta_response
from xds_agent.snapshot.resource import REVISION, TYPES, Resource, Snapshot

# What a stream holds of one type: our own mapping once we sent it, names to versions before.
Held = Mapping[str, Resource] | Mapping[str, str]
NOTHING: Held = {}


@dataclass(frozen=True, slots=True)
class Step:
    """Frames that take a stream to a whole snapshot: `parts`, then `revision`, whose nonce is given."""

    parts: tuple[bytes, ...]
    revision: bytes = field(repr=False)
    revision_nonce: str


class Fanout:
    """Caches live until `forget`: a nonce then belongs to one step of one publish."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        # Both sides are kept in the value, so that an identity is not given to another object meanwhile.
        self._steps: dict[tuple[str, int, int], tuple[Held, Held, bytes]] = {}
        self._revisions: dict[int, tuple[Snapshot, str, bytes]] = {}
        self._interned: dict[tuple[str, frozenset[tuple[str, str]]], Held] = {}

    def nonce(self) -> str:
        """A number of the whole server; never given twice."""
        return str(next(self._numbers))

    def forget(self) -> None:
        self._steps.clear()
        self._revisions.clear()
        self._interned.clear()

    def step(self, held: Mapping[str, Held], wanted: Snapshot) -> Step:
        """From what a stream holds, per type, to all of `wanted`."""
        parts = [self._part(t, held.get(t, NOTHING), wanted.of_type(t)) for t in TYPES]
        nonce, revision = self._revision(wanted)
        return Step(tuple(part for part in parts if part), revision, nonce)

    def intern(self, type_url: str, versions: Mapping[str, str], current: Mapping[str, Resource]) -> Held:
        """The one mapping for this content; `current` itself where it says the same."""
        if len(versions) == len(current) and all(
            name in versions and versions[name] == resource.version for name, resource in current.items()
        ):
            return current
        return self._interned.setdefault((type_url, frozenset(versions.items())), dict(versions))

    def _part(self, type_url: str, held: Held, wanted: Mapping[str, Resource]) -> bytes:
        if held is wanted:
            return b""
        key = (type_url, id(held), id(wanted))
        found = self._steps.get(key)
        if found is None:
            found = self._steps[key] = (held, wanted, self._encode(type_url, held, wanted))
        return found[2]

    def _encode(self, type_url: str, held: Held, wanted: Mapping[str, Resource]) -> bytes:
        changed = []
        for name, resource in wanted.items():
            before = held.get(name)
            if before is resource:
                continue
            version = before.version if isinstance(before, Resource) else before
            if version != resource.version:
                changed.append(resource)
        gone = sorted(held.keys() - wanted.keys())
        if not changed and not gone:
            return b""
        raws = [resource.raw for resource in sorted(changed, key=lambda resource: resource.name)]
        return delta_response(type_url, self.nonce(), raws, gone)

    def _revision(self, wanted: Snapshot) -> tuple[str, bytes]:
        found = self._revisions.get(id(wanted))
        if found is None:
            nonce = self.nonce()
            frame = delta_response(REVISION, nonce, [revision_resource(wanted).raw])
            found = self._revisions[id(wanted)] = (wanted, nonce, frame)
        return found[1], found[2]
