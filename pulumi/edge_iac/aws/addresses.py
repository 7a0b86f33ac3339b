"""Elastic addresses of hosts and of the load balancer, one per zone for the latter."""

from __future__ import annotations

import pulumi_aws as aws

from edge_iac.aws.tags import named
from edge_iac.base import Address, Addresses
from edge_iac.component import Part
from edge_iac.plan import Region


class AddressesPart(Part):
    """Protected, and kept when the stack goes: names and partners' lists point at them."""

    cloud, kind = "aws", "Addresses"

    def __init__(self, region: Region, provider: aws.Provider) -> None:
        super().__init__(region.name, provider)
        self._region = region
        hosts = {host.name: self._address(host.name) for host in region.hosts if host.public}
        vips = tuple(self._address(name) for name in region.vips)
        for name in region.idle:
            self._address(name)
        self.made = Addresses(hosts=hosts, vips=vips)
        self.register_outputs({})

    def _address(self, name: str) -> Address:
        made = aws.ec2.Eip(
            name,
            domain="vpc",
            tags=named(self._region, name),
            opts=self.kept(keeps=self._region.keeps(name)),
        )
        return Address(id=made.id, address=made.public_ip)
