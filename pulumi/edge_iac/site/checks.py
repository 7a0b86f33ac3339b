"""What a site file means: everything that can be known to fail before a cloud is asked."""

import ipaddress
from datetime import timedelta

from edge_iac.catalogue.images import unpinned
from edge_iac.catalogue.regions import ZONES
from edge_iac.catalogue.sizes import offered
from edge_iac.site.front import front_ports, is_fronted
from edge_iac.site.lasting import check_lasting
from edge_iac.site.model import RegionSite, Site
from edge_iac.site.names import ROLE_GROUPS, too_long
from edge_iac.site.places import Add, regions_of
from edge_iac.site.ports import check_ports
from edge_iac.site.reach import check_reach
from edge_iac.site.refused import check_refused
from xds_agent.model.words import instead_of

MIN_PREFIX, MAX_PREFIX = 16, 24
MOST_MESHED = 32
_PRIVATE = tuple(
    map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
)
# What every subnet keeps for itself, Azure and AWS keep five; a balancer wants some too.
_KEPT_ADDRESSES = 13
# Parts of a network are zonal in AWS; elsewhere a tier's hosts of all zones share one.
_ZONAL = frozenset({"aws"})
_OUTER = frozenset({"ingress", "egress"})
# Those of Ansible, those of clouds, and those that say what the edge does on a host.
_OWN_GROUPS = frozenset(
    {"all", "ungrouped", *ZONES, *(group for groups in ROLE_GROUPS.values() for group in groups)}
)
AWS_MOST_TARGETS = 500
"""Targets of a network load balancer that serves across zones; a host is one for each port."""


def run_checks(site: Site, add: Add, *, stem: str) -> None:
    """Calls ``add`` (path, what is wrong, the fix) for everything that is wrong."""
    if site.name != stem:
        add("name", f"'{site.name}' is not the name of the file", f"write name: {stem}, or rename the file")
    if not any(True for _ in regions_of(site)):
        add("clouds", "names no region", "add clouds.aws.regions, clouds.gcp.regions or clouds.azure.regions")
    for cloud, region, one, path in regions_of(site):
        _check_place(cloud, region, one, path, add)
        _check_network(one, path, add)
        _check_pools(cloud, region, one, path, add)
        check_lasting(cloud, region, one, path, add)
        _check_front(site, cloud, one, path, add)
    _check_overlaps(site, add)
    _check_control(site, add)
    check_reach(site, add)
    check_ports(site, add)
    _check_dns(site, add)
    _check_interconnect(site, add)
    check_refused(site, add)
    for path, message, fix in too_long(site):
        add(path, message, fix)


def _check_place(cloud: str, region: str, one: RegionSite, path: str, add: Add) -> None:
    zones = ZONES[cloud].get(region)
    if zones is None:
        fix = instead_of(region, ZONES[cloud], "regions")
        add(path, f"{cloud} has no region '{region}' that this catalogue knows", fix)
        return
    for name in one.zone_names:
        if name not in zones:
            fix = instead_of(name, zones, "zones") or f"there are: {', '.join(zones) or 'none'}"
            add(f"{path}.zone_names", f"{region} has no zone '{name}'", fix)
        if one.zone_names.count(name) > 1:
            fix = "name each zone once; a pool's count says how many hosts there are"
            add(f"{path}.zone_names", f"zone '{name}' is there {one.zone_names.count(name)} times", fix)
    wanted = len(one.zone_names) or one.zones
    # A region of Azure without zones still takes hosts, in no zone at all.
    if wanted > max(1, len(zones)):
        there = f"{len(zones)} ({', '.join(zones)})" if zones else "none"
        add(
            f"{path}.zones",
            f"{wanted} zones are wanted, {region} has {there}",
            f"use at most {max(1, len(zones))}",
        )
    if one.ipv6 and cloud == "azure":
        add(f"{path}.ipv6", "IPv6 in Azure is not made by this program", "leave ipv6 out of regions of Azure")
    if one.image is not None and (why := unpinned(cloud, one.image)):
        add(f"{path}.image", f"'{one.image}' {why}", "give one exact image")


def _check_network(one: RegionSite, path: str, add: Add) -> None:
    network = ipaddress.IPv4Network(one.network)
    if not MIN_PREFIX <= network.prefixlen <= MAX_PREFIX:
        add(
            f"{path}.network", f"{network} is a /{network.prefixlen}", f"use a /{MIN_PREFIX} to /{MAX_PREFIX}"
        )
    if not any(network.subnet_of(private) for private in _PRIVATE):
        fix = "use a range within 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10"
        add(f"{path}.network", f"{network} is not private", fix)


