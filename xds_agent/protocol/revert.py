"""Revert: the stages that bring an Envoy back after a refusal, with the clean-up of rule 17.

What was half made is not simply undone by a plan: after a CDS NACK Envoy stays wedged until the new clusters
are removed explicitly and the live ones are sent again with their endpoints, and none of this may wait for
the acknowledgement that is still outstanding.
"""

from __future__ import annotations

from collections.abc import Mapping

from xds_agent.snapshot.diff import Diff
from xds_agent.snapshot.plan import Push, Stage, kept, touched_endpoints
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


def revert_stages(back: Diff, last_good: Mapping[str, Mapping[str, Resource]]) -> list[Stage]:
    """Stages from where Envoy stands to `last_good`; `back` is the diff to it."""
    clusters, listeners = back.of(CLUSTER), back.of(LISTENER)
    # Removed by the last phase already: routes that come back need them first.
    lost = Stage(
        "lost clusters",
        kept(
            Push(SECRET, back.of(SECRET).added),
            Push(CLUSTER, clusters.added),
            Push(ENDPOINTS, touched_endpoints(clusters.added, back.of(ENDPOINTS).added, last_good)),
        ),
        new_clusters=clusters.added,
    )
    traffic = Stage(
        "traffic back",
        kept(
            Push(EXTENSION, back.of(EXTENSION).updated),
            Push(RUNTIME, back.of(RUNTIME).updated, back.of(RUNTIME).removed),
            Push(LISTENER, listeners.updated, listeners.removed),
            Push(ROUTES, back.of(ROUTES).updated),
        ),
        forget=kept(Push(ROUTES, remove=back.of(ROUTES).removed)),
    )
    rest = Stage(
        "clusters back",
        kept(
            Push(SECRET, back.of(SECRET).changed),
            Push(CLUSTER, clusters.changed, clusters.removed),
            Push(
                ENDPOINTS,
                touched_endpoints(clusters.changed, back.of(ENDPOINTS).changed, last_good),
            ),
        ),
        forget=kept(*(Push(t, remove=back.of(t).removed) for t in (SECRET, ENDPOINTS, EXTENSION))),
    )
    return [stage for stage in (lost, traffic, rest) if stage]
