"""The clusters a route or a TCP proxy leads to, and their endpoints in the order Envoy would take them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_pb2

from xds_agent.explain.explanation import Backend
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, Snapshot

_BAD = {
    health_check_pb2.UNHEALTHY: "unhealthy",
    health_check_pb2.DRAINING: "draining",
    health_check_pb2.TIMEOUT: "timed out",
    health_check_pb2.DEGRADED: "degraded",
}


def shares(action: Any) -> list[tuple[str, int]]:
    """(cluster, percent) of a route action or tcp_proxy, largest first; empty for cluster_header."""
    if action.WhichOneof("cluster_specifier") == "cluster":
        return [(action.cluster, 100)]
    if action.WhichOneof("cluster_specifier") != "weighted_clusters":
        return []
    weights = [
        (one.name, one.weight.value if hasattr(one.weight, "value") else one.weight)
        for one in action.weighted_clusters.clusters
    ]
    total = sum(weight for _, weight in weights) or 1
    return sorted(((name, round(100 * weight / total)) for name, weight in weights), key=lambda one: -one[1])


def backends(snapshot: Snapshot, cluster: str, share: int) -> tuple[Backend, ...]:
    """Endpoints of a cluster, priority 0 first, in the order of the assignment. Empty when there are none."""
    resource = snapshot.of_type(CLUSTER).get(cluster)
    if resource is None:
        return ()
    message = cluster_pb2.Cluster.FromString(resource.body.value)
    if message.HasField("load_assignment"):
        assignment = message.load_assignment
    else:
        named = snapshot.of_type(ENDPOINTS).get(message.eds_cluster_config.service_name or cluster)
        if named is None:
            return ()
        assignment = endpoint_pb2.ClusterLoadAssignment.FromString(named.body.value)
    found = [one for locality in assignment.endpoints for one in _of_locality(locality, cluster, share)]
    return tuple(sorted(found, key=lambda one: one.priority))


def _of_locality(locality: Any, cluster: str, share: int) -> Iterator[Backend]:
    place = " ".join(
        part
        for part in (locality.locality.region, locality.locality.zone, locality.locality.sub_zone)
        if part
    )
    for one in locality.lb_endpoints:
        address = one.endpoint.address
        kind = address.WhichOneof("address")
        if kind == "pipe":
            text = address.pipe.path
        else:
            socket = address.socket_address
            text = (
                f"[{socket.address}]:{socket.port_value}"
                if ":" in socket.address
                else f"{socket.address}:{socket.port_value}"
            )
        weight = one.load_balancing_weight.value if one.HasField("load_balancing_weight") else 1
        yield Backend(text, locality.priority, place, weight, share, cluster, _BAD.get(one.health_status, ""))
