"""Static public addresses of hosts and of the load balancer, in a resource group that is kept."""

from __future__ import annotations

from pulumi_azure_native import network

from edge_iac.azure.place import Place
from edge_iac.base import Address, Addresses
from edge_iac.component import Part


class AddressesPart(Part):
    """Protected, and kept when the stack goes: names and partners' lists point at them."""

    cloud, kind = "azure", "Addresses"

    def __init__(self, place: Place) -> None:
        super().__init__(place.region.name, place.provider)
        self._place = place
        region = place.region
        hosts = {host.name: self._address(host.name) for host in region.hosts if host.public}
        vips = tuple(self._address(name) for name in region.vips)
        for name in region.idle:
            self._address(name)
        self.made = Addresses(hosts=hosts, vips=vips)
        self.register_outputs({})

    def _address(self, name: str) -> Address:
        region = self._place.region
        made = network.PublicIPAddress(
            name,
            resource_group_name=self._place.kept_group,
            public_ip_address_name=self._place.name(name),
            location=region.name,
            sku=network.PublicIPAddressSkuArgs(name="Standard"),
            public_ip_allocation_method="Static",
            public_ip_address_version="IPv4",
            zones=self._place.zones,
            tags=self._place.tags,
            opts=self.kept(keeps=region.keeps(name), ignore_changes=["zones"]),
        )
        return Address(id=made.id, address=made.ip_address.apply(lambda found: found or ""))
