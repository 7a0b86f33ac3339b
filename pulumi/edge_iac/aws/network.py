"""A VPC per region: outer subnets with an internet gateway, inner ones behind a NAT gateway each."""

from __future__ import annotations

import ipaddress

import pulumi_aws as aws

import pulumi
from edge_iac.aws.tags import named
from edge_iac.base import Network
from edge_iac.component import Part
from edge_iac.plan import Region, Subnet

ANY4 = "0.0.0.0/0"
ANY6 = "::/0"


class NetworkPart(Part):
    """VPC, subnets per zone, route tables, gateways."""

    cloud, kind = "aws", "Network"

    def __init__(self, region: Region, provider: aws.Provider) -> None:
        super().__init__(region.name, provider)
        self._region = region
        self._vpc = aws.ec2.Vpc(
            region.name,
            cidr_block=region.network,
            enable_dns_support=True,
            enable_dns_hostnames=True,
            assign_generated_ipv6_cidr_block=True if region.ipv6 else None,
            tags=named(region, "edge"),
            opts=self.child(),
        )
        gateway = aws.ec2.InternetGateway(
            region.name, vpc_id=self._vpc.id, tags=named(region, "edge"), opts=self.child()
        )
        only_out = self._only_out()
        outer_routes = self._table("outer")
        tables = {"outer": outer_routes}
        route = self._route(
            f"{region.name}-outer-4", outer_routes, destination_cidr_block=ANY4, gateway_id=gateway.id
        )
        if region.ipv6:
            self._route(
                f"{region.name}-outer-6",
                outer_routes,
                destination_ipv6_cidr_block=ANY6,
                gateway_id=gateway.id,
            )
        subnets = {subnet.name: self._subnet(subnet) for subnet in region.subnets}
        outer_of_zone = {subnet.zone: subnet for subnet in region.in_tier("outer")}
        for subnet in region.in_tier("outer"):
            self._join(subnet, subnets[subnet.name], outer_routes)
        for subnet in region.in_tier("inner"):
            table = tables[subnet.name] = self._table(subnet.name)
            self._join(subnet, subnets[subnet.name], table)
            # A gateway costs by the hour: none where nobody would use it.
            if subnet.name not in region.used_subnets:
                continue
            nat = self._nat(subnet, subnets[outer_of_zone[subnet.zone].name], gateway)
            self._route(
                f"{region.name}-{subnet.name}-4", table, destination_cidr_block=ANY4, nat_gateway_id=nat.id
            )
            if only_out is not None:
                self._route(
                    f"{region.name}-{subnet.name}-6",
                    table,
                    destination_ipv6_cidr_block=ANY6,
                    egress_only_gateway_id=only_out.id,
                )
        self.made = Network(
            id=self._vpc.id,
            name=self._vpc.id,
            subnets={name: subnet.id for name, subnet in subnets.items()},
            tables={name: table.id for name, table in tables.items()},
            way_out=(gateway, route),
        )
        self.register_outputs({"vpc": self._vpc.id})

    def _subnet(self, subnet: Subnet) -> aws.ec2.Subnet:
        region = self._region
        ipv6 = None
        if region.ipv6:
            ipv6 = self._vpc.ipv6_cidr_block.apply(lambda block: part_of(block, subnet.index))
        return aws.ec2.Subnet(
            f"{region.name}-{subnet.name}",
            vpc_id=self._vpc.id,
            cidr_block=subnet.cidr,
            availability_zone=subnet.zone,
            # Hosts of the edge have addresses that outlive them, or none.
            map_public_ip_on_launch=False,
            ipv6_cidr_block=ipv6,
            assign_ipv6_address_on_creation=True if region.ipv6 else None,
            tags=named(region, subnet.name),
            # Its range is its own: the new one cannot stand beside the old, nor what stands in it.
            opts=self.child(delete_before_replace=True),
        )

    def _only_out(self) -> aws.ec2.EgressOnlyInternetGateway | None:
        if not self._region.ipv6:
            return None
        return aws.ec2.EgressOnlyInternetGateway(
            self._region.name,
            vpc_id=self._vpc.id,
            tags=named(self._region, "inner"),
            opts=self.child(),
        )

    def _table(self, name: str) -> aws.ec2.RouteTable:
        return aws.ec2.RouteTable(
            f"{self._region.name}-{name}",
            vpc_id=self._vpc.id,
            tags=named(self._region, name),
            opts=self.child(),
        )

    def _route(self, name: str, table: aws.ec2.RouteTable, **way: pulumi.Input[str]) -> aws.ec2.Route:
        return aws.ec2.Route(name, route_table_id=table.id, opts=self.child(), **way)

    def _join(self, subnet: Subnet, made: aws.ec2.Subnet, table: aws.ec2.RouteTable) -> None:
        aws.ec2.RouteTableAssociation(
            f"{self._region.name}-{subnet.name}",
            subnet_id=made.id,
            route_table_id=table.id,
            opts=self.child(),
        )

    def _nat(
        self, subnet: Subnet, outer: aws.ec2.Subnet, gateway: aws.ec2.InternetGateway
    ) -> aws.ec2.NatGateway:
        name = f"{self._region.name}-nat-{subnet.name}"
        address = aws.ec2.Eip(
            name, domain="vpc", tags=named(self._region, f"nat-{subnet.name}"), opts=self.child()
        )
        return aws.ec2.NatGateway(
            name,
            allocation_id=address.id,
            subnet_id=outer.id,
            tags=named(self._region, f"nat-{subnet.name}"),
            opts=self.child(depends_on=[gateway]),
        )


def part_of(block: str, index: int) -> str:
    """The /64 number ``index`` of a VPC's /56."""
    network = ipaddress.IPv6Network(block)
    return str(ipaddress.IPv6Network((int(network.network_address) + (index << 64), 64)))
