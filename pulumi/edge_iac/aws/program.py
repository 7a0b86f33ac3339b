"""AWS behind the protocol of all clouds."""

from __future__ import annotations

import pulumi_aws as aws

from edge_iac.aws.addresses import AddressesPart
from edge_iac.aws.balancing import BalancingPart
from edge_iac.aws.dns import DnsPart
from edge_iac.aws.hosts import HostsPart
from edge_iac.aws.identity import IdentityPart
from edge_iac.aws.interconnect import InterconnectPart
from edge_iac.aws.network import NetworkPart
from edge_iac.aws.reachability import ReachabilityPart
from edge_iac.base import Addresses, Front, Identity, Made, Needs, Network, Reachability, Routes, Vip
from edge_iac.plan import Region, roles_of
from edge_iac.site import AwsSite
from edge_iac.site.model import Dns

GLOBAL_REGION = "us-east-1"


class AwsProgram:
    """One provider per region: nothing ever lands in a region that the environment happened to name."""

    def __init__(self, said: AwsSite, regions: tuple[Region, ...]) -> None:
        # IAM and Route 53 are the same from every region; this one holds their control plane.
        self._global = aws.Provider(
            "aws-global",
            region=GLOBAL_REGION,
            profile=said.profile,
            allowed_account_ids=[said.account] if said.account else None,
        )
        self._balancers: dict[str, BalancingPart] = {}
        self._providers = {
            region.name: aws.Provider(
                f"aws-{region.name}",
                region=region.name,
                profile=said.profile,
                allowed_account_ids=[said.account] if said.account else None,
            )
            for region in regions
        }
        self._tags = dict(regions[0].tags)
        self._identity = IdentityPart(
            site=regions[0].site,
            said=said,
            roles=roles_of(regions),
            tags=self._tags,
            provider=self._global,
        ).made

    def identity(self, region: Region) -> Identity:
        """IAM knows no regions: made once for all."""
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
        part = BalancingPart(
            region,
            network=network,
            reachability=reachability,
            addresses=addresses,
            provider=self._providers[region.name],
        )
        self._balancers[region.name] = part
        return part.made

    def transit(self, region: Region, network: Network) -> None:
        """Route tables point at interfaces: nothing stands between."""

    def join(
        self, region: Region, network: Network, identity: Identity, hosts: tuple[Made, ...]
    ) -> Routes | None:
        """See CloudProgram."""
        if region.mesh is None:
            return None
        return InterconnectPart(
            region,
            region.mesh,
            network=network,
            identity=identity,
            hosts=hosts,
            provider=self._providers[region.name],
        ).made

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
        return balancer.attach(hosts, addresses) if balancer is not None else ()

    def dns(self, dns: Dns, vips: tuple[Vip, ...], *, port: int) -> None:
        """See CloudProgram."""
        DnsPart(dns, vips, port=port, tags=self._tags, provider=self._global)
