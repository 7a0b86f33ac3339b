"""Fanout: encodes each step from one set to another once, however many streams take it.

Streams of one view hold the very same mapping objects, so a step is known by the identity of both sides; what
a reconnecting node says it holds is interned first, so that a thousand of them share one mapping too.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from xds_agent.protocol.revision import Part, revision_resource
from xds_agent.protocol.wire import delta_ack, delta_response
from xds_agent.snapshot.resource import REVISION, TYPES, Resource, Snapshot

# What a stream holds of one type: our own mapping once we sent it, names to versions before.
Held = Mapping[str, Resource] | Mapping[str, str]
NOTHING: Held = {}

# More than this goes as responses of its own, which the agent takes one by one.
INLINE_MOST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Step:
    """Frames that take a stream to a whole snapshot, the last one the Revision with this nonce; `ack` is what
    an agent answers it with, byte for byte. `moves` is whether anything differs."""

    frames: tuple[bytes, ...] = field(repr=False)
    nonce: str
    ack: bytes = field(repr=False)
    moves: bool


class Fanout:
    """Caches live until `forget`: a nonce then belongs to one step of one publish."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        # Both sides are kept in the value, so that an identity is not given to another object meanwhile.
        self._whole: dict[tuple[int, int, bool], tuple[Mapping[str, Held], Snapshot, Step]] = {}
        self._parts: dict[tuple[str, int, int], tuple[Held, Held, Part, bytes]] = {}
        self._steps: dict[tuple[int, bool, tuple[int, ...]], Step] = {}
        self._interned: dict[tuple[str, frozenset[tuple[str, str]]], Held] = {}

    def nonce(self) -> str:
        """A number of the whole server; never given twice."""
        return str(next(self._numbers))

    def forget(self) -> None:
        for cache in (self._whole, self._parts, self._steps, self._interned):
            cache.clear()

    def step(self, held: Mapping[str, Held], wanted: Snapshot, *, inline: bool = False) -> Step:
        """From what a stream holds, per type, to all of `wanted`; `inline`: small parts in the Revision."""
        if not isinstance(held, MappingProxyType):
            # What one node says it holds, gathered type by type.
            return self._step(held, wanted, inline=inline)
        key = (id(held), id(wanted), inline)
        found = self._whole.get(key)
        if found is None:
            found = self._whole[key] = (held, wanted, self._step(held, wanted, inline=inline))
        return found[2]

    def intern(self, type_url: str, versions: Mapping[str, str], current: Mapping[str, Resource]) -> Held:
        """The one mapping for this content; `current` itself where it says the same."""
        if len(versions) == len(current) and all(
            name in versions and versions[name] == resource.version for name, resource in current.items()
        ):
            return current
        return self._interned.setdefault((type_url, frozenset(versions.items())), dict(versions))

    def _step(self, held: Mapping[str, Held], wanted: Snapshot, *, inline: bool) -> Step:
        pairs = [(t, held.get(t, NOTHING), wanted.of_type(t)) for t in TYPES]
        key = (id(wanted), inline, tuple(0 if old is new else id(old) for _, old, new in pairs))
        step = self._steps.get(key)
        if step is None:
            found = [self._part(*pair) for pair in pairs if pair[1] is not pair[2]]
            step = self._steps[key] = self._encode([one for one in found if one[1]], wanted, inline=inline)
        return step

    def _encode(self, found: list[tuple[Part, bytes]], wanted: Snapshot, *, inline: bool) -> Step:
        parts = [part for part, _ in found]
        within = inline and sum(part.size_bytes for part in parts) <= INLINE_MOST_BYTES
        nonce = self.nonce()
        revision = delta_response(REVISION, nonce, [revision_resource(wanted, parts if within else ()).raw])
        before = () if within else tuple(frame for _, frame in found)
        return Step((*before, revision), nonce, delta_ack(REVISION, nonce), bool(parts))

    def _part(self, type_url: str, held: Held, wanted: Mapping[str, Resource]) -> tuple[Part, bytes]:
        """What differs, and the response that brings it; empty where nothing does."""
        key = (type_url, id(held), id(wanted))
        found = self._parts.get(key)
        if found is None:
            part = _difference(type_url, held, wanted)
            frame = b""
            if part.raws or part.removed:
                frame = delta_response(type_url, self.nonce(), part.raws, part.removed)
            found = self._parts[key] = (held, wanted, part, frame)
        return found[2], found[3]


def _difference(type_url: str, held: Held, wanted: Mapping[str, Resource]) -> Part:
    changed = []
    for name, resource in wanted.items():
        before = held.get(name)
        if before is resource:
            continue
        version = before.version if isinstance(before, Resource) else before
        if version != resource.version:
            changed.append(resource)
    raws = tuple(resource.raw for resource in sorted(changed, key=lambda resource: resource.name))
    return Part(type_url, raws, tuple(sorted(held.keys() - wanted.keys())))
