"""A virtual network per region: an outer and an inner subnet, a NAT gateway for the inner one."""

from __future__ import annotations

from pulumi_azure_native import network

from edge_iac.azure.place import Place
from edge_iac.base import Network
from edge_iac.component import Part
from edge_iac.plan import Subnet


class NetworkPart(Part):
    """Virtual network, subnets, NAT gateway. Routes to the internet come with the network."""

    cloud, kind = "azure", "Network"

    def __init__(self, place: Place) -> None:
        super().__init__(place.region.name, place.provider)
        self._place = place
        region = place.region
        self._network = network.VirtualNetwork(
            region.name,
            resource_group_name=place.group,
            virtual_network_name=place.name(region.name),
            location=region.name,
            address_space=network.AddressSpaceArgs(address_prefixes=[region.network]),
            tags=place.tags,
            opts=self.child(),
        )
        # Its routes come with the balancer that they point at.
        self._table = self._routes() if region.mesh else None
        made: dict[str, network.Subnet] = {}
        for subnet in region.subnets:
            # One after the other: Azure changes a network once at a time.
            made[subnet.name] = self._subnet(subnet, after=list(made.values()))
        self.made = Network(
            id=self._network.id,
            name=self._network.name,
            subnets={name: one.id for name, one in made.items()},
            tables={region.name: self._table.name} if self._table is not None else {},
        )
        self.register_outputs({"network": self._network.id})

    def _routes(self) -> network.RouteTable:
        place = self._place
        return network.RouteTable(
            place.region.name,
            resource_group_name=place.group,
            route_table_name=place.name(place.region.name),
            location=place.region.name,
            tags=place.tags,
            opts=self.child(),
        )

    def _subnet(self, subnet: Subnet, *, after: list[network.Subnet]) -> network.Subnet:
        place = self._place
        return network.Subnet(
            f"{place.region.name}-{subnet.name}",
            resource_group_name=place.group,
            virtual_network_name=self._network.name,
            subnet_name=subnet.name,
            address_prefix=subnet.cidr,
            # Nothing goes out by an address that Azure lends: hosts have their own, or the gateway's.
            default_outbound_access=False,
            nat_gateway=self._nat(subnet),
            route_table=network.RouteTableArgs(id=self._table.id) if self._table is not None else None,
            opts=self.child(depends_on=[*after]),
        )

    def _nat(self, subnet: Subnet) -> network.SubResourceArgs | None:
        place = self._place
        if subnet.tier != "inner" or subnet.name not in place.region.used_subnets:
            return None
        name = f"{place.region.name}-nat"
        address = network.PublicIPAddress(
            name,
            resource_group_name=place.group,
            public_ip_address_name=place.name(name),
            location=place.region.name,
            sku=network.PublicIPAddressSkuArgs(name="Standard"),
            public_ip_allocation_method="Static",
            public_ip_address_version="IPv4",
            tags=place.tags,
            opts=self.child(),
        )
        gateway = network.NatGateway(
            name,
            resource_group_name=place.group,
            nat_gateway_name=place.name(name),
            location=place.region.name,
            sku=network.NatGatewaySkuArgs(name="Standard"),
            public_ip_addresses=[network.SubResourceArgs(id=address.id)],
            tags=place.tags,
            opts=self.child(),
        )
        return network.SubResourceArgs(id=gateway.id)
