"""Clusters: how a service's backends are found, checked, taken out, limited and spoken to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3.base_pb2 import RequestMethod
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.v3 import http_pb2

from xds_agent.compile.encoding import ADS, duration, packed
from xds_agent.compile.tls import upstream_tls
from xds_agent.model import Ejection, Health, ProxyLimits, Service, ServiceLimits

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# Below the keep-alive time of common servers: no request goes out on a connection that is just closing.
_UPSTREAM_IDLE = timedelta(seconds=30)
_TCP_HANDSHAKE_KEEPALIVE_S = 60
_RETRY_BUDGET_PERCENT = 20.0
# Below so many percent of endpoints being well, over all priorities, requests go to all of them.
_PANIC_PERCENT = 1.0
_DNS_REFRESH = timedelta(seconds=5)
_DNS_RETRY = (timedelta(seconds=1), timedelta(seconds=10))

_POLICIES = {
    "least_request": cluster_pb2.Cluster.LEAST_REQUEST,
    "round_robin": cluster_pb2.Cluster.ROUND_ROBIN,
    "random": cluster_pb2.Cluster.RANDOM,
}


def cluster(service: Service, limits: ProxyLimits, assignment: Any | None) -> Any:
    """Cluster of a service. `assignment`: its endpoints, where DNS names keep them out of EDS; else None."""
    message = cluster_pb2.Cluster(
        name=service.name,
        lb_policy=_POLICIES[service.balance],
        connect_timeout=duration(service.connect_timeout),
        # What the inventory takes out is out, even while it still answers its health checks.
        ignore_health_on_host_removal=True,
    )
    message.per_connection_buffer_limit_bytes.value = limits.buffer
    if assignment is None:
        message.type = cluster_pb2.Cluster.EDS
        message.eds_cluster_config.eds_config.CopyFrom(ADS)
    else:
        _by_dns(message, assignment)
    message.common_lb_config.locality_weighted_lb_config.SetInParent()
    # Envoy's own default (50) would send to the dead while every other endpoint still lives.
    panic = 0.0 if service.steering.when_all_down == "fail" else _PANIC_PERCENT
    message.common_lb_config.healthy_panic_threshold.value = panic
    if service.health is not None:
        _health_check(message.health_checks.add(), service, service.health)
    if service.ejection.max_percent:
        _outliers(message.outlier_detection, service.ejection)
    _circuit_breaker(message.circuit_breakers.thresholds.add(), service.limits)
    message.upstream_connection_options.tcp_keepalive.keepalive_time.value = _TCP_HANDSHAKE_KEEPALIVE_S
    if service.is_http:
        message.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(_HTTP[service.upstream_http2])
    if service.upstream_tls is not None:
        message.transport_socket.CopyFrom(
            upstream_tls(service.upstream_tls, http2=service.is_http and service.upstream_http2)
        )
    return message


def _by_dns(message: Any, assignment: Any) -> None:
    """Every address of every name, refreshed as its TTL says; when resolving fails the last answer stays."""
    message.type = cluster_pb2.Cluster.STRICT_DNS
    message.load_assignment.CopyFrom(assignment)
    message.respect_dns_ttl = True
    message.dns_lookup_family = cluster_pb2.Cluster.V4_PREFERRED
    message.dns_refresh_rate.CopyFrom(duration(_DNS_REFRESH))
    message.dns_failure_refresh_rate.base_interval.CopyFrom(duration(_DNS_RETRY[0]))
    message.dns_failure_refresh_rate.max_interval.CopyFrom(duration(_DNS_RETRY[1]))


def _http_options(http2: bool) -> Any:
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.common_http_protocol_options.idle_timeout.CopyFrom(duration(_UPSTREAM_IDLE))
    explicit = options.explicit_http_config
    if http2:
        explicit.http2_protocol_options.connection_keepalive.interval.seconds = 30
        explicit.http2_protocol_options.connection_keepalive.timeout.seconds = 5
    else:
        explicit.http_protocol_options.SetInParent()
    return packed(options)


_HTTP = {http2: _http_options(http2) for http2 in (False, True)}


def _health_check(check: Any, service: Service, health: Health) -> None:
    check.interval.CopyFrom(duration(health.interval))
    # A backend nobody asks for must be known to be well when its turn comes.
    check.no_traffic_interval.CopyFrom(check.interval)
    check.timeout.CopyFrom(duration(health.timeout))
    check.unhealthy_threshold.value = health.unhealthy_after
    check.healthy_threshold.value = health.healthy_after
    check.interval_jitter_percent = 10
    if health.type == "tcp":
        check.tcp_health_check.SetInParent()
    elif health.type == "grpc":
        check.grpc_health_check.service_name = health.grpc_service
        check.grpc_health_check.authority = service.name
    else:
        _http_check(check.http_health_check, service, health)


def _http_check(http: Any, service: Service, health: Health) -> None:
    http.path = health.path
    http.host = health.host or service.name
    http.method = RequestMethod.Value("GET")
    if service.is_http and service.upstream_http2:
        http.codec_client_type = http_pb2.CodecClientType.HTTP2
    for status in sorted(set(health.statuses)):
        http.expected_statuses.add(start=status, end=status + 1)


def _outliers(outliers: Any, ejection: Ejection) -> None:
    # One count for what backends answer and for what became of connections and time: counted apart, each
    # connection that opens ends a row of timeouts, and a backend that is slow to a lone client never leaves.
    for field in ("consecutive_5xx", "consecutive_gateway_failure"):
        getattr(outliers, field).value = ejection.consecutive_errors
    # 5xx of the application is its answer; only what says that the backend itself is away ejects.
    outliers.enforcing_consecutive_5xx.value = 0
    outliers.enforcing_consecutive_gateway_failure.value = 100
    outliers.enforcing_success_rate.value = 0
    outliers.interval.CopyFrom(duration(ejection.interval))
    outliers.base_ejection_time.CopyFrom(duration(ejection.time))
    outliers.max_ejection_percent.value = ejection.max_percent
    # In a brownout the health path still answers: a good check must not bring the backend back.
    outliers.successful_active_health_check_uneject_host.value = False


def _circuit_breaker(thresholds: Any, limits: ServiceLimits) -> None:
    thresholds.max_connections.value = limits.connections
    thresholds.max_pending_requests.value = limits.pending_requests
    thresholds.max_requests.value = limits.requests
    # A share of what is in flight rather than a number: retries never become the load.
    thresholds.retry_budget.budget_percent.value = _RETRY_BUDGET_PERCENT
    thresholds.retry_budget.min_retry_concurrency.value = limits.retries
