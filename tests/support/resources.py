"""Small Envoy resources, for tests and benchmarks that need a real Envoy and no inventory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2

from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, Resource, Snapshot


def ads() -> config_source_pb2.ConfigSource:
    source = config_source_pb2.ConfigSource(resource_api_version=config_source_pb2.ApiVersion.V3)
    source.ads.SetInParent()
    return source


def cluster(name: str, *, connect_timeout_ms: int = 1000, bad_ring: bool = False) -> Resource:
    """An EDS cluster; `bad_ring` gives it the ring sizes that wedge Envoy's CDS (xDS rule 17)."""
    message = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS, ignore_health_on_host_removal=True)
    message.connect_timeout.FromMilliseconds(connect_timeout_ms)
    message.eds_cluster_config.eds_config.CopyFrom(ads())
    if bad_ring:
        message.lb_policy = cluster_pb2.Cluster.RING_HASH
        message.ring_hash_lb_config.minimum_ring_size.value = 100
        message.ring_hash_lb_config.maximum_ring_size.value = 10
    return Resource.of(CLUSTER, name, message)


def endpoints(name: str, *ports: int, address: str = "127.0.0.1") -> Resource:
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    locality = message.endpoints.add()
    locality.locality.region = "local"
    locality.load_balancing_weight.value = 1
    for port in ports:
        socket = locality.lb_endpoints.add().endpoint.address.socket_address
        socket.address, socket.port_value = address, port
    return Resource.of(ENDPOINTS, name, message)


def routes(
    name: str, hosts: Mapping[str, str], *, regex: str | None = None, mark: str = "", validate: bool = True
) -> Resource:
    """A host of `hosts` goes to its cluster; `mark` becomes a response header, `regex` a path match."""
    message = route_pb2.RouteConfiguration(name=name)
    if validate:
        message.validate_clusters.value = True
    for host, target in hosts.items():
        virtual = message.virtual_hosts.add(name=host, domains=[host])
        route = virtual.routes.add()
        if regex is None:
            route.match.prefix = "/"
        else:
            route.match.safe_regex.regex = regex
        route.route.cluster = target
        if mark:
            header = virtual.response_headers_to_add.add().header
            header.key, header.value = "x-mark", mark
    return Resource.of(ROUTES, name, message)


def listener(
    name: str, port: int, route_name: str, *, certificate: str | None = None, stat_prefix: str = "edge",
    delay_ms: int = 0,
) -> Resource:  # fmt: skip
    """One HTTP listener on loopback; with `certificate`, TLS by that SDS secret. `delay_ms` holds every
    request back between the choice of its route and of its cluster, as a filter that asks somebody does."""
    manager = http_connection_manager_pb2.HttpConnectionManager(stat_prefix=stat_prefix)
    manager.rds.route_config_name = route_name
    manager.rds.config_source.CopyFrom(ads())
    if delay_ms:
        fault = fault_pb2.HTTPFault()
        fault.delay.fixed_delay.FromMilliseconds(delay_ms)
        fault.delay.percentage.numerator = 100
        manager.http_filters.add(name="fault").typed_config.Pack(fault, deterministic=True)
    manager.http_filters.add(name="router").typed_config.Pack(router_pb2.Router(), deterministic=True)
    message = listener_pb2.Listener(name=name)
    message.address.socket_address.address = "127.0.0.1"
    message.address.socket_address.port_value = port
    chain = message.filter_chains.add()
    chain.filters.add(name="http").typed_config.Pack(manager, deterministic=True)
    if certificate is not None:
        context = tls_pb2.DownstreamTlsContext()
        secret = context.common_tls_context.tls_certificate_sds_secret_configs.add(name=certificate)
        secret.sds_config.CopyFrom(ads())
        chain.transport_socket.name = "tls"
        chain.transport_socket.typed_config.Pack(context, deterministic=True)
    return Resource.of(LISTENER, name, message)


def secret(name: str, chain: bytes, key: bytes) -> Resource:
    message = secret_pb2.Secret(name=name)
    message.tls_certificate.certificate_chain.inline_bytes = chain
    message.tls_certificate.private_key.inline_bytes = key
    return Resource.of(SECRET, name, message)


def site(
    listen: int, services: Mapping[str, Sequence[int]], *, number: int = 1, mark: str = "",
    connect_timeout_ms: int = 1000, extra: Sequence[Resource] = (),
) -> Snapshot:  # fmt: skip
    """One listener; each service is a cluster with its endpoints, asked for by the Host of its name."""
    resources = [
        listener("edge", listen, "edge"),
        routes("edge", {name: name for name in services}, mark=mark),
        *(cluster(name, connect_timeout_ms=connect_timeout_ms) for name in services),
        *(endpoints(name, *ports) for name, ports in services.items()),
    ]
    return Snapshot.of([*resources, *extra], number=number)


def replaced(snapshot: Snapshot, *changed: Resource, number: int | None = None) -> Snapshot:
    """`snapshot` with some resources added or exchanged."""
    kept = {(r.type_url, r.name): r for named in snapshot.resources.values() for r in named.values()}
    kept |= {(r.type_url, r.name): r for r in changed}
    return Snapshot.of(kept.values(), number=snapshot.number + 1 if number is None else number)
