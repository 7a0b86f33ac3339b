"""What a chain or route asks of the client, and where chains that are not HTTP lead."""

from __future__ import annotations

from typing import Any

from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.filters.udp.udp_proxy.v3 import route_pb2, udp_proxy_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from xds_agent.explain.route_match import NotJudged

_RBAC = "envoy.filters.http.rbac"


def needs_certificate(chain: Any) -> bool:
    """True when the chain's TLS refuses clients without a certificate."""
    config = chain.transport_socket.typed_config
    if not config.type_url.endswith("DownstreamTlsContext"):
        return False
    return bool(tls_pb2.DownstreamTlsContext.FromString(config.value).require_client_certificate.value)


def refusal(*owners: Any, certificate: bool) -> str:
    """Why the RBAC of the first owner that has one (route, host, table) answers 403; empty if it does not."""
    for owner in owners:
        if _RBAC not in owner.typed_per_filter_config:
            continue
        per_route = http_rbac_pb2.RBACPerRoute.FromString(owner.typed_per_filter_config[_RBAC].value)
        if not per_route.rbac.HasField("rules") or _allowed(per_route.rbac.rules, certificate=certificate):
            return ""
        if not certificate and _allowed(per_route.rbac.rules, certificate=True):
            return "it asks for a client certificate and there is none"
        return "it lets nobody in (authentication by jwt or token is not available in this version)"
    return ""


def _allowed(rules: Any, *, certificate: bool) -> bool:
    hit = any(
        any(_principal(one, certificate=certificate) for one in policy.principals)
        for policy in rules.policies.values()
    )
    return hit if rules.action == rbac_pb2.RBAC.ALLOW else not hit


def _principal(principal: Any, *, certificate: bool) -> bool:
    kind = principal.WhichOneof("identifier")
    if kind == "any":
        return True
    if kind == "authenticated":
        # Tried with Envoy: without a name it takes every TLS client, with or without a certificate.
        return certificate or not principal.authenticated.HasField("principal_name")
    if kind == "not_id":
        return not _principal(principal.not_id, certificate=certificate)
    if kind == "and_ids":
        return all(_principal(one, certificate=certificate) for one in principal.and_ids.ids)
    if kind == "or_ids":
        return any(_principal(one, certificate=certificate) for one in principal.or_ids.ids)
    raise NotJudged(f"a rule about {kind}")


def tcp_proxy(chain: Any) -> Any:
    """The chain's tcp_proxy, or None."""
    for one in chain.filters:
        if one.typed_config.type_url.endswith("TcpProxy"):
            return tcp_proxy_pb2.TcpProxy.FromString(one.typed_config.value)
    return None


def udp_cluster(listener: Any) -> str:
    """The cluster a UDP listener's datagrams go to."""
    for one in listener.listener_filters:
        if not one.typed_config.type_url.endswith("UdpProxyConfig"):
            continue
        config = udp_proxy_pb2.UdpProxyConfig.FromString(one.typed_config.value)
        if config.WhichOneof("route_specifier") == "cluster":
            return str(config.cluster)
        action = config.matcher.on_no_match.action.typed_config
        if action.type_url.endswith("udp_proxy.v3.Route"):
            return str(route_pb2.Route.FromString(action.value).cluster)
    raise NotJudged("a UDP listener without a udp_proxy")
