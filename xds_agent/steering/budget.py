"""Whether every node can make the probes an inventory asks it for: steering's and those of its L4 tier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from xds_agent.model import Problem, Service, Site
from xds_agent.model.tiers import tier_of
from xds_agent.steering.asking import Ask, Pace, over_budget
from xds_agent.steering.site import Scene

_SECOND = timedelta(seconds=1)


def probe_problems(scene: Scene) -> list[Problem]:
    """A problem for each node that is asked for more than `limits.probes_per_second`, with the arithmetic."""
    site = scene.site
    asked: dict[str, dict[Ask, Pace]] = {node: dict(own) for node, own in scene.assignments.items()}
    for service in site.edge.services if site.datapath_hosts else ():
        if service.health is None or not tier_of(site, service).by_xdp:
            continue
        # Each host with a datapath checks every backend by itself.
        for host in site.datapath_hosts:
            if service.tenant in site.tenants_of(host):
                asked.setdefault(host.name, {}).update(_checks(site, service))
    found = over_budget(asked, float(site.edge.limits.probes_per_second))
    return [replace(one, origin=site.origin(one.path)) for one in found]


def _checks(site: Site, service: Service) -> Iterator[tuple[Ask, Pace]]:
    """What a host with a datapath asks the backends of a service."""
    health = service.health
    assert health is not None
    pace = Pace(health.interval / _SECOND, health.timeout / _SECOND)
    for one in site.endpoints_of(service):
        if not one.dns:
            host, statuses = health.host or service.name, tuple(sorted(health.statuses))
            yield (
                Ask(health.type, one.address, health.port or one.port, health.path, host, statuses),
                pace,
            )
