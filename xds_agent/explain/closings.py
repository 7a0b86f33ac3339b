"""Which connections a change closes, read from what Envoy would get before and after.

Tried with Envoy: a listener whose filter chains alone change keeps the connections of every chain that stays
as is; adding a chain, or changing filter_chain_matcher, closes nothing; any other field of a listener closes
all of its connections (at the end of the drain time), and so does taking it away. Clusters, endpoints, routes
and secrets close none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envoy.config.listener.v3 import listener_pb2

from xds_agent.snapshot.resource import LISTENER, Resource, Snapshot

_CHAIN_FIELDS = ("filter_chains", "default_filter_chain", "filter_chain_matcher")
_UDP = 1


@dataclass(frozen=True, slots=True)
class Closing:
    """Connections of one listener on one proxy that end (after the drain time)."""

    proxy: str
    listener: str
    reason: str


def closings(old: Mapping[str, Snapshot], new: Mapping[str, Snapshot]) -> tuple[Closing, ...]:
    """Every closing on proxies that were there before, sorted by proxy. Hosts of one view are judged once."""
    judged: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
    found: list[Closing] = []
    for name in sorted(new):
        before, after = old.get(name), new[name]
        if before is None or before.revision == after.revision:
            continue
        key = (before.revision, after.revision)
        if key not in judged:
            judged[key] = tuple(_of_snapshot(before, after))
        found += [Closing(name, listener, reason) for listener, reason in judged[key]]
    return tuple(found)


def _of_snapshot(old: Snapshot, new: Snapshot) -> Iterator[tuple[str, str]]:
    before, after = old.of_type(LISTENER), new.of_type(LISTENER)
    for name in sorted(before):
        if name not in after:
            yield name, "the listener goes"
        elif before[name].version != after[name].version:
            yield from ((name, reason) for reason in _of_listener(before[name], after[name]))


def _of_listener(old: Resource, new: Resource) -> Iterator[str]:
    before, after = _listener(old), _listener(new)
    chains = (_chains(before), _chains(after))
    default_only = not after.filter_chains
    for listener in (before, after):
        for field in _CHAIN_FIELDS:
            listener.ClearField(field)
    if before.SerializeToString(deterministic=True) != after.SerializeToString(deterministic=True):
        yield "settings of the listener itself change"
        return
    if before.address.socket_address.protocol == _UDP:
        yield "a UDP listener starts anew whenever it changes"
        return
    if default_only:
        yield "a listener with a default chain only starts anew whenever it changes"
        return
    gone = [name for name in chains[0] if name not in chains[1]]
    changed = [name for name in chains[0] if name in chains[1] and chains[0][name] != chains[1][name]]
    if gone:
        yield f"{_chain_words(gone)} {'goes' if len(gone) == 1 else 'go'}"
    if changed:
        yield f"{_chain_words(changed)} {'changes' if len(changed) == 1 else 'change'}"


def _chain_words(names: list[str]) -> str:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"filter chain {shown}" if len(names) == 1 else f"filter chains {shown}"


def _chains(listener: Any) -> dict[str, bytes]:
    """Bytes of each chain by name; those without one by content."""
    found: dict[str, bytes] = {}
    for chain in listener.filter_chains:
        content = chain.SerializeToString(deterministic=True)
        label = chain.name or f"(unnamed, {hashlib.blake2b(content, digest_size=3).hexdigest()})"
        found[label] = content
    if listener.HasField("default_filter_chain"):
        found["default"] = listener.default_filter_chain.SerializeToString(deterministic=True)
    return found


def _listener(resource: Resource) -> Any:
    return listener_pb2.Listener.FromString(resource.body.value)
