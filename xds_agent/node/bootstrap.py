"""Envoy's bootstrap: everything Envoy must know before its node agent can tell it the rest.

Authored with envoy-data-plane's typed dataclasses, so that a misspelt field fails here and not on a host.
Its only xDS peer is the node agent, over a Unix socket; listeners, clusters, routes, secrets and runtime all
come from there, and Envoy waits for them without a limit: it never says LIVE with nothing to serve.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import betterproto2
from envoy_data_plane.envoy.config.bootstrap.v3 import (
    Admin,
    Bootstrap,
    BootstrapDynamicResources,
    BootstrapStaticResources,
    LayeredRuntime,
    RuntimeLayer,
    RuntimeLayerAdminLayer,
    RuntimeLayerRtdsLayer,
)
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiConfigSource,
    ApiConfigSourceApiType,
    ApiVersion,
    BackoffStrategy,
    ConfigSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    Http2ProtocolOptions,
    Node,
    Pipe,
    RetryPolicy,
    SocketAddress,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.overload.v3 import (
    LoadShedPoint,
    OverloadAction,
    OverloadManager,
    ResourceMonitor,
    ScaledTrigger,
    ScaleTimersOverloadActionConfig,
    ScaleTimersOverloadActionConfigScaleTimer,
    ScaleTimersOverloadActionConfigTimerType,
    ThresholdTrigger,
    Trigger,
)
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections.v3 import (
    DownstreamConnectionsConfig,
)
from envoy_data_plane.envoy.extensions.resource_monitors.fixed_heap.v3 import FixedHeapConfig
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Any, Struct

from xds_agent.node.config import ADMIN_CLUSTER, XDS_CLUSTER, EnvoyConfig, NodeConfig

# The one Runtime resource that the compiler writes for a host.
RUNTIME_RESOURCE = "runtime"
ADMIN_SOCKET_MODE = 0o660
_HEAP = "envoy.resource_monitors.fixed_heap"
_CONNECTIONS = "envoy.resource_monitors.global_downstream_max_connections"
_MEMORY_SHARE = 0.6
_FOREVER = dt.timedelta(0)

# Reading is allowed, and what draining needs; quitting, profiling and changing runtime are not.
ADMIN_PATHS = (
    "/ready", "/server_info", "/stats", "/clusters", "/listeners", "/certs", "/config_dump", "/init_dump",
    "/memory", "/runtime", "/hot_restart_version", "/drain_listeners", "/healthcheck/", "/reopen_logs",
)  # fmt: skip

# What holds before, and beneath, the runtime that the inventory gives.
BASE_RUNTIME = {
    # HTTP/2 rapid reset: a connection whose first hundred streams were mostly reset within a second closes.
    "overload.premature_reset_total_stream_count": 100,
    "overload.premature_reset_min_stream_lifetime_seconds": 1,
    # One connection takes no more than its turn.
    "http.max_requests_per_io_cycle": 1,
}


def render(config: NodeConfig) -> str:
    """The bootstrap of this host's Envoy as JSON; the same config on the same host gives the same bytes."""
    document = bootstrap(config, heap_bytes=heap_bytes(config.envoy)).to_dict()
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def heap_bytes(envoy: EnvoyConfig) -> int:
    """Heap at which overload actions are complete: configured, or 60 % of what this host may use."""
    if envoy.max_heap_mb is not None:
        return envoy.max_heap_mb << 20
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        memory = min(memory, int(limit))
    except (OSError, ValueError):
        pass  # "max", or no cgroup v2 limit at the root
    return int(memory * _MEMORY_SHARE) >> 20 << 20


def bootstrap(config: NodeConfig, *, heap_bytes: int) -> Bootstrap:
    """The typed message; pure."""
    envoy = config.envoy
    return Bootstrap(
        node=Node(id=config.name, cluster="marchproxy"),
        admin=Admin(
            address=Address(pipe=Pipe(path=str(envoy.admin_socket), mode=ADMIN_SOCKET_MODE)),
            # Whoever floods the listeners must not shut us out of the one place that tells.
            ignore_global_conn_limit=True,
            allow_paths=_admin_paths(),
        ),
        dynamic_resources=BootstrapDynamicResources(
            ads_config=_ads(), cds_config=_from_ads(), lds_config=_from_ads()
        ),
        static_resources=_static(envoy),
        layered_runtime=LayeredRuntime(
            layers=[
                RuntimeLayer(name="base", static_layer=Struct.from_dict(BASE_RUNTIME)),
                RuntimeLayer(
                    name="inventory",
                    rtds_layer=RuntimeLayerRtdsLayer(name=RUNTIME_RESOURCE, rtds_config=_from_ads()),
                ),
                RuntimeLayer(name="admin", admin_layer=RuntimeLayerAdminLayer()),
            ]
        ),
        overload_manager=_overload(envoy.max_connections, heap_bytes),
    )


