"""What one service contributes by itself, whichever host sees it."""

from __future__ import annotations

from typing import NamedTuple

from xds_agent.compile.clusters import cluster
from xds_agent.compile.datapath import marked_resource, reals_resource, service_resource
from xds_agent.compile.endpoints import load_assignment
from xds_agent.compile.maintenance import Windows
from xds_agent.compile.tcp import certificate_of
from xds_agent.compile.tls import certificate_secret, upstream_secrets
from xds_agent.model import ProxyLimits, Service, Site
from xds_agent.model.tiers import Tier, tier_of
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, Resource


class Parts(NamedTuple):
    """Resources of one service, and the secrets its cluster (and its own listener) ask for."""

    service: Service
    tier: Tier
    # Of Envoy's tiers; None and none of what XDP serves.
    cluster: Resource | None
    endpoints: Resource | None
    secrets: tuple[str, ...]
    # Of XDP's tiers: the service and its reals.
    datapath: tuple[Resource, Resource] | None = None
    # Of Envoy's tiers, what XDP and tc do beside it.
    marked: Resource | None = None


def parts_of(site: Site, service: Service, limits: ProxyLimits, windows: Windows) -> Parts:
    """Cluster and endpoint set; a service with a DNS name among its endpoints keeps them in its cluster.
    What XDP serves has neither, but a service and reals of the datapath."""
    resolved = site.endpoints_of(service)
    tier = tier_of(site, service)
    if tier.by_xdp:
        datapath = service_resource(service, tier), reals_resource(service, resolved, windows)
        return Parts(service, tier, None, None, (), datapath)
    assignment = load_assignment(service, resolved, windows)
    by_dns = any(one.dns for one in resolved)
    message = cluster(service, limits, assignment if by_dns else None)
    return Parts(
        service,
        tier,
        Resource.of(CLUSTER, service.name, message),
        None if by_dns else Resource.of(ENDPOINTS, service.name, assignment),
        _secrets(service),
        marked=marked_resource(service),
    )


def _secrets(service: Service) -> tuple[str, ...]:
    certificate = certificate_of(service) if service.protocol == "tcp" else None
    own = (certificate_secret(certificate),) if certificate is not None else ()
    return own + upstream_secrets(service.upstream_tls)
