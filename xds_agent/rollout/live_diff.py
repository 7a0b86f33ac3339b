"""What a proxy's Envoy says it holds, against what control believes it holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_pb2

from xds_agent.node.questions import endpoint_words
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.snapshot.resource import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    SECRET,
    SHORT,
    Resource,
    Snapshot,
)

# Envoy shows no version and no content of the others that could be compared.
COMPARED = (SECRET, CLUSTER, ENDPOINTS, LISTENER, ROUTES)


@dataclass(frozen=True, slots=True)
class Difference:
    """One resource that is not the same on both sides."""

    type_url: str
    name: str
    text: str

    def as_dict(self) -> dict[str, str]:
        return {"type": SHORT[self.type_url], "name": self.name, "text": self.text}


def differences(believed: Snapshot, held: Iterable[pb.HeldResource]) -> list[Difference]:
    """Everything that differs, in the order of types and names; none when Envoy holds just that."""
    by_type: dict[str, dict[str, list[pb.HeldResource]]] = {}
    for one in held:
        by_type.setdefault(one.type_url, {}).setdefault(one.name, []).append(one)
    found = []
    for type_url in COMPARED:
        ours, theirs = believed.of_type(type_url), by_type.get(type_url, {})
        if type_url == ENDPOINTS:
            theirs = {name: one for name, one in theirs.items() if name in ours or not _own(believed, name)}
        for name in sorted(ours.keys() | theirs.keys()):
            texts = _of_one(ours.get(name), theirs.get(name, []))
            found += [Difference(type_url, name, text) for text in texts]
    return found


def _own(believed: Snapshot, name: str) -> bool:
    """Whether the cluster finds its endpoints by DNS: Envoy lists them beside those it is given."""
    resource = believed.of_type(CLUSTER).get(name)
    if resource is None:
        return False
    return bool(cluster_pb2.Cluster.FromString(resource.body.value).type != cluster_pb2.Cluster.EDS)


def _of_one(ours: Resource | None, theirs: list[pb.HeldResource]) -> Iterator[str]:
    for one in theirs:
        if one.refused:
            yield f"Envoy refused an update of it: {one.refused}"
        if one.state == "warming":
            yield "still warming in Envoy"
    serving = [one for one in theirs if not one.state]
    if ours is None:
        if serving:
            yield "Envoy has it, control wants it gone"
        return
    if not theirs:
        yield "Envoy does not have it"
        return
    # An update that warms is told already.
    for one in serving[:1] if len(theirs) == 1 else ():
        if ours.type_url == ENDPOINTS:
            yield from _of_endpoints(ours, one)
        elif one.version != ours.version:
            yield f"Envoy has version {one.version or 'none'}, control believes {ours.version}"


def _of_endpoints(ours: Resource, theirs: pb.HeldResource) -> Iterator[str]:
    """Health is Envoy's own finding and no difference."""
    wanted = {_without_health(words) for words in _endpoints(ours)}
    has = {_without_health(words) for words in theirs.endpoints}
    for words in sorted(wanted - has):
        yield f"Envoy lacks endpoint {_shown(words)}"
    for words in sorted(has - wanted):
        yield f"Envoy has endpoint {_shown(words)}, control wants it gone"


def _endpoints(resource: Resource) -> Iterator[str]:
    message = endpoint_pb2.ClusterLoadAssignment.FromString(resource.body.value)
    for locality in message.endpoints:
        for entry in locality.lb_endpoints:
            socket = entry.endpoint.address.socket_address
            weight = entry.load_balancing_weight.value or 1
            yield endpoint_words(
                locality.priority, locality.locality.region, locality.locality.zone, socket.address,
                socket.port_value, weight, health_check_pb2.HealthStatus.Name(entry.health_status),
            )  # fmt: skip


def _without_health(words: str) -> str:
    return words.rpartition(" ")[0]


def _shown(words: str) -> str:
    priority, place, address, weight = words.split(" ")
    return f"{address} (priority {priority}, {place.strip('/') or 'no place'}, weight {weight})"


def listed(snapshot: Snapshot, origins: Mapping[tuple[str, str], str]) -> list[dict[str, str]]:
    """Every resource of a snapshot for `status NODE --resources`."""
    return [
        {"type": SHORT[type_url], "name": name, "version": resource.version,
         "path": origins.get((type_url, name), "")}
        for type_url, named in snapshot.resources.items()
        for name, resource in sorted(named.items())
    ]  # fmt: skip
