"""Revert: the stages that bring an Envoy back after a refusal, with the clean-up of rule 17.

What was half made is not simply undone by a plan: after a CDS NACK Envoy stays wedged until the new clusters
are removed explicitly and the live ones are sent again with their endpoints, and none of this may wait for
the acknowledgement that is still outstanding.
"""

from __future__ import annotations

from collections.abc import Mapping

from xds_agent.snapshot.diff import Diff
from xds_agent.snapshot.plan import NOTHING, Push, Stage, clusters_go, kept, touched_endpoints
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


def revert_plan(
    back: Diff, last_good: Mapping[str, Mapping[str, Resource]], *, turned: bool
) -> tuple[list[Stage], Stage]:
    """Stages from where Envoy stands to `last_good`, and what goes later; `back` is the diff to it.

    With `turned` its clusters were acknowledged and requests may have met the new ones: these go later. If
    not, one of them may be what wedges Envoy: they go at once.
    """
    clusters, listeners = back.of(CLUSTER), back.of(LISTENER)
    end = clusters_go(*(back.of(t).removed for t in (CLUSTER, ENDPOINTS, SECRET)))
    gone, later = (NOTHING, end) if turned else (end, NOTHING)
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
            Push(CLUSTER, clusters.changed, () if turned else clusters.removed),
            Push(
                ENDPOINTS,
                touched_endpoints(clusters.changed, back.of(ENDPOINTS).changed, last_good),
            ),
        ),
        forget=kept(Push(EXTENSION, remove=back.of(EXTENSION).removed), *gone.forget),
    )
    return [stage for stage in (lost, traffic, rest) if stage], later
