"""A site: the edge, its hosts, and where in the inventory each value was written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from pydantic import Field

from xds_agent.model.base import Address, IpAddress, Model, Port, Text, is_dns_name
from xds_agent.model.edge import Edge
from xds_agent.model.problems import Problem
from xds_agent.model.services import Service

ROLES = frozenset({"control", "ingress", "egress", "l4", "observability"})
"""Groups that say what a host does."""


class CloudRules(Model):
    """What the rules of its cloud let in to a host, where a Pulumi stack made it."""

    site: Text = Field(description="Name of the site file that the rules were made of.")
    ports: Mapping[str, Port] = Field(description="The proxies' own ports as that file has them.")
    opened: tuple[Text, ...] = Field(description="Protocol and port or span: 'tcp 443', 'udp 9000-9010'.")

    @property
    def file(self) -> str:
        """The site file, as it is called from the checkout's root."""
        return f"pulumi/sites/{self.site}.yaml"

    def lets_in(self, protocol: str, port: int) -> bool:
        """Whether somebody reaches that port."""
        for one in self.opened:
            what, _, span = one.partition(" ")
            first, _, last = span.partition("-")
            if what == protocol and int(first) <= port <= int(last or first):
                return True
        return False


class Host(Model):
    """A host of the inventory, as far as the edge cares."""

    name: Text = Field(description="Its name in the inventory.")
    address: Address | None = Field(default=None, description="Where other hosts reach it.")
    private_address: IpAddress | None = Field(
        default=None, description="Its address on its own network, where that is another one."
    )
    interconnect_endpoint: Address | None = Field(
        default=None,
        description="Where tunnels of other networks reach it, where that is not its address.",
    )
    groups: tuple[str, ...] = Field(default=(), description="Inventory groups it is in.")
    cloud: str | None = Field(default=None, description="Cloud it runs in.")
    region: str | None = Field(default=None, description="Region it runs in.")
    zone: str | None = Field(default=None, description="Zone it runs in.")
    tenants: tuple[str, ...] | None = Field(default=None, description="Tenants it may carry. None: all.")
    vip: IpAddress | None = Field(
        default=None,
        description="Address that clients' packets carry when they reach it (services on `vip`).",
    )
    interfaces: tuple[Text, ...] = Field(
        default=(), description="Network interfaces that get the datapath (host variable xdp_interfaces)."
    )
    cloud_rules: CloudRules | None = Field(
        default=None, description="What its cloud lets in, where a Pulumi stack made it."
    )

    @cached_property
    def roles(self) -> frozenset[str]:
        """Its groups among control, ingress, egress, l4 and observability."""
        return ROLES.intersection(self.groups)

    @property
    def has_datapath(self) -> bool:
        """True where XDP programs run: a host of group l4 that names interfaces for it."""
        return "l4" in self.groups and bool(self.interfaces)

    @property
    def service_address(self) -> str | None:
        """Where services on `vip` are reached: its own vip, else its address."""
        return self.vip if self.vip is not None else self.address


class ResolvedEndpoint(NamedTuple):
    """One backend of a service; texts are empty where the inventory says nothing."""

    address: str
    port: int
    cloud: str
    region: str
    zone: str
    weight: int
    dns: bool
    """True when the proxy has to resolve ``address``."""
    host: str
    """Name of the inventory host, when it came from a group."""


@dataclass(frozen=True)
class Site:
    """What `load_site` returns: everything is checked, and names refer to something."""

    edge: Edge
    hosts: Mapping[str, Host]
    origins: Mapping[str, str] = field(default_factory=dict)
    not_acted_on: tuple[Problem, ...] = ()
    secret_paths: frozenset[str] = frozenset()
    """Paths ('edge.services[shop].description') of values that came from a vault: never show them."""

    def origin(self, path: str) -> str | None:
        """File, line and column of ``path`` ('services[shop].endpoints[0].port'), or of what contains it."""
        return find_origin(self.origins, path)

    @cached_property
    def hosts_by_group(self) -> dict[str, tuple[Host, ...]]:
        """Hosts of each group, sorted by name."""
        groups: dict[str, list[Host]] = {}
        for name in sorted(self.hosts):
            for group in self.hosts[name].groups:
                groups.setdefault(group, []).append(self.hosts[name])
        return {group: tuple(hosts) for group, hosts in groups.items()}

    def hosts_of_role(self, role: str) -> tuple[Host, ...]:
        """Hosts of a role (control, ingress, egress, l4, observability), sorted by name."""
        return self.hosts_by_group.get(role, ())

    @cached_property
    def datapath_hosts(self) -> tuple[Host, ...]:
        """Hosts on which XDP programs run, sorted by name."""
        return tuple(host for host in self.hosts_of_role("l4") if host.interfaces)

    def carriers(self, service: Service, role: str = "ingress") -> tuple[Host, ...]:
        """Hosts of a role that carry the service's tenant."""
        return tuple(host for host in self.hosts_of_role(role) if service.tenant in self.tenants_of(host))

    def tenants_of(self, host: Host) -> frozenset[str]:
        """Tenants the host may carry."""
        if host.tenants is not None:
            return frozenset(host.tenants)
        return frozenset({"default", *(tenant.name for tenant in self.edge.tenants)})

    def endpoints_of(self, service: Service) -> tuple[ResolvedEndpoint, ...]:
        """Backends of ``service`` in the inventory's order; groups become their hosts, sorted by name."""
        found: list[ResolvedEndpoint] = []
        for one in service.endpoints:
            if one.address is not None:
                found.append(
                    ResolvedEndpoint(
                        one.address,
                        one.port,
                        one.cloud or "",
                        one.region or "",
                        one.zone or "",
                        one.weight,
                        is_dns_name(one.address),
                        "",
                    )
                )
                continue
            for host in self.hosts_by_group.get(one.group or "", ()):
                if host.address is None:
                    continue
                found.append(
                    ResolvedEndpoint(
                        host.address,
                        one.port,
                        host.cloud or "",
                        host.region or "",
                        host.zone or "",
                        one.weight,
                        is_dns_name(host.address),
                        host.name,
                    )
                )
        return tuple(found)


def find_origin(origins: Mapping[str, str], path: str) -> str | None:
    """Origin of ``path``, or of the nearest thing around it that has one."""
    key = path if path.startswith("hosts.") else f"edge.{path}" if path else "edge"
    while True:
        found = origins.get(key)
        if found is not None:
            return found
        cut = max(key.rfind("."), key.rfind("["))
        # A name in brackets may hold dots: cut at the bracket when we are inside one.
        if key.endswith("]"):
            cut = key.rfind("[")
        if cut <= 0:
            return None
        key = key[:cut]
