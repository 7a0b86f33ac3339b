"""Which tier serves a service, and why: the cheapest one that can do everything the inventory asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xds_agent.model.services import Service
from xds_agent.model.site import Site

Kind = Literal["xdp echo", "xdp", "tcp_proxy", "udp_proxy", "http"]

NAMES: dict[Kind, str] = {
    "xdp echo": "XDP (answered in the driver)",
    "xdp": "XDP load balancing",
    "tcp_proxy": "Envoy's tcp_proxy",
    "udp_proxy": "Envoy's udp_proxy",
    "http": "Envoy's HTTP",
}
BY_XDP = frozenset({"xdp", "xdp echo"})


@dataclass(frozen=True, slots=True)
class Tier:
    """Who serves, and the part of the inventory that decides."""

    kind: Kind
    why: str
    field: str = "protocol"

    @property
    def by_xdp(self) -> bool:
        """True when Envoy has no part in it."""
        return self.kind in BY_XDP

    @property
    def name(self) -> str:
        """For people."""
        return NAMES[self.kind]


def tier_of(site: Site, service: Service) -> Tier:
    """The tier of one service. Pure; the whole table of decisions stands here."""
    if service.is_http:
        return Tier("http", f"{service.protocol} is routed by domain and path")
    if service.protocol == "icmp":
        return Tier("xdp echo", "pings are answered without a packet buffer")
    proxy: Kind = "tcp_proxy" if service.protocol == "tcp" else "udp_proxy"
    if (needs := service.needs_proxy) is not None:
        field, why = needs
        return Tier(proxy, why, field)
    if service.tier == "l7":
        return Tier(proxy, "tier: l7 asks for it", "tier")
    if service.tier == "l4":
        return Tier("xdp", "tier: l4 asks for it", "tier")
    if service.listen is not None and service.listen.address == "vip":
        return Tier("xdp", "a vip is XDP's, and nothing asked for needs a proxy", "listen.address")
    if service.protocol == "tcp":
        return Tier("tcp_proxy", "on the hosts' own addresses TCP is Envoy's unless tier: l4 asks", "tier")
    if lacking := [host.name for host in site.carriers(service) if not host.has_datapath]:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        return Tier("udp_proxy", f"{lacking[0]}{more} has no datapath", "listen.address")
    if several := [host.name for host in site.carriers(service) if len(host.interfaces) > 1]:
        return Tier(
            "udp_proxy", f"{several[0]} has several xdp_interfaces, and XDP balances by one", "listen.address"
        )
    if not site.carriers(service):
        return Tier("udp_proxy", "no host with a datapath carries it", "listen.address")
    return Tier("xdp", "udp without anything that needs a proxy, and every host has a datapath")
