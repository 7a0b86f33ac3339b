"""UDP services on ports of their own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.udp.udp_proxy.v3 import route_pb2, udp_proxy_pb2

from xds_agent.compile.encoding import Family, duration, listen_address, packed
from xds_agent.model import Service

_PROXY = "envoy.filters.udp_listener.udp_proxy"
_IDLE = timedelta(minutes=1)


def listener_name(port: int) -> str:
    """Name of the listener of a UDP port."""
    return f"udp-{port}"


def udp_listener(port: int, family: Family, service: Service) -> Any:
    """Listener of a UDP service; a session is a client's address and port, until it has been silent."""
    message = listener_pb2.Listener(
        name=listener_name(port),
        address=listen_address(port, family, udp=True),
        stat_prefix=listener_name(port),
    )
    message.udp_listener_config.SetInParent()
    proxy = udp_proxy_pb2.UdpProxyConfig(stat_prefix=service.name)
    proxy.idle_timeout.CopyFrom(duration(service.idle_timeout if service.idle_timeout is not None else _IDLE))
    action = proxy.matcher.on_no_match.action
    action.name = "route"
    action.typed_config.CopyFrom(packed(route_pb2.Route(cluster=service.name)))
    message.listener_filters.add(name=_PROXY).typed_config.CopyFrom(packed(proxy))
    return message
