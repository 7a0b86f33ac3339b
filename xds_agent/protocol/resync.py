"""Resync: what an Envoy that comes back with state has, and what it must be told before any plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xds_agent.protocol.converge import View
from xds_agent.protocol.envoy_stream import WILDCARD_TYPES, EnvoyStream
from xds_agent.snapshot.plan import Push
from xds_agent.snapshot.resource import ENDPOINTS, EXTENSION, SECRET, TYPES, Resource, Snapshot

# These end the warming of what Envoy already has; routes wait for their stage, behind their clusters.
_PRESSING = frozenset({ENDPOINTS, SECRET})


def known_view(holds: Mapping[str, Mapping[str, str]], held: Snapshot) -> View:
    """The set that an Envoy says it has. What differs from `held` is known by version only, without bytes."""
    view: View = {}
    for type_url in TYPES:
        ours = held.of_type(type_url)
        view[type_url] = {}
        for name, version in holds.get(type_url, {}).items():
            resource = ours.get(name)
            if resource is None or resource.version != version:
                resource = Resource(type_url, name, version, b"")
            view[type_url][name] = resource
    return view


def pressing_answers(stream: EnvoyStream, held: Snapshot) -> Iterator[Push]:
    """Answers to what Envoy asked for and never had: an Envoy in the middle of warming waits for them."""
    for type_url in TYPES:
        state = stream.types.get(type_url)
        if state is None:
            continue
        if type_url in WILDCARD_TYPES:
            continue
        ours = held.of_type(type_url)
        asked = sorted(name for name in state.subscription.names if name not in state.known)
        push = Push(
            type_url,
            tuple(name for name in asked if name in ours and type_url in _PRESSING),
            tuple(name for name in asked if name not in ours and type_url != EXTENSION),
        )
        if push:
            yield push
