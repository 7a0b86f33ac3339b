"""What a cloud's program does, and the values its components hand to each other.

Values are frozen and speak of no cloud: a component of AWS gets an `id` and a `guard`, no security group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pulumi
from edge_iac.plan import Host, Region
from edge_iac.site import CloudName, Role
from edge_iac.site.model import Dns

HEALTH_PATH = "/healthz"
"""Where the node agent answers the balancer's question after health."""
SEEN_AS_OWN = "private_address"
"""`seen_as` of a VIP whose packets arrive under each host's own private address."""


@dataclass(frozen=True)
class Network:
    """A region's network."""

    id: pulumi.Output[str]
    name: pulumi.Output[str]
    subnets: Mapping[str, pulumi.Output[str]]
    """Subnet's name in the plan -> its id."""
    tables: Mapping[str, pulumi.Output[str]] = field(default_factory=dict)
    """Name -> id of each route table that a failover may have to change."""
    way_out: tuple[pulumi.Resource, ...] = ()
    """What has to be there before anything in it gets a public address, where the cloud wants that."""


@dataclass(frozen=True)
class Guard:
    """What lets connections to hosts of a role through."""

    id: pulumi.Input[str]
    """What the host's interface is given."""
    member: pulumi.Input[str] | None = None
    """What makes the host a source in others' rules, where that is another thing."""


@dataclass(frozen=True)
class Reachability:
    """Guards of a region, by role."""

    guards: Mapping[Role, Guard]
    front: pulumi.Output[str] | None = None
    """Guard of the load balancer itself, where it has one."""


@dataclass(frozen=True)
class Address:
    """A public address that outlives the host it points at."""

    id: pulumi.Output[str]
    address: pulumi.Output[str]


@dataclass(frozen=True)
class Addresses:
    """Public addresses of a region."""

    hosts: Mapping[str, Address]
    """Host -> address, for hosts that have one."""
    vips: tuple[Address, ...]
    """Of the load balancer; AWS has one per zone."""


@dataclass(frozen=True)
class Identity:
    """Who hosts are to the cloud's own services, by role."""

    ids: Mapping[Role, pulumi.Input[str]]


@dataclass(frozen=True)
class Front:
    """A load balancer before its hosts are there."""

    id: pulumi.Output[str]
    pool: pulumi.Output[str] | None = None
    """What interfaces are put into when they are made, where the cloud wants that."""


@dataclass(frozen=True)
class Made:
    """A host that was made."""

    plan: Host
    id: pulumi.Output[str]
    link: pulumi.Output[str]
    """What a load balancer refers to it by."""
    type: pulumi.Output[str]
    """Instance type it has, which is the plan's only once it is renewed."""
    private_address: pulumi.Output[str]
    address: pulumi.Output[str]
    address6: pulumi.Output[str] | None = None
    interface: pulumi.Output[str] | None = None
    """What a route table points at, where it points at interfaces."""


@dataclass(frozen=True)
class Transit:
    """What brings a region's packets to a gateway that lives, before its hosts are there."""

    pool: pulumi.Output[str] | None = None
    """What interfaces are put into when they are made, where the cloud wants that."""


@dataclass(frozen=True)
class Routes:
    """Route tables that somebody has to change when a gateway dies."""

    cloud: CloudName
    region: str
    tables: tuple[pulumi.Output[str], ...]
    ranges: tuple[str, ...]
    gateways: tuple[tuple[str, pulumi.Output[str], pulumi.Output[str]], ...]
    """(host, its interface, its private address), the first choice first."""


@dataclass(frozen=True)
class Vip:
    """An address clients connect to."""

    name: str
    cloud: CloudName
    region: str
    address: pulumi.Output[str]
    seen_as: pulumi.Input[str]
    """The destination address the edge host sees, or `private_address` for its own."""


@dataclass(frozen=True)
class Needs:
    """What hosts are made with."""

    network: Network
    reachability: Reachability
    identity: Identity
    addresses: Addresses
    front: Front | None
    transit: Transit | None
    user_data: Mapping[str, pulumi.Output[str]]
    """Host -> its cloud-config, or its startup script where the image has no cloud-init; secret."""
    ssh_user: str
    authorized_keys: tuple[str, ...]
    booted_from: Mapping[str, str] = field(default_factory=dict)
    """Host -> the image it has, of hosts that are there and whose cloud looks images up."""


class CloudProgram(Protocol):
    """A cloud: each method makes one component of a region, with an explicit provider of that region.

    What belongs to no region (accounts of hosts, names) goes through a provider of its own: were it the first
    region's, a region that comes before it would move all of it.
    """

    def identity(self, region: Region) -> Identity:
        """Identities of the region's hosts; made once, where the cloud knows them in all regions."""
        ...

    def network(self, region: Region) -> Network:
        """Network, subnets, routes, NAT."""
        ...

    def reachability(self, region: Region, network: Network) -> Reachability:
        """The rules of the region's matrix, and nothing open beside them."""
        ...

    def addresses(self, region: Region) -> Addresses:
        """Public addresses; protected, and kept when the stack is destroyed."""
        ...

    def front(
        self, region: Region, network: Network, reachability: Reachability, addresses: Addresses
    ) -> Front | None:
        """The load balancer before the ingress hosts, if the region has one."""
        ...

    def transit(self, region: Region, network: Network) -> Transit | None:
        """What has to be there before the hosts, so that packets to other regions find a gateway."""
        ...

    def hosts(self, region: Region, needs: Needs) -> tuple[Made, ...]:
        """The hosts."""
        ...

    def attach(
        self,
        region: Region,
        network: Network,
        addresses: Addresses,
        front: Front | None,
        hosts: tuple[Made, ...],
    ) -> tuple[Vip, ...]:
        """Puts the ingress hosts behind the load balancer; the VIPs, and how hosts see them."""
        ...

    def join(
        self, region: Region, network: Network, identity: Identity, hosts: tuple[Made, ...]
    ) -> Routes | None:
        """Routes to the other regions; what must be changed from outside when a gateway dies."""
        ...

    def dns(self, dns: Dns, vips: tuple[Vip, ...], *, port: int) -> None:
        """The site's public name, in this cloud's DNS; ``port`` is asked after health."""
        ...
