"""The HTTP connection manager: Envoy's edge best practice, with the inventory's ceilings."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2

from xds_agent.compile.encoding import ADS, duration, packed
from xds_agent.compile.route_filters import standing
from xds_agent.model import ProxyLimits

NAME = "envoy.filters.network.http_connection_manager"

_HCM = http_connection_manager_pb2.HttpConnectionManager
_KIBIBYTE = 1024
_STREAM_WINDOW_BYTES = 64 * 1024
_CONNECTION_WINDOW_BYTES = 1024 * 1024
_CONTROL_FRAMES = 200
_NONE = timedelta(0)


def http_manager(
    stat_prefix: str, route_name: str, limits: ProxyLimits, *, tls: bool, streaming: bool = False
) -> Any:
    """google.protobuf.Any of the connection manager. `streaming`: requests may never end (gRPC)."""
    manager = _HCM(
        stat_prefix=stat_prefix,
        merge_slashes=True,
        path_with_escaped_slashes_action=_HCM.REJECT_REQUEST,
        strip_any_host_port=True,
        forward_client_cert_details=_HCM.SANITIZE_SET if tls else _HCM.SANITIZE,
    )
    manager.use_remote_address.value = True
    manager.normalize_path.value = True
    if tls:
        details = manager.set_current_client_cert_details
        details.subject.value = True
        details.dns = details.uri = True
    manager.rds.route_config_name = route_name
    manager.rds.config_source.CopyFrom(ADS)
    _ceilings(manager, limits, streaming=streaming)
    _without_client_claims(manager)
    for name, config in standing():
        manager.http_filters.add(name=name).typed_config.CopyFrom(config)
    return packed(manager)


def _ceilings(manager: Any, limits: ProxyLimits, *, streaming: bool) -> None:
    manager.max_request_headers_kb.value = max(1, min(8192, limits.request_headers // _KIBIBYTE))
    manager.request_headers_timeout.CopyFrom(duration(limits.headers_timeout))
    if not streaming and limits.request_timeout != _NONE:
        manager.request_timeout.CopyFrom(duration(limits.request_timeout))
    manager.stream_idle_timeout.CopyFrom(duration(limits.stream_idle_timeout))
    common = manager.common_http_protocol_options
    common.idle_timeout.CopyFrom(duration(limits.connection_idle_timeout))
    if limits.connection_duration != _NONE:
        common.max_connection_duration.CopyFrom(duration(limits.connection_duration))
    common.max_headers_count.value = limits.request_header_count
    common.headers_with_underscores_action = common.REJECT_REQUEST
    http2 = manager.http2_protocol_options
    http2.max_concurrent_streams.value = limits.concurrent_streams
    http2.initial_stream_window_size.value = _STREAM_WINDOW_BYTES
    http2.initial_connection_window_size.value = _CONNECTION_WINDOW_BYTES
    http2.max_outbound_control_frames.value = _CONTROL_FRAMES
    http2.max_consecutive_inbound_frames_with_empty_payload.value = 1


def _without_client_claims(manager: Any) -> None:
    """The edge is the first proxy: what a client says about where it comes from is not passed on."""
    mutation = header_mutation_pb2.HeaderMutation()
    mutation.mutations.add(remove="x-forwarded-for")
    extension = manager.early_header_mutation_extensions.add()
    extension.name = "envoy.http.early_header_mutation.header_mutation"
    extension.typed_config.CopyFrom(packed(mutation))
