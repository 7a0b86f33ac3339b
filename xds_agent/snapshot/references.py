"""What a resource refers to: the endpoints, routes, secrets and extensions it makes Envoy ask for by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2 as _router  # noqa: F401  known to the pool
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as _tls  # noqa: F401  known to the pool
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SECRET, Resource

Reference = tuple[str, str]

_ANY = "google.protobuf.Any"
_SDS = secret_pb2.SdsSecretConfig.DESCRIPTOR.full_name
_RDS = http_connection_manager_pb2.Rds.DESCRIPTOR.full_name
_ECDS = "envoy.config.core.v3.ExtensionConfigSource"
_EDS_CLUSTER = cluster_pb2.Cluster.DiscoveryType.Value("EDS")
_LEAF = frozenset({"envoy.config.core.v3.Metadata", "google.protobuf.Struct"})


def references(resource: Resource) -> frozenset[Reference]:
    """(type url, name) of everything that must exist beside `resource` before Envoy can use it."""
    if resource.type_url == CLUSTER:
        return frozenset(_of_cluster(cluster_pb2.Cluster.FromString(resource.body.value)))
    if resource.type_url == LISTENER:
        return frozenset(_walk(listener_pb2.Listener.FromString(resource.body.value)))
    if resource.type_url == EXTENSION:
        return frozenset(_walk(extension_pb2.TypedExtensionConfig.FromString(resource.body.value)))
    return frozenset()


def endpoints_of(resource: Resource) -> str | None:
    """Name of the endpoint set of a cluster that takes its endpoints by EDS, None of any other cluster."""
    cluster = cluster_pb2.Cluster.FromString(resource.body.value)
    return _endpoints_of(cluster)


def _endpoints_of(cluster: Any) -> str | None:
    if cluster.WhichOneof("cluster_discovery_type") != "type" or cluster.type != _EDS_CLUSTER:
        return None
    return str(cluster.eds_cluster_config.service_name or cluster.name)


def _of_cluster(cluster: Any) -> Iterator[Reference]:
    if (name := _endpoints_of(cluster)) is not None:
        yield ENDPOINTS, name
    # The fields that hold secrets and extensions, rather than a walk over all: clusters come by the thousand.
    if cluster.HasField("transport_socket"):
        yield from _walk(cluster.transport_socket)
    for match in cluster.transport_socket_matches:
        yield from _walk(match.transport_socket)
    for health_check in cluster.health_checks:
        yield from _walk(health_check)
    for options in cluster.typed_extension_protocol_options.values():
        yield from _of_any(options)


def _walk(message: Any) -> Iterator[Reference]:
    kind = message.DESCRIPTOR.full_name
    if kind == _SDS:
        # Without an sds_config the secret is static, of Envoy's bootstrap.
        if message.HasField("sds_config"):
            yield SECRET, message.name
        return
    if kind == _RDS:
        yield ROUTES, message.route_config_name
        return
    if kind == _ANY:
        yield from _of_any(message)
        return
    if kind in _LEAF:
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for item in value.values():
                    yield from _walk(item)
            continue
        if field.message_type.full_name == _ECDS and "name" in message.DESCRIPTOR.fields_by_name:
            yield EXTENSION, message.name
            continue
        for item in value if field.is_repeated else (value,):
            yield from _walk(item)


def _of_any(packed: Any) -> Iterator[Reference]:
    try:
        kind = descriptor_pool.Default().FindMessageTypeByName(packed.type_url.rpartition("/")[2])
    except KeyError:
        # A type this process has no code for: it can refer to nothing that we serve.
        return
    try:
        message = message_factory.GetMessageClass(kind).FromString(packed.value)
    except DecodeError:
        return
    yield from _walk(message)
