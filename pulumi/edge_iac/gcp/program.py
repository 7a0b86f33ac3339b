"""Google Cloud behind the protocol of all clouds."""

from __future__ import annotations

import pulumi_gcp as gcp

from edge_iac.base import Addresses, Front, Identity, Made, Needs, Network, Reachability, Vip
from edge_iac.gcp.addresses import AddressesPart
from edge_iac.gcp.balancing import BalancingPart
from edge_iac.gcp.dns import DnsPart
from edge_iac.gcp.hosts import HostsPart
from edge_iac.gcp.identity import IdentityPart
from edge_iac.gcp.interconnect import InterconnectPart
from edge_iac.gcp.network import NetworkPart
from edge_iac.gcp.reachability import ReachabilityPart
from edge_iac.plan import Region, roles_of
from edge_iac.site import GcpSite
from edge_iac.site.model import Dns


class GcpProgram:
    """One provider per region, all of one project."""

    def __init__(self, said: GcpSite, regions: tuple[Region, ...]) -> None:
        self._site = regions[0].site
        self._global = gcp.Provider("gcp-global", project=said.project, default_labels=dict(regions[0].tags))
        self._balancers: dict[str, BalancingPart] = {}
        self._providers = {
            region.name: gcp.Provider(
                f"gcp-{region.name}",
                project=said.project,
                region=region.name,
                default_labels=dict(region.tags),
            )
            for region in regions
        }
        self._identity = IdentityPart(
            site=self._site, said=said, roles=roles_of(regions), provider=self._global
        ).made

    def identity(self, region: Region) -> Identity:
        """Accounts belong to the project: made once for all regions."""
        return self._identity

    def network(self, region: Region) -> Network:
        """See CloudProgram."""
        return NetworkPart(region, self._providers[region.name]).made

    def reachability(self, region: Region, network: Network) -> Reachability:
        """See CloudProgram."""
        return ReachabilityPart(region, network, self._providers[region.name]).made

    def addresses(self, region: Region) -> Addresses:
        """See CloudProgram."""
        return AddressesPart(region, self._providers[region.name]).made

    def front(
        self, region: Region, network: Network, reachability: Reachability, addresses: Addresses
    ) -> Front | None:
        """See CloudProgram."""
        if not region.front:
            return None
        part = BalancingPart(region, self._providers[region.name])
        self._balancers[region.name] = part
        return part.made

    def transit(self, region: Region, network: Network) -> None:
        """The next hop is made of the hosts: it comes after them."""

    def join(self, region: Region, network: Network, identity: Identity, hosts: tuple[Made, ...]) -> None:
        """See CloudProgram. The balancer that is the next hop finds a gateway by itself."""
        if region.mesh is None:
            return
        balancer = self._balancers.get(region.name)
        InterconnectPart(
            region,
            region.mesh,
            network=network,
            hosts=hosts,
            groups=balancer.groups if balancer is not None else [],
            provider=self._providers[region.name],
        )

    def hosts(self, region: Region, needs: Needs) -> tuple[Made, ...]:
        """See CloudProgram."""
        return HostsPart(region, needs, self._providers[region.name]).made

    def attach(
        self,
        region: Region,
        network: Network,
        addresses: Addresses,
        front: Front | None,
        hosts: tuple[Made, ...],
    ) -> tuple[Vip, ...]:
        """See CloudProgram."""
        balancer = self._balancers.get(region.name)
        return balancer.attach(hosts, network, addresses) if balancer is not None else ()

    def dns(self, dns: Dns, vips: tuple[Vip, ...], *, port: int) -> None:
        """See CloudProgram."""
        DnsPart(dns, vips, site=self._site, port=port, provider=self._global)
