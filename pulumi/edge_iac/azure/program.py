"""Azure behind the protocol of all clouds."""

from __future__ import annotations

import pulumi_azure_native as azure

from edge_iac.azure.addresses import AddressesPart
from edge_iac.azure.balancing import BalancingPart
from edge_iac.azure.dns import DnsPart
from edge_iac.azure.hosts import HostsPart
from edge_iac.azure.identity import IdentityPart
from edge_iac.azure.interconnect import InterconnectPart
from edge_iac.azure.network import NetworkPart
from edge_iac.azure.place import PlacePart
from edge_iac.azure.reachability import ReachabilityPart
from edge_iac.base import Addresses, Front, Identity, Made, Needs, Network, Reachability, Transit, Vip
from edge_iac.plan import Region
from edge_iac.site import AzureSite
from edge_iac.site.model import Dns


class AzureProgram:
    """One provider and two resource groups per region."""

    def __init__(self, said: AzureSite, regions: tuple[Region, ...]) -> None:
        self._said = said
        self._site, self._tags = regions[0].site, dict(regions[0].tags)
        self._balancers: dict[str, BalancingPart] = {}
        self._places = {
            region.name: PlacePart(
                region,
                azure.Provider(
                    f"azure-{region.name}", subscription_id=said.subscription, location=region.name
                ),
            ).made
            for region in regions
        }

    def identity(self, region: Region) -> Identity:
        """Identities lie in a place, so every region has its own."""
        return IdentityPart(place=self._places[region.name], said=self._said).made

    def network(self, region: Region) -> Network:
        """See CloudProgram."""
        return NetworkPart(self._places[region.name]).made

    def reachability(self, region: Region, network: Network) -> Reachability:
        """See CloudProgram."""
        return ReachabilityPart(self._places[region.name]).made

    def addresses(self, region: Region) -> Addresses:
        """See CloudProgram."""
        return AddressesPart(self._places[region.name]).made

    def front(
        self, region: Region, network: Network, reachability: Reachability, addresses: Addresses
    ) -> Front | None:
        """See CloudProgram."""
        if not region.front:
            return None
        part = BalancingPart(self._places[region.name], addresses)
        self._balancers[region.name] = part
        return part.made

    def transit(self, region: Region, network: Network) -> Transit | None:
        """See CloudProgram."""
        if region.mesh is None:
            return None
        return InterconnectPart(self._places[region.name], network).made

    def join(self, region: Region, network: Network, identity: Identity, hosts: tuple[Made, ...]) -> None:
        """Nothing: routes came with the balancer they point at, and interfaces joined its pool."""

    def hosts(self, region: Region, needs: Needs) -> tuple[Made, ...]:
        """See CloudProgram."""
        return HostsPart(self._places[region.name], needs).made

    def attach(
        self,
        region: Region,
        network: Network,
        addresses: Addresses,
        front: Front | None,
        hosts: tuple[Made, ...],
    ) -> tuple[Vip, ...]:
        """See CloudProgram. Interfaces joined the pool when they were made."""
        balancer = self._balancers.get(region.name)
        return (balancer.vip,) if balancer is not None else ()

    def dns(self, dns: Dns, vips: tuple[Vip, ...], *, port: int) -> None:
        """See CloudProgram."""
        provider = azure.Provider("azure-global", subscription_id=self._said.subscription)
        place = next(iter(self._places.values()))
        DnsPart(
            dns,
            vips,
            site=self._site,
            tags=self._tags,
            port=port,
            # What the environment or the CLI said, where the site says nothing.
            subscription=place.group_id.apply(lambda group: group.split("/")[2]),
            provider=provider,
        )
