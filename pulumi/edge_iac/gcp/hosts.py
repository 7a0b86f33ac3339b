"""Instances with gVNIC, a shielded boot, no project-wide SSH keys."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi_gcp as gcp

from edge_iac.base import Made, Needs
from edge_iac.catalogue import images
from edge_iac.component import Part, first_boot
from edge_iac.plan import Host, Region
from edge_iac.site.names import groups_value
from edge_iac.startup import ssh_keys

# What a disk was made with can be told to no disk that is there: the host would be made anew.
_LASTING = (
    "bootDisk.initializeParams.image",
    "bootDisk.initializeParams.size",
    "bootDisk.initializeParams.labels",
    "machineType",
)


class HostsPart(Part):
    """The instances of a region."""

    cloud, kind = "gcp", "Hosts"

    def __init__(self, region: Region, needs: Needs, provider: gcp.Provider) -> None:
        super().__init__(region.name, provider)
        self._region = region
        self._needs = needs
        self.made = tuple(self._host(host) for host in region.hosts)
        self.register_outputs({})

    def _host(self, host: Host) -> Made:
        needs = self._needs
        address = needs.addresses.hosts.get(host.name)
        made = gcp.compute.Instance(
            host.name,
            name=host.cloud_name,
            zone=host.zone,
            machine_type=host.instance.name,
            can_ip_forward=host.forwards,
            boot_disk=gcp.compute.InstanceBootDiskArgs(
                initialize_params=gcp.compute.InstanceBootDiskInitializeParamsArgs(
                    image=self._region.image or images.GCP_LINK,
                    size=host.disk_gb,
                    type="pd-balanced",
                    labels=labels(self._region, host),
                )
            ),
            network_interfaces=[self._interface(host)],
            metadata={
                # Read by Google's guest agent; its Debian images have no cloud-init.
                "startup-script": needs.user_data[host.name],
                "ssh-keys": ssh_keys(needs.ssh_user, needs.authorized_keys),
                "block-project-ssh-keys": "TRUE",
                "enable-oslogin": "FALSE",
            },
            service_account=gcp.compute.InstanceServiceAccountArgs(
                email=needs.identity.ids[host.role],
                # What an account may do is said by its roles, not by scopes.
                scopes=["https://www.googleapis.com/auth/cloud-platform"],
            ),
            shielded_instance_config=gcp.compute.InstanceShieldedInstanceConfigArgs(
                enable_secure_boot=False, enable_vtpm=True, enable_integrity_monitoring=True
            ),
            tags=[needs.reachability.guards[host.role].id],
            labels=labels(self._region, host),
            allow_stopping_for_update=True,
            # Its name is its own: the new one cannot stand beside the old.
            opts=self.child(
                ignore_changes=first_boot(host, *_LASTING),
                delete_before_replace=True,
            ),
        )
        own = made.network_interfaces.apply(lambda found: found[0].network_ip or "")
        return Made(
            plan=host,
            id=made.instance_id,
            link=made.self_link,
            type=made.machine_type,
            private_address=own,
            address=address.address if address is not None else own,
            address6=made.network_interfaces.apply(_address6) if self._region.ipv6 and host.public else None,
        )

    def _interface(self, host: Host) -> gcp.compute.InstanceNetworkInterfaceArgs:
        address = self._needs.addresses.hosts.get(host.name)
        six = self._region.ipv6 and host.public
        return gcp.compute.InstanceNetworkInterfaceArgs(
            subnetwork=self._needs.network.subnets[host.subnet],
            nic_type="GVNIC",
            stack_type="IPV4_IPV6" if six else None,
            access_configs=[
                gcp.compute.InstanceNetworkInterfaceAccessConfigArgs(
                    nat_ip=address.address, network_tier="PREMIUM"
                )
            ]
            if address is not None
            else None,
            ipv6_access_configs=[
                gcp.compute.InstanceNetworkInterfaceIpv6AccessConfigArgs(network_tier="PREMIUM")
            ]
            if six
            else None,
        )


def _address6(interfaces: Sequence[gcp.compute.outputs.InstanceNetworkInterface]) -> str:
    given = interfaces[0].ipv6_access_configs or []
    return (given[0].external_ipv6 or "") if given else ""


def labels(region: Region, host: Host) -> dict[str, str]:
    """Labels of a host, from which alone one can tell what it is. They hold no spaces and no dots."""
    return {
        **region.tags,
        "edge-host": host.name,
        "edge-role": host.role,
        "edge-groups": groups_value("gcp", host.role, host.groups),
    }
