"""Views: what a host may see. Hosts of equal views share one snapshot and its encoded bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from xds_agent.model import Host, Site
from xds_agent.steering import Region
from xds_agent.steering.deciding import Decisions

ENVOY_MINOR = "1.40"
"""Minor version of Envoy that resources are written for."""

_PROXY_ROLES = frozenset({"ingress", "egress", "l4"})


@dataclass(frozen=True, slots=True)
class View:
    """Roles, tenants and place of a host, and the Envoy it runs."""

    roles: frozenset[str]
    tenants: frozenset[str]
    cloud: str
    region: str
    zone: str
    datapath: bool = False
    envoy_minor: str = ENVOY_MINOR


@dataclass(frozen=True, slots=True)
class Audience:
    """The part of a view that resources depend on; a place counts where something was decided for it."""

    serves: bool
    tenants: frozenset[str]
    datapath: bool = False
    place: Region | None = None

    @property
    def anywhere(self) -> Audience:
        """The same without its place: what it shares with proxies elsewhere."""
        return self if self.place is None else replace(self, place=None)


def view_of(site: Site, host: Host) -> View:
    """The view of one host."""
    return View(
        roles=host.roles & _PROXY_ROLES,
        tenants=site.tenants_of(host),
        cloud=host.cloud or "",
        region=host.region or "",
        zone=host.zone or "",
        datapath=host.has_datapath,
    )


def views_of(site: Site) -> dict[str, View]:
    """Views of every host that has a node agent, by name."""
    return {
        name: view_of(site, site.hosts[name]) for name in sorted(site.hosts) if _has_agent(site.hosts[name])
    }


def audience_of(view: View, decisions: Decisions) -> Audience:
    """Hosts that neither serve by Envoy nor by XDP get no service, so tenants and places make no difference
    to them."""
    serves = "ingress" in view.roles
    if not serves and not view.datapath:
        return Audience(False, frozenset())
    place = Region(view.cloud, view.region)
    return Audience(serves, view.tenants, view.datapath, place if place in decisions else None)


def _has_agent(host: Host) -> bool:
    return bool(host.roles & _PROXY_ROLES)
