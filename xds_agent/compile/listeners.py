"""The edge's own listeners: plain HTTP, and HTTPS and gRPC with one filter chain per TLS policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from envoy.config.listener.v3 import listener_pb2

from xds_agent.compile import http_manager
from xds_agent.compile.encoding import Family, duration, listen_address
from xds_agent.compile.server_names import server_name_matcher, tls_inspector
from xds_agent.compile.tls import Policy, downstream_tls
from xds_agent.model import ProxyLimits

PLAIN = "http"
DEFAULT_CHAIN = "default"


class Kind(NamedTuple):
    """One of the TLS listeners."""

    name: str
    alpn: tuple[str, ...]
    streaming: bool


HTTPS = Kind("https", ("h2", "http/1.1"), streaming=False)
GRPC = Kind("grpc", ("h2",), streaming=True)
KINDS = (HTTPS, GRPC)


def route_name(listener: str, chain: str) -> str:
    """Name of the route configuration of a chain."""
    return f"{listener}/{chain}"


def plain_listener(port: int, family: Family, limits: ProxyLimits) -> Any:
    """Plain HTTP: redirects, and answers to ACME."""
    message = listener_pb2.Listener(name=PLAIN, address=listen_address(port, family), stat_prefix=PLAIN)
    message.per_connection_buffer_limit_bytes.value = limits.buffer
    manager = http_manager.http_manager(PLAIN, PLAIN, limits, tls=False)
    message.filter_chains.add(name=PLAIN).filters.add(name=http_manager.NAME).typed_config.CopyFrom(manager)
    return message


def tls_listener(
    kind: Kind, port: int, family: Family, names: Mapping[Policy, Sequence[str]], limits: ProxyLimits
) -> Any:
    """HTTPS or gRPC: a chain per policy, chosen by server name; any other connection meets only 421."""
    message = listener_pb2.Listener(
        name=kind.name, address=listen_address(port, family), stat_prefix=kind.name
    )
    message.per_connection_buffer_limit_bytes.value = limits.buffer
    message.listener_filters.add().CopyFrom(tls_inspector())
    message.listener_filters_timeout.CopyFrom(duration(limits.handshake_timeout))
    policies = sorted(names)
    for policy in policies:
        _chain(message.filter_chains.add(name=policy.name), kind, policy, policy.name, limits)
    # It has to show some certificate before it can say 421: the first one, and it asks for none.
    shown = Policy(policies[0].certificate)
    message.default_filter_chain.name = DEFAULT_CHAIN
    _chain(message.default_filter_chain, kind, shown, DEFAULT_CHAIN, limits)
    chains = {name: policy.name for policy in policies for name in names[policy]}
    message.filter_chain_matcher.CopyFrom(server_name_matcher(chains))
    return message


def _chain(chain: Any, kind: Kind, policy: Policy, name: str, limits: ProxyLimits) -> None:
    manager = http_manager.http_manager(
        kind.name, route_name(kind.name, name), limits, tls=True, streaming=kind.streaming
    )
    chain.filters.add(name=http_manager.NAME).typed_config.CopyFrom(manager)
    chain.transport_socket.CopyFrom(downstream_tls(policy, kind.alpn))
    chain.transport_socket_connect_timeout.CopyFrom(duration(limits.handshake_timeout))
