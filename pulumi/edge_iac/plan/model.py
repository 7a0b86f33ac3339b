"""What is to be made, cloud by cloud, in words of no cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from edge_iac.catalogue.sizes import InstanceType
from edge_iac.site import CloudName, Role, Site
from edge_iac.site.places import in_the_file

Tier = Literal["outer", "inner"]
"""outer: hosts have a public address each; inner: hosts reach out through NAT, nobody reaches in."""
Protocol = Literal["tcp", "udp", "icmp"]
Span = tuple[int, int]
"""First and last port."""


@dataclass(frozen=True, slots=True)
class Subnet:
    """A part of a region's network."""

    name: str
    """'outer-1': tier and number, unique within the region."""
    tier: Tier
    zone: str
    """The zone it lies in; empty where subnets span the region."""
    cidr: str
    index: int
    """Which of the sixteen parts of the network it is; IPv6 prefixes are counted by it too."""


@dataclass(frozen=True, slots=True)
class Networks:
    """Sources by their addresses, all of one family."""

    family: Literal[4, 6]
    ranges: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Roles:
    """Sources by what they are: hosts of these roles in the same region."""

    roles: tuple[Role, ...]


@dataclass(frozen=True, slots=True)
class Probes:
    """The cloud's own health checks."""


Source = Networks | Roles | Probes


@dataclass(frozen=True, slots=True)
class Rule:
    """Somebody may open connections to the hosts of a role. What no rule allows is refused."""

    name: str
    target: Role
    source: Source
    protocol: Protocol
    ports: tuple[Span, ...]
    """Empty for icmp."""
    why: str


@dataclass(frozen=True, slots=True)
class Host:
    """A host to be made."""

    name: str
    """Its name in the inventory."""
    cloud_name: str
    pool: str
    role: Role
    groups: tuple[str, ...]
    size: str
    instance: InstanceType
    disk_gb: int
    zone: str
    subnet: str
    public: bool
    forwards: bool
    renew: bool = False
    """Whether it is replaced where what it was given at its first boot is not what the site says now."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """A region's part in the mesh between regions."""

    gateways: tuple[str, ...]
    """Hosts where its tunnels end, the first choice first."""
    remote: tuple[str, ...]
    """Networks of the other regions, which are reached through them."""


@dataclass(frozen=True)
class Region:
    """A region to be made."""

    site: str
    cloud: CloudName
    name: str
    network: str
    ipv6: bool
    zones: tuple[str, ...]
    subnets: tuple[Subnet, ...]
    hosts: tuple[Host, ...]
    rules: tuple[Rule, ...]
    front: bool
    """Whether a load balancer stands before its ingress hosts."""
    front_ports: tuple[tuple[Literal["tcp", "udp"], int], ...]
    health_port: int
    image: str | None
    tags: Mapping[str, str]
    mesh: Mesh | None = None
    idle: tuple[str, ...] = ()
    """Names of public addresses that have no host."""
    released: frozenset[str] = frozenset()
    """Names of addresses that have lost their protection."""
    leaving: bool = False
    """Whether nothing in it is protected any more."""
    moves: bool = False
    """Whether its network is there with another range and without hosts: Azure's is made anew for it."""

    def keeps(self, address: str) -> bool:
        """Whether an address is protected, and stays in the cloud when the stack forgets it."""
        return not self.leaving and address not in self.released

    @cached_property
    def vips(self) -> tuple[str, ...]:
        """Names of the load balancer's addresses: one, in AWS one per zone."""
        if not self.front:
            return ()
        if self.cloud != "aws":
            return (f"vip-{self.name}",)
        return tuple(f"vip-{self.name}-{number + 1}" for number in range(len(self.in_tier("outer"))))

    @cached_property
    def roles(self) -> tuple[Role, ...]:
        """Roles that its hosts have, sorted."""
        found: list[Role] = sorted({host.role for host in self.hosts})
        return tuple(found)

    @cached_property
    def used_subnets(self) -> frozenset[str]:
        """Names of subnets that hosts stand in."""
        return frozenset(host.subnet for host in self.hosts)

    def in_tier(self, tier: Tier) -> tuple[Subnet, ...]:
        """Its subnets of a tier."""
        return tuple(subnet for subnet in self.subnets if subnet.tier == tier)

    def of_role(self, role: Role) -> tuple[Host, ...]:
        """Its hosts of a role."""
        return tuple(host for host in self.hosts if host.role == role)


@dataclass(frozen=True)
class Plan:
    """Everything that is to be made for a site."""

    site: Site
    regions: tuple[Region, ...]

    @cached_property
    def by_cloud(self) -> dict[CloudName, tuple[Region, ...]]:
        """Regions of each cloud, by name."""
        found: dict[CloudName, tuple[Region, ...]] = {}
        for region in self.regions:
            found[region.cloud] = (*found.get(region.cloud, ()), region)
        return found

    @cached_property
    def joined(self) -> tuple[Region, ...]:
        """Regions that tunnels join, in the site file's order: role `interconnect` counts ports by it."""
        places = in_the_file(self.site)
        joined = (region for region in self.regions if region.mesh)
        return tuple(sorted(joined, key=lambda region: places.index((region.cloud, region.name))))


def roles_of(regions: tuple[Region, ...]) -> tuple[Role, ...]:
    """Roles that hosts of any of the regions have, sorted."""
    found: list[Role] = sorted({role for region in regions for role in region.roles})
    return tuple(found)
