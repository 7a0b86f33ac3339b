"""TCP services on ports of their own: plain, TLS opened here, or TLS passed through by its server name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from xds_agent.compile.encoding import Family, duration, listen_address, packed
from xds_agent.compile.server_names import server_name_matcher, tls_inspector
from xds_agent.compile.tls import Policy, downstream_tls
from xds_agent.model import ProxyLimits, Service

_PROXY = "envoy.filters.network.tcp_proxy"
_IDLE = timedelta(hours=1)


def listener_name(port: int) -> str:
    """Name of the listener of a TCP port."""
    return f"tcp-{port}"


def certificate_of(service: Service) -> str | None:
    """Certificate with which the edge opens the TLS of a TCP service; None where it does not."""
    return None if service.listen is None else service.listen.certificate


def tcp_listener(port: int, family: Family, services: Sequence[Service], limits: ProxyLimits) -> Any:
    """Listener of the services that share a port: one, or several told apart by server name."""
    message = listener_pb2.Listener(
        name=listener_name(port), address=listen_address(port, family), stat_prefix=listener_name(port)
    )
    message.per_connection_buffer_limit_bytes.value = limits.buffer
    names: dict[str, str] = {}
    for service in sorted(services, key=lambda one: one.name):
        assert service.listen is not None
        _chain(message.filter_chains.add(name=service.name), service, limits)
        names.update(dict.fromkeys(service.listen.sni, service.name))
    if names:
        message.listener_filters.add().CopyFrom(tls_inspector())
        message.listener_filters_timeout.CopyFrom(duration(limits.handshake_timeout))
        # By matcher rather than by server_names: a name that comes or goes closes no connection.
        message.filter_chain_matcher.CopyFrom(server_name_matcher(names))
    return message


def _chain(chain: Any, service: Service, limits: ProxyLimits) -> None:
    proxy = tcp_proxy_pb2.TcpProxy(stat_prefix=service.name, cluster=service.name)
    proxy.idle_timeout.CopyFrom(duration(service.idle_timeout if service.idle_timeout is not None else _IDLE))
    chain.filters.add(name=_PROXY).typed_config.CopyFrom(packed(proxy))
    certificate = certificate_of(service)
    if certificate is not None:
        chain.transport_socket.CopyFrom(downstream_tls(Policy(certificate), ()))
        chain.transport_socket_connect_timeout.CopyFrom(duration(limits.handshake_timeout))
