"""A network per region of the site: an outer and an inner subnet, NAT for the inner one."""

from __future__ import annotations

import pulumi_gcp as gcp

from edge_iac.base import Network
from edge_iac.catalogue.sizes import GCP_MTU
from edge_iac.component import Part
from edge_iac.plan import Region, Subnet
from edge_iac.site.names import cloud_name


class NetworkPart(Part):
    """Network, subnets, router with NAT. Routes to the internet come with the network."""

    cloud, kind = "gcp", "Network"

    def __init__(self, region: Region, provider: gcp.Provider) -> None:
        super().__init__(region.name, provider)
        self._region = region
        self._network = gcp.compute.Network(
            region.name,
            name=cloud_name(region.site, region.name),
            auto_create_subnetworks=False,
            routing_mode="REGIONAL",
            mtu=GCP_MTU,
            opts=self.child(),
        )
        subnets = {subnet.name: self._subnet(subnet) for subnet in region.subnets}
        self._nat([subnets[one.name] for one in region.in_tier("inner") if one.name in region.used_subnets])
        self.made = Network(
            id=self._network.id,
            name=self._network.name,
            subnets={name: subnet.id for name, subnet in subnets.items()},
        )
        self.register_outputs({"network": self._network.id})

    def _subnet(self, subnet: Subnet) -> gcp.compute.Subnetwork:
        outer6 = self._region.ipv6 and subnet.tier == "outer"
        return gcp.compute.Subnetwork(
            f"{self._region.name}-{subnet.name}",
            name=cloud_name(self._region.site, f"{self._region.name}-{subnet.name}"),
            network=self._network.id,
            region=self._region.name,
            ip_cidr_range=subnet.cidr,
            # Secrets and artefacts are Google's own services: reached without a public address.
            private_ip_google_access=True,
            stack_type="IPV4_IPV6" if outer6 else "IPV4_ONLY",
            ipv6_access_type="EXTERNAL" if outer6 else None,
            opts=self.child(),
        )

    def _nat(self, inner: list[gcp.compute.Subnetwork]) -> None:
        if not inner:
            return
        name = cloud_name(self._region.site, self._region.name)
        router = gcp.compute.Router(
            self._region.name,
            name=name,
            network=self._network.id,
            region=self._region.name,
            opts=self.child(),
        )
        gcp.compute.RouterNat(
            self._region.name,
            name=name,
            router=router.name,
            region=self._region.name,
            nat_ip_allocate_option="AUTO_ONLY",
            source_subnetwork_ip_ranges_to_nat="LIST_OF_SUBNETWORKS",
            subnetworks=[
                gcp.compute.RouterNatSubnetworkArgs(name=one.id, source_ip_ranges_to_nats=["ALL_IP_RANGES"])
                for one in inner
            ],
            opts=self.child(),
        )