def _check_pools(cloud: str, region: str, one: RegionSite, path: str, add: Add) -> None:
    there = offered(cloud, region)
    for name, pool in one.hosts.items():
        if region in ZONES[cloud] and pool.size not in there:
            fix = f"sizes there: {', '.join(there)}"
            add(f"{path}.hosts.{name}.size", f"{region} has no hosts of size '{pool.size}'", fix)
        for group in pool.groups:
            if group in _OWN_GROUPS - set(ROLE_GROUPS[pool.role]):
                fix = "choose another name; what hosts do for the edge is said by role"
                words = f"'{group}' is a group that the inventory makes itself"
                add(f"{path}.hosts.{name}.groups", words, fix)
    room = max(0, 2 ** (32 - ipaddress.IPv4Network(one.network).prefixlen - 4) - _KEPT_ADDRESSES)
    zones = (len(one.zone_names) or one.zones) if cloud in _ZONAL else 1
    for outer in (True, False):
        # Every pool begins in the first zone, so that is where most hosts are.
        own = {name: pool for name, pool in one.hosts.items() if (pool.role in _OUTER) is outer}
        wanted = sum(-(-pool.count // zones) for pool in own.values())
        if wanted > room:
            place = f"{path}.hosts.{next(iter(own))}.count" if len(own) == 1 else f"{path}.hosts"
            many = f"{wanted} hosts of {', '.join(own)}{' in one zone' if zones > 1 else ''}"
            words = f"{many} do not fit a subnet of {one.network}, which has room for {room}"
            add(place, words, "use a larger network")


def _check_front(site: Site, cloud: str, one: RegionSite, path: str, add: Add) -> None:
    if cloud != "aws" or not one.load_balancer:
        return
    hosts = sum(pool.count for pool in one.hosts.values() if pool.role == "ingress")
    ports = len({port for _, port in front_ports(site)})
    if hosts * ports > AWS_MOST_TARGETS:
        words = (
            f"{hosts} ingress hosts on {ports} ports are {hosts * ports} targets, "
            f"and a load balancer of AWS takes {AWS_MOST_TARGETS}"
        )
        most = AWS_MOST_TARGETS // ports
        fix = f"use at most {most} here, more regions, fewer ports, or say load_balancer: false"
        add(f"{path}.hosts", words, fix)


def _check_overlaps(site: Site, add: Add) -> None:
    seen: list[tuple[ipaddress.IPv4Network, str]] = []
    for cloud, region, one, path in regions_of(site):
        network = ipaddress.IPv4Network(one.network)
        for other, where in seen:
            if network.overlaps(other):
                fix = "give every region a range of its own"
                add(f"{path}.network", f"{network} of {cloud} {region} overlaps {other} of {where}", fix)
        seen.append((network, f"{cloud} {region}"))


def _check_control(site: Site, add: Add) -> None:
    roles = [pool.role for _, _, one, _ in regions_of(site) for pool in one.hosts.values()]
    if not roles:
        fix = "add a pool such as control: {role: control}; pulumi destroy takes a whole site away"
        add("clouds", "no region has hosts", fix)
    elif "control" not in roles:
        add("clouds", "no pool has role: control", "add a pool such as control: {role: control}")


def _check_interconnect(site: Site, add: Add) -> None:
    if site.interconnect.type != "wireguard":
        return
    places = list(regions_of(site))
    if len(places) > MOST_MESHED:
        add(
            "interconnect.type",
            f"a mesh takes {MOST_MESHED} regions, these are {len(places)}",
            "join some otherwise",
        )
    for _, region, one, path in places:
        able = [pool for pool in one.hosts.values() if pool.role == "ingress" and pool.forwards is not False]
        if not able:
            fix = "add a pool with role: ingress that may forward, or leave interconnect out"
            add(f"{path}.hosts", f"{region} has no ingress host where tunnels could end", fix)


def _check_dns(site: Site, add: Add) -> None:
    if site.dns is None:
        return
    if site.dns.provider not in site.clouds.named():
        fix = instead_of(site.dns.provider, site.clouds.named(), "clouds of this site")
        add("dns.provider", f"the site has no cloud '{site.dns.provider}'", fix)
    if site.dns.provider == "azure" and site.dns.zone.count("/") != 1:
        add("dns.zone", f"'{site.dns.zone}' does not say its resource group", "write resource-group/zone")
    if site.dns.ttl < timedelta(seconds=1) or site.dns.ttl % timedelta(seconds=1):
        add("dns.ttl", "is no whole number of seconds", "write one such as 60s")
    if not is_fronted(site):
        add(
            "dns",
            "no region has a load balancer before ingress hosts to point at",
            "leave dns out, or add one",
        )
