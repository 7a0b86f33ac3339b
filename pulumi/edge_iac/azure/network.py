"""A virtual network per region: an outer and an inner subnet, a NAT gateway for the inner one.

Azure changes a network, and a route table, once at a time: subnets are made one after the other, whoever
stands in one waits for all of them, and a table is written with all its routes.
"""

from __future__ import annotations

import ipaddress

from pulumi_azure_native import network

import pulumi
from edge_iac.azure.place import Place
from edge_iac.base import Network
from edge_iac.component import Part
from edge_iac.plan import Mesh, Region, Subnet


class NetworkPart(Part):
    """Virtual network, subnets, NAT gateway, routes to other regions. Those to the internet are there."""

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
            # Azure leaves no subnet outside: for another range, network and subnets are made anew.
            opts=self.child(
                replace_on_changes=["addressSpace"] if region.moves else None,
                delete_before_replace=region.moves or None,
            ),
        )
        self._table = self._routes(region.mesh) if region.mesh else None
        made: dict[str, network.Subnet] = {}
        for subnet in region.subnets:
            made[subnet.name] = self._subnet(subnet, after=list(made.values()))
        self.made = Network(
            id=self._network.id,
            name=self._network.name,
            subnets=_all_made(made),
        )
        self.register_outputs({"network": self._network.id})

    def _routes(self, mesh: Mesh) -> network.RouteTable:
        place = self._place
        # The balancer that has it comes later; until then nobody answers there.
        hop = next_hop(place.region)
        return network.RouteTable(
            place.region.name,
            resource_group_name=place.group,
            route_table_name=place.name(place.region.name),
            location=place.region.name,
            routes=[
                network.RouteArgs(
                    name="to-" + range_.replace("/", "-"),
                    address_prefix=range_,
                    next_hop_type="VirtualAppliance",
                    next_hop_ip_address=hop,
                )
                for range_ in mesh.remote
            ],
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
            zones=place.zones,
            tags=place.tags,
            opts=self.child(ignore_changes=["zones"]),
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


def next_hop(region: Region) -> str:
    """Of packets to other regions: the last address but one where hosts are given the first ones."""
    return str(ipaddress.IPv4Network(region.in_tier("outer")[0].cidr)[-2])


def _all_made(subnets: dict[str, network.Subnet]) -> dict[str, pulumi.Output[str]]:
    """Ids of subnets, known when the last of them is there."""
    ids = pulumi.Output.all(**{name: one.id for name, one in subnets.items()})
    return {name: ids.apply(lambda known, name=name: str(known[name])) for name in subnets}
