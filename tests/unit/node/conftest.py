"""Small snapshots for tests of the node agent's own parts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2

from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, Resource, Snapshot

Make = Callable[..., Snapshot]


@pytest.fixture
def snapshot() -> Make:
    """snapshot(3, 7, a=1) holds clusters c0..c2 of generation 7 and their endpoints, plus one named `a`."""

    def make(clusters: int, generation: int = 0, **more: int) -> Snapshot:
        named = {f"c{index}": generation for index in range(clusters)} | more
        resources = []
        for name, value in named.items():
            cluster = cluster_pb2.Cluster(name=name, alt_stat_name=f"g{value}")
            resources.append(Resource.of(CLUSTER, name, cluster))
            resources.append(
                Resource.of(ENDPOINTS, name, endpoint_pb2.ClusterLoadAssignment(cluster_name=name))
            )
        return Snapshot.of(resources, number=generation)

    return make
