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
        hosts = {
            host.name: self._address(host.name, zones=[host.zone] if host.zone else [])
            for host in region.hosts
            if host.public
        }
        zones = [zone for zone in region.zones if zone]
        # Of a balancer: in all zones at once, so that the loss of one does not take it along.
        vips = (self._address(f"vip-{region.name}", zones=zones),) if region.front else ()
        self.made = Addresses(hosts=hosts, vips=vips)
        self.register_outputs({})

    def _address(self, name: str, *, zones: list[str]) -> Address:
        made = network.PublicIPAddress(
            name,
            resource_group_name=self._place.kept_group,
            public_ip_address_name=self._place.name(name),
            location=self._place.region.name,
            sku=network.PublicIPAddressSkuArgs(name="Standard"),
            public_ip_allocation_method="Static",
            public_ip_address_version="IPv4",
            zones=zones or None,
            tags=self._place.tags,
            opts=self.kept(),
        )
        return Address(id=made.id, address=made.ip_address.apply(lambda found: found or ""))
