"""Virtual machines with accelerated networking, encryption on the host, no passwords."""

from __future__ import annotations

import base64

from pulumi_azure_native import compute, network

from edge_iac.azure.place import Place
from edge_iac.base import Made, Needs
from edge_iac.catalogue import images
from edge_iac.component import Part, first_boot
from edge_iac.plan import Host

_LASTING = (
    "storageProfile.imageReference",
    "storageProfile.osDisk.diskSizeGB",
    "osProfile",
)


class HostsPart(Part):
    """The machines of a region and their interfaces."""

    cloud, kind = "azure", "Hosts"

    def __init__(self, place: Place, needs: Needs) -> None:
        super().__init__(place.region.name, place.provider)
        self._place = place
        self._needs = needs
        self._image = images.azure_image(place.region.image or images.AZURE_URN)
        self.made = tuple(self._host(host) for host in place.region.hosts)
        self.register_outputs({})

    def _host(self, host: Host) -> Made:
        interface = self._interface(host)
        place = self._place
        made = compute.VirtualMachine(
            host.name,
            resource_group_name=place.group,
            vm_name=host.cloud_name,
            location=place.region.name,
            zones=[host.zone] if host.zone else None,
            hardware_profile=compute.HardwareProfileArgs(vm_size=host.instance.name),
            storage_profile=self._storage(host),
            security_profile=compute.SecurityProfileArgs(encryption_at_host=True),
            os_profile=self._system(host),
            network_profile=compute.NetworkProfileArgs(
                network_interfaces=[compute.NetworkInterfaceReferenceArgs(id=interface.id, primary=True)]
            ),
            identity=compute.VirtualMachineIdentityArgs(
                type=compute.ResourceIdentityType.USER_ASSIGNED,
                user_assigned_identities=[self._needs.identity.ids[host.role]],
            ),
            tags=_tags(place, host),
            # Its interface serves one machine: the new one cannot stand beside the old.
            opts=self.child(
                ignore_changes=first_boot(host, *_LASTING, "hardwareProfile.vmSize"),
                # Azure changes none of it in a machine that is there, and says so in the middle of `up`.
                replace_on_changes=list(_LASTING),
                delete_before_replace=True,
            ),
        )
        own = interface.ip_configurations.apply(
            lambda found: (found[0].private_ip_address if found else None) or ""
        )
        address = self._needs.addresses.hosts.get(host.name)
        return Made(
            plan=host,
            id=made.vm_id,
            link=made.id,
            type=made.hardware_profile.apply(lambda found: (found.vm_size if found else None) or ""),
            private_address=own,
            address=address.address if address is not None else own,
        )

    def _interface(self, host: Host) -> network.NetworkInterface:
        needs, place = self._needs, self._place
        guard = needs.reachability.guards[host.role]
        address = needs.addresses.hosts.get(host.name)
        asked = [needs.front, needs.transit] if host.role == "ingress" else []
        pools = [one.pool for one in asked if one is not None and one.pool is not None]
        configuration = network.NetworkInterfaceIPConfigurationArgs(
            name="main",
            primary=True,
            private_ip_allocation_method="Dynamic",
            subnet=network.SubnetArgs(id=needs.network.subnets[host.subnet]),
            public_ip_address=network.PublicIPAddressArgs(id=address.id) if address is not None else None,
            application_security_groups=[network.ApplicationSecurityGroupArgs(id=guard.member)],
            load_balancer_backend_address_pools=[network.BackendAddressPoolArgs(id=pool) for pool in pools]
            or None,
        )
        return network.NetworkInterface(
            host.name,
            resource_group_name=place.group,
            network_interface_name=host.cloud_name,
            location=place.region.name,
            enable_accelerated_networking=True,
            enable_ip_forwarding=host.forwards,
            network_security_group=network.NetworkSecurityGroupArgs(id=guard.id),
            ip_configurations=[configuration],
            tags=_tags(place, host),
            opts=self.child(),
        )

    def _storage(self, host: Host) -> compute.StorageProfileArgs:
        return compute.StorageProfileArgs(
            image_reference=compute.ImageReferenceArgs(
                publisher=self._image.publisher,
                offer=self._image.offer,
                sku=self._image.sku,
                version=self._image.version,
            ),
            os_disk=compute.OSDiskArgs(
                create_option="FromImage",
                delete_option="Delete",
                disk_size_gb=host.disk_gb,
                managed_disk=compute.ManagedDiskParametersArgs(storage_account_type="StandardSSD_LRS"),
            ),
        )

    def _system(self, host: Host) -> compute.OSProfileArgs:
        user = self._needs.ssh_user
        data = self._needs.user_data[host.name].apply(lambda text: base64.b64encode(text.encode()).decode())
        return compute.OSProfileArgs(
            computer_name=host.name,
            admin_username=user,
            custom_data=data,
            linux_configuration=compute.LinuxConfigurationArgs(
                disable_password_authentication=True,
                ssh=compute.SshConfigurationArgs(
                    public_keys=[
                        compute.SshPublicKeyArgs(key_data=key, path=f"/home/{user}/.ssh/authorized_keys")
                        for key in self._needs.authorized_keys
                    ]
                ),
            ),
        )


def _tags(place: Place, host: Host) -> dict[str, str]:
    """Tags of a host, from which alone one can tell what it is."""
    return {
        **place.tags,
        "Name": host.cloud_name,
        "edge-host": host.name,
        "edge-role": host.role,
        "edge-groups": " ".join(host.groups),
    }
