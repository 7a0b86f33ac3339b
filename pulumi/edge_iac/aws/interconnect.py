"""Routes to the other regions: each table sends their networks to a gateway's interface.

Which gateway is chosen when one dies is decided by role `interconnect_failover` on control hosts, which may
change these routes of these tables and nothing else. So the program ignores what they point at now.
"""

from __future__ import annotations

import json

import pulumi_aws as aws

import pulumi
from edge_iac.base import Identity, Made, Network, Routes
from edge_iac.component import Part
from edge_iac.plan import Mesh, Region

CONTROL = "control"
POINTS_AT = "networkInterfaceId"


class InterconnectPart(Part):
    """A route per table and other region, and the right to change them."""

    cloud, kind = "aws", "Interconnect"

    def __init__(
        self,
        region: Region,
        mesh: Mesh,
        *,
        network: Network,
        identity: Identity,
        hosts: tuple[Made, ...],
        provider: aws.Provider,
    ) -> None:
        super().__init__(region.name, provider)
        made = {host.plan.name: host for host in hosts}
        gateways = [(name, _interface(made[name]), made[name].private_address) for name in mesh.gateways]
        for table, id_ in network.tables.items():
            for range_ in mesh.remote:
                aws.ec2.Route(
                    f"{region.name}-{table}-{range_}",
                    route_table_id=id_,
                    destination_cidr_block=range_,
                    network_interface_id=gateways[0][1],
                    opts=self.child(ignore_changes=[POINTS_AT]),
                )
        tables = tuple(network.tables.values())
        if CONTROL in identity.ids:
            self._may_change(region, tables, identity.ids[CONTROL])
        self.made = Routes("aws", region.name, tables, mesh.remote, tuple(gateways))
        self.register_outputs({})

    def _may_change(
        self, region: Region, tables: tuple[pulumi.Output[str], ...], role: pulumi.Input[str]
    ) -> None:
        policy = pulumi.Output.all(*tables).apply(
            lambda ids: json.dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Action": ["ec2:ReplaceRoute"],
                            "Resource": [f"arn:aws:ec2:{region.name}:*:route-table/{id_}" for id_ in ids],
                        },
                        # Reading cannot be given for single tables.
                        {"Effect": "Allow", "Action": ["ec2:DescribeRouteTables"], "Resource": ["*"]},
                    ],
                },
                sort_keys=True,
            )
        )
        aws.iam.RolePolicy(
            f"{region.name}-routes",
            # Role and instance profile are called alike.
            role=role,
            name=f"routes-{region.name}",
            policy=policy,
            opts=self.child(),
        )


def _interface(host: Made) -> pulumi.Output[str]:
    assert host.interface is not None, "hosts of AWS have one"
    return host.interface