def _admin_paths() -> list[StringMatcher]:
    return [StringMatcher(prefix=path) for path in ADMIN_PATHS if path != "/runtime"] + [
        StringMatcher(exact="/runtime")
    ]


def _from_ads() -> ConfigSource:
    return ConfigSource(
        ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3, initial_fetch_timeout=_FOREVER
    )


def _ads() -> ApiConfigSource:
    back_off = BackoffStrategy(
        base_interval=dt.timedelta(milliseconds=50), max_interval=dt.timedelta(milliseconds=500)
    )
    service = GrpcService(
        envoy_grpc=GrpcServiceEnvoyGrpc(
            cluster_name=XDS_CLUSTER, retry_policy=RetryPolicy(retry_back_off=back_off)
        )
    )
    return ApiConfigSource(
        api_type=ApiConfigSourceApiType.DELTA_GRPC,
        transport_api_version=ApiVersion.V3,
        set_node_on_first_message_only=True,
        grpc_services=[service],
    )


def _static(envoy: EnvoyConfig) -> BootstrapStaticResources:
    http2 = HttpProtocolOptions(
        explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=Http2ProtocolOptions()
        )
    )
    xds = _pipe_cluster(XDS_CLUSTER, envoy.xds_socket)
    xds.typed_extension_protocol_options = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": Any.pack(http2)
    }
    if envoy.admin_port is None:
        return BootstrapStaticResources(clusters=[xds])
    return BootstrapStaticResources(
        clusters=[xds, _pipe_cluster(ADMIN_CLUSTER, envoy.admin_socket)],
        listeners=[_admin_listener(envoy.admin_port)],
    )


def _pipe_cluster(name: str, path: Path) -> Cluster:
    endpoint = LbEndpoint(endpoint=Endpoint(address=Address(pipe=Pipe(path=str(path)))))
    return Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=dt.timedelta(seconds=1),
        load_assignment=ClusterLoadAssignment(
            cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
    )


def _admin_listener(port: int) -> Listener:
    proxy = _packed_filter(
        "envoy.filters.network.tcp_proxy", TcpProxy(stat_prefix="admin", cluster=ADMIN_CLUSTER)
    )
    return Listener(
        name="admin_loopback",
        address=Address(socket_address=SocketAddress(address="127.0.0.1", port_value=port)),
        filter_chains=[FilterChain(filters=[proxy])],
        ignore_global_conn_limit=True,
    )


def _packed_filter(name: str, message: betterproto2.Message) -> Filter:
    return Filter(name=name, typed_config=Any.pack(message))


def _overload(max_connections: int, heap: int) -> OverloadManager:
    timers = ScaleTimersOverloadActionConfigTimerType
    scaled = ScaleTimersOverloadActionConfig(
        timer_scale_factors=[
            ScaleTimersOverloadActionConfigScaleTimer(timer=timer, min_scale=Percent(value=10.0))
            for timer in (timers.HTTP_DOWNSTREAM_CONNECTION_IDLE, timers.HTTP_DOWNSTREAM_STREAM_IDLE)
        ]
    )
    return OverloadManager(
        refresh_interval=dt.timedelta(milliseconds=250),
        resource_monitors=[
            ResourceMonitor(name=_HEAP, typed_config=Any.pack(FixedHeapConfig(max_heap_size_bytes=heap))),
            ResourceMonitor(
                name=_CONNECTIONS,
                typed_config=Any.pack(
                    DownstreamConnectionsConfig(max_active_downstream_connections=max_connections)
                ),
            ),
        ],
        actions=[
            OverloadAction(
                name="envoy.overload_actions.reduce_timeouts",
                triggers=[
                    Trigger(
                        name=_HEAP, scaled=ScaledTrigger(scaling_threshold=0.85, saturation_threshold=0.95)
                    )
                ],
                typed_config=Any.pack(scaled),
            ),
            OverloadAction(name="envoy.overload_actions.shrink_heap", triggers=[_at(0.90)]),
            OverloadAction(name="envoy.overload_actions.disable_http_keepalive", triggers=[_at(0.92)]),
            OverloadAction(name="envoy.overload_actions.stop_accepting_requests", triggers=[_at(0.95)]),
        ],
        loadshed_points=[
            LoadShedPoint(name="envoy.load_shed_points.tcp_listener_accept", triggers=[_at(0.98)]),
            LoadShedPoint(
                name="envoy.load_shed_points.http2_server_go_away_on_dispatch", triggers=[_at(0.98)]
            ),
        ],
    )


def _at(share: float) -> Trigger:
    return Trigger(name=_HEAP, threshold=ThresholdTrigger(value=share))
