"""Plan: the make-before-break order in which an Envoy is brought from one set to another.

Three phases (knowledge: xDS rules 13 to 16). Phase 1 makes: secrets, clusters, and at once behind them the
endpoints of every touched cluster, changed or not, since an Envoy that warms a cluster never asks again.
Phase 2, gated on everything of phase 1, turns the traffic: listeners, then routes. Phase 3, gated on phase 2,
removes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xds_agent.snapshot.diff import Diff
from xds_agent.snapshot.references import endpoints_of
from xds_agent.snapshot.resource import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    ROUTES,
    RUNTIME,
    SECRET,
    Resource,
)


@dataclass(frozen=True, slots=True)
class Push:
    """One response: names of one type to send and names to remove."""

    type_url: str
    update: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.update or self.remove)


@dataclass(frozen=True, slots=True)
class Stage:
    """What goes out together, in this order; the next stage waits until all of it is acknowledged.

    `awaits` names what an earlier stage could not send yet, because Envoy asks for it only later. `forget`
    names what needs no message to go: Envoy drops it together with what referred to it.
    """

    name: str
    pushes: tuple[Push, ...] = ()
    awaits: tuple[Push, ...] = ()
    forget: tuple[Push, ...] = ()
    new_clusters: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.pushes or self.awaits or self.forget)


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages in order; empty ones are left out."""

    stages: tuple[Stage, ...]

    @classmethod
    def of(cls, diff: Diff, target: Mapping[str, Mapping[str, Resource]]) -> Plan:
        """Order `diff`, whose new side is `target` (type url -> name -> Resource)."""
        stages = (_clusters(diff, target), _listeners(diff), _routes(diff), _removals(diff))
        return cls(tuple(stage for stage in stages if stage))

    def __bool__(self) -> bool:
        return bool(self.stages)


def touched_endpoints(
    clusters: tuple[str, ...], changed: tuple[str, ...], target: Mapping[str, Mapping[str, Resource]]
) -> tuple[str, ...]:
    """The endpoint sets that changed and, rule 13, those of every touched cluster."""
    names = set(changed)
    for cluster in clusters:
        name = endpoints_of(target[CLUSTER][cluster])
        if name is not None and name in target.get(ENDPOINTS, {}):
            names.add(name)
    return tuple(sorted(names))


def kept(*pushes: Push) -> tuple[Push, ...]:
    """Those that say something."""
    return tuple(push for push in pushes if push)


def _clusters(diff: Diff, target: Mapping[str, Mapping[str, Resource]]) -> Stage:
    clusters = diff.of(CLUSTER)
    return Stage(
        "clusters",
        kept(
            Push(SECRET, diff.of(SECRET).updated),
            Push(CLUSTER, clusters.updated),
            Push(ENDPOINTS, touched_endpoints(clusters.updated, diff.of(ENDPOINTS).updated, target)),
        ),
        new_clusters=clusters.added,
    )


def _listeners(diff: Diff) -> Stage:
    return Stage(
        "listeners",
        kept(
            Push(EXTENSION, diff.of(EXTENSION).updated),
            Push(RUNTIME, diff.of(RUNTIME).updated),
            Push(LISTENER, diff.of(LISTENER).updated),
        ),
    )


def _routes(diff: Diff) -> Stage:
    return Stage(
        "routes",
        kept(Push(ROUTES, diff.of(ROUTES).updated)),
        awaits=kept(Push(SECRET, diff.of(SECRET).updated), Push(EXTENSION, diff.of(EXTENSION).updated)),
    )


def _removals(diff: Diff) -> Stage:
    return Stage(
        "removals",
        kept(
            Push(LISTENER, remove=diff.of(LISTENER).removed),
            Push(CLUSTER, remove=diff.of(CLUSTER).removed),
            Push(RUNTIME, remove=diff.of(RUNTIME).removed),
        ),
        # Rule 19: a secret "removed" opens its port and resets. Rule 26: extensions are never removed.
        forget=kept(*(Push(t, remove=diff.of(t).removed) for t in (ROUTES, ENDPOINTS, SECRET, EXTENSION))),
    )
