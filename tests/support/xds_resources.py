"""Small resources for protocol tests: real Envoy messages, as little of each as refers and differs."""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2, extension_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2
from envoy.service.runtime.v3 import rtds_pb2

from xds_agent.snapshot.resource import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    ROUTES,
    RUNTIME,
    SECRET,
    Resource,
    Snapshot,
)

ADS = config_source_pb2.ConfigSource(resource_api_version=config_source_pb2.ApiVersion.V3)
ADS.ads.SetInParent()


def cluster(name: str, *, timeout_ms: int = 1000, bad_ring: bool = False, secret: str = "") -> Resource:
    """An EDS cluster; `bad_ring` is what Envoy refuses and wedges on (rule 17)."""
    message = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS)
    message.connect_timeout.FromMilliseconds(timeout_ms)
    message.eds_cluster_config.eds_config.CopyFrom(ADS)
    if bad_ring:
        message.lb_policy = cluster_pb2.Cluster.RING_HASH
        message.ring_hash_lb_config.minimum_ring_size.value = 100
        message.ring_hash_lb_config.maximum_ring_size.value = 10
    if secret:
        tls = tls_pb2.UpstreamTlsContext()
        sds = tls.common_tls_context.validation_context_sds_secret_config
        sds.name = secret
        sds.sds_config.CopyFrom(ADS)
        message.transport_socket.name = "tls"
        message.transport_socket.typed_config.Pack(tls)
    return Resource.of(CLUSTER, name, message)


def static_cluster(name: str) -> Resource:
    """A cluster that takes no endpoints by EDS."""
    message = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.STATIC)
    message.connect_timeout.FromMilliseconds(1000)
    return Resource.of(CLUSTER, name, message)


def endpoints(name: str, *ports: int) -> Resource:
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    locality = message.endpoints.add()
    locality.load_balancing_weight.value = 1
    for port in ports:
        address = locality.lb_endpoints.add().endpoint.address.socket_address
        address.address, address.port_value = "127.0.0.1", port
    return Resource.of(ENDPOINTS, name, message)


def routes(name: str, target: str, *, prefix: str = "/", validate: bool = True) -> Resource:
    message = route_pb2.RouteConfiguration(name=name)
    message.validate_clusters.value = validate
    host = message.virtual_hosts.add(name="all", domains=["*"])
    route = host.routes.add()
    route.match.prefix = prefix
    route.route.cluster = target
    return Resource.of(ROUTES, name, message)


def listener(
    name: str, route_name: str, *, port: int = 10000, secret: str = "", extension: str = "", stat: str = "in"
) -> Resource:
    message = listener_pb2.Listener(name=name)
    address = message.address.socket_address
    address.address, address.port_value = "127.0.0.1", port
    chain = message.filter_chains.add()
    manager = hcm_pb2.HttpConnectionManager(stat_prefix=stat)
    manager.rds.route_config_name = route_name
    manager.rds.config_source.CopyFrom(ADS)
    if extension:
        discovered = manager.http_filters.add(name=extension).config_discovery
        discovered.config_source.CopyFrom(ADS)
        discovered.type_urls.append("type.googleapis.com/envoy.extensions.filters.http.router.v3.Router")
    else:
        manager.http_filters.add(name="router").typed_config.Pack(router_pb2.Router())
    chain.filters.add(name="http").typed_config.Pack(manager)
    if secret:
        tls = tls_pb2.DownstreamTlsContext()
        sds = tls.common_tls_context.tls_certificate_sds_secret_configs.add(name=secret)
        sds.sds_config.CopyFrom(ADS)
        chain.transport_socket.name = "tls"
        chain.transport_socket.typed_config.Pack(tls)
    return Resource.of(LISTENER, name, message)


def secret(name: str, content: str = "one") -> Resource:
    message = secret_pb2.Secret(name=name)
    message.generic_secret.secret.inline_string = content
    return Resource.of(SECRET, name, message)


def extension(name: str, *, start_child_span: bool = False) -> Resource:
    message = extension_pb2.TypedExtensionConfig(name=name)
    message.typed_config.Pack(router_pb2.Router(start_child_span=start_child_span))
    return Resource.of(EXTENSION, name, message)


def runtime(name: str = "runtime", **values: float) -> Resource:
    message = rtds_pb2.Runtime(name=name)
    message.layer.update(values)
    return Resource.of(RUNTIME, name, message)


def shop(*, port: int = 8080, timeout_ms: int = 1000, name: str = "shop") -> list[Resource]:
    """One service: cluster, endpoints, routes, listener, all of one name."""
    return [
        cluster(name, timeout_ms=timeout_ms),
        endpoints(name, port),
        routes(name, name),
        listener(name, name),
    ]


def snapshot(*resources: Resource | list[Resource], number: int = 1) -> Snapshot:
    """A Snapshot of these, lists flattened."""
    flat: list[Resource] = []
    for resource in resources:
        flat += resource if isinstance(resource, list) else [resource]
    return Snapshot.of(flat, number)
