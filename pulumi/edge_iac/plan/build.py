"""plan_site: a checked site in, everything that is to be made out. Same site, same plan."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import replace

from edge_iac.catalogue.regions import ZONES
from edge_iac.catalogue.sizes import offered
from edge_iac.plan.model import Host, Mesh, Plan, Region, Subnet, Tier
from edge_iac.plan.quotas import check_quotas
from edge_iac.plan.reachability import NODE_ROLES, TIER_OF, Elsewhere, rules_of
from edge_iac.site import CloudName, RegionSite, Role, Site
from edge_iac.site.front import front_ports
from edge_iac.site.names import cloud_name, groups_of, host_name
from edge_iac.site.places import regions_of

PART_BITS = 4
"""A region's network has 2**4 parts."""
FIRST_PART: dict[Tier, int] = {"outer": 0, "inner": 8}
GATEWAYS = 2
"""Hosts of a region where tunnels end; role `interconnect` takes no more."""
_Subnets = dict[tuple[CloudName, str], tuple[Subnet, ...]]
_ZONAL_SUBNETS = frozenset({"aws"})
"""Clouds whose subnets lie in one zone; the others' span the region."""


def plan_site(site: Site) -> Plan:
    """What is to be made for ``site``, cloud by cloud, regions by name.

    Raises ModelError where it is more than a cloud takes.
    """
    places = list(regions_of(site))
    subnets: _Subnets = {
        (cloud, region): _subnets(cloud, said, _zones(cloud, region, said))
        for cloud, region, said, _ in places
    }
    regions: list[Region] = []
    for cloud, region, said, _ in places:
        zones = _zones(cloud, region, said)
        here = subnets[cloud, region]
        hosts = _hosts(site, cloud, region, said, zones, here)
        roles: list[Role] = sorted({host.role for host in hosts})
        front = said.load_balancer and "ingress" in roles
        others = subnets.keys() - {(cloud, region)}
        mesh = _mesh(site, said, hosts)
        rules = rules_of(
            site, roles=roles, elsewhere=_elsewhere(site, others), ipv6=said.ipv6, front=front,
            transit=said.network if mesh else None,
        )  # fmt: skip
        made = Region(
            site=site.name,
            cloud=cloud,
            name=region,
            network=said.network,
            ipv6=said.ipv6,
            zones=zones,
            subnets=here,
            hosts=hosts,
            rules=rules,
            front=front,
            front_ports=front_ports(site) if front else (),
            health_port=site.ports.agent_metrics,
            image=said.image,
            tags={**site.tags, "edge-site": site.name},
            mesh=mesh,
            released=frozenset(name for name, what in said.addresses.items() if what == "released"),
            leaving=said.leaving,
        )
        regions.append(replace(made, idle=_idle(made, said)))
    check_quotas(regions)
    return Plan(site=site, regions=tuple(regions))


def _zones(cloud: CloudName, region: str, said: RegionSite) -> tuple[str, ...]:
    if said.zone_names:
        return said.zone_names
    # One place without a name, where the region has no zones.
    return ZONES[cloud][region][: said.zones] or ("",)


def _subnets(cloud: CloudName, said: RegionSite, zones: tuple[str, ...]) -> tuple[Subnet, ...]:
    parts = list(ipaddress.IPv4Network(said.network).subnets(prefixlen_diff=PART_BITS))
    places = zones if cloud in _ZONAL_SUBNETS else ("",)
    return tuple(
        Subnet(
            name=f"{tier}-{number + 1}",
            tier=tier,
            zone=zone,
            cidr=str(parts[first + number]),
            index=first + number,
        )
        for tier, first in FIRST_PART.items()
        for number, zone in enumerate(places)
    )


def _hosts(
    site: Site,
    cloud: CloudName,
    region: str,
    said: RegionSite,
    zones: tuple[str, ...],
    subnets: tuple[Subnet, ...],
) -> tuple[Host, ...]:
    found = []
    types = offered(cloud, region)
    for pool, what in said.hosts.items():
        tier = TIER_OF[what.role]
        own = [subnet for subnet in subnets if subnet.tier == tier]
        for number in range(1, what.count + 1):
            name = host_name(pool=pool, cloud=cloud, region=region, number=number)
            place = (number - 1) % len(zones)
            found.append(
                Host(
                    name=name,
                    cloud_name=cloud_name(site.name, name),
                    pool=pool,
                    role=what.role,
                    groups=groups_of(what.role, what.groups),
                    size=what.size,
                    instance=types[what.size],
                    disk_gb=what.disk_gb,
                    zone=zones[place],
                    subnet=own[place % len(own)].name,
                    public=tier == "outer",
                    forwards=what.forwards if what.forwards is not None else what.role in NODE_ROLES,
                    renew=name in said.renew,
                )
            )
    return tuple(found)


def _idle(region: Region, said: RegionSite) -> tuple[str, ...]:
    """Addresses that the site names and that no host and no load balancer has."""
    used = {*region.vips, *(host.name for host in region.hosts if host.public)}
    return tuple(name for name in said.addresses if name not in used)


def _mesh(site: Site, said: RegionSite, hosts: tuple[Host, ...]) -> Mesh | None:
    remote = tuple(other.network for _, _, other, _ in regions_of(site) if other is not said)
    if site.interconnect.type != "wireguard" or not remote:
        return None
    able = sorted(host.name for host in hosts if host.role == "ingress" and host.forwards)
    return Mesh(gateways=tuple(able[:GATEWAYS]), remote=remote)


def _elsewhere(site: Site, elsewhere: Collection[tuple[CloudName, str]]) -> Elsewhere:
    ranges: dict[Role, tuple[str, ...]] = {}
    for cloud, region, said, _ in regions_of(site):
        roles: list[Role] = sorted({pool.role for pool in said.hosts.values()})
        for role in roles:
            if (cloud, region) in elsewhere:
                ranges[role] = (*ranges.get(role, ()), _half(said.network, TIER_OF[role]))
    return Elsewhere(ranges)


def _half(network: str, tier: Tier) -> str:
    """A tier's parts of a network as one range: AWS counts rules, and takes sixty for a role."""
    lower, upper = ipaddress.IPv4Network(network).subnets(prefixlen_diff=1)
    return str(lower if tier == "outer" else upper)
