"""Resync: what an Envoy that comes back with state has, and what it must be told before any plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from xds_agent.protocol.converge import CLEAN_UP, View
from xds_agent.protocol.envoy_stream import WILDCARD_TYPES, EnvoyStream
from xds_agent.snapshot.diff import Diff
from xds_agent.snapshot.plan import Plan, Push, Stage, kept, touched_endpoints
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, ENVOY_TYPES, EXTENSION, SECRET, Resource, Snapshot

# These end the warming of what Envoy already has; routes wait for their stage, behind their clusters.
_PRESSING = frozenset({ENDPOINTS, SECRET})


def view_of(snapshot: Snapshot) -> View:
    """The set of an Envoy that holds exactly `snapshot`, to be changed as it moves on."""
    return {t: dict(snapshot.of_type(t)) for t in ENVOY_TYPES}


def resync(stream: EnvoyStream, held: Snapshot, unfinished: Iterable[str]) -> tuple[View, list[Stage], Stage]:
    """What the Envoy on this stream says it has, the stages from there to `held`, and what goes later.
    Answers what presses; `unfinished` names clusters that it may hold half made."""
    view = known_view(stream.holds(), held)
    for push in pressing_answers(stream, held):
        resources = [held.of_type(push.type_url)[name] for name in push.update]
        stream.push(push.type_url, resources, push.remove)
        view[push.type_url].update((resource.name, resource) for resource in resources)
    plan = Plan.of(Diff.of_resources(view, held.resources), held.resources)
    stages = list(plan.stages)
    if suspects := frozenset(unfinished):
        stages.insert(0, clean_up(suspects, held))
    return view, stages, plan.later


def known_view(holds: Mapping[str, Mapping[str, str]], held: Snapshot) -> View:
    """The set that an Envoy says it has. What differs from `held` is known by version only, without bytes."""
    view: View = {}
    for type_url in ENVOY_TYPES:
        ours = held.of_type(type_url)
        view[type_url] = {}
        for name, version in holds.get(type_url, {}).items():
            resource = ours.get(name)
            if resource is None or resource.version != version:
                resource = Resource(type_url, name, version, b"")
            view[type_url][name] = resource
    return view


def clean_up(suspects: Iterable[str], held: Snapshot) -> Stage:
    """What un-wedges an Envoy whose stream broke after it may have refused these clusters, before any plan:
    it does not say that it has them, and acknowledges no cluster until they are gone (rule 17)."""
    clusters = held.of_type(CLUSTER)
    back = tuple(sorted(name for name in suspects if name in clusters))
    gone = tuple(sorted(name for name in suspects if name not in clusters))
    endpoint_sets = touched_endpoints(back, (), held.resources)
    return Stage(CLEAN_UP, kept(Push(CLUSTER, back, gone), Push(ENDPOINTS, endpoint_sets)))


def pressing_answers(stream: EnvoyStream, held: Snapshot) -> Iterator[Push]:
    """Answers to what Envoy asked for and never had: an Envoy in the middle of warming waits for them."""
    for type_url in ENVOY_TYPES:
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
