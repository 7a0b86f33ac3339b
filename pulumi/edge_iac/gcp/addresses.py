"""Static addresses of hosts and of the load balancer."""

from __future__ import annotations

import pulumi_gcp as gcp

from edge_iac.base import Address, Addresses
from edge_iac.component import Part
from edge_iac.plan import Region
from edge_iac.site.names import cloud_name


class AddressesPart(Part):
    """Protected, and kept when the stack goes: names and partners' lists point at them."""

    cloud, kind = "gcp", "Addresses"

    def __init__(self, region: Region, provider: gcp.Provider) -> None:
        super().__init__(region.name, provider)
        self._region = region
        hosts = {host.name: self._address(host.name) for host in region.hosts if host.public}
        vips = tuple(self._address(name) for name in region.vips)
        for name in region.idle:
            self._address(name)
        self.made = Addresses(hosts=hosts, vips=vips)
        self.register_outputs({})

    def _address(self, name: str) -> Address:
        made = gcp.compute.Address(
            name,
            name=cloud_name(self._region.site, name),
            region=self._region.name,
            address_type="EXTERNAL",
            network_tier="PREMIUM",
            opts=self.kept(keeps=self._region.keeps(name)),
        )
        return Address(id=made.self_link, address=made.address)
