"""Plan: the make-before-break order in which an Envoy is brought from one set to another.

Three phases (knowledge: xDS rules 13 to 16). Phase 1 makes: secrets, clusters, and at once behind them the
endpoints of every touched cluster, changed or not, since an Envoy that warms a cluster never asks again.
Phase 2, gated on everything of phase 1, turns the traffic: listeners, then routes. Phase 3, gated on phase 2,
removes: listeners at once, clusters `later`, when requests that were on their way have looked theirs up.
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

# Name of the stage that makes what traffic is turned to.
MAKING = "clusters"


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


NOTHING = Stage("nothing")


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages in order, empty ones left out, and what goes some time after them."""

    stages: tuple[Stage, ...]
    later: Stage

    @classmethod
    def of(cls, diff: Diff, target: Mapping[str, Mapping[str, Resource]]) -> Plan:
        """Order `diff`, whose new side is `target` (type url -> name -> Resource)."""
        stages = (_clusters(diff, target), _listeners(diff), _routes(diff), _removals(diff))
        gone = (diff.of(t).removed for t in (CLUSTER, ENDPOINTS, SECRET))
        return cls(tuple(stage for stage in stages if stage), clusters_go(*gone))

    def __bool__(self) -> bool:
        return bool(self.stages or self.later)


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
        MAKING,
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
            Push(RUNTIME, remove=diff.of(RUNTIME).removed),
        ),
        # Rule 26: extensions are never removed.
        forget=kept(*(Push(t, remove=diff.of(t).removed) for t in (ROUTES, EXTENSION))),
    )


def clusters_go(clusters: tuple[str, ...], endpoints: tuple[str, ...], secrets: tuple[str, ...]) -> Stage:
    """The stage that ends clusters, with what only they may still refer to."""
    return Stage(
        "clusters go",
        kept(Push(CLUSTER, remove=clusters)),
        # Rule 19: a secret "removed" opens its port and resets.
        forget=kept(Push(ENDPOINTS, remove=endpoints), Push(SECRET, remove=secrets)),
    )
