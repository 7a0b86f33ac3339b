"""Views: what a host may see. Hosts of equal views share one snapshot and its encoded bytes."""

from __future__ import annotations

from dataclasses import dataclass

from xds_agent.model import Host, Site

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
    """The part of a view that resources depend on today: places do not count until steering reads them."""

    serves: bool
    tenants: frozenset[str]
    datapath: bool = False


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


def audience_of(view: View) -> Audience:
    """Hosts that neither serve by Envoy nor by XDP get no service, so tenants make no difference to them."""
    serves = "ingress" in view.roles
    return Audience(serves, view.tenants if serves or view.datapath else frozenset(), view.datapath)


def _has_agent(host: Host) -> bool:
    return bool(host.roles & _PROXY_ROLES)
