"""Instances as the edge needs them: metadata by token only, encrypted disks, forwarding if asked."""

from __future__ import annotations

from functools import cached_property

import pulumi_aws as aws

import pulumi
from edge_iac.aws.tags import of_host
from edge_iac.base import Made, Needs
from edge_iac.catalogue import images
from edge_iac.component import Part, first_boot
from edge_iac.plan import Host, Region

_LASTING = ("ami", "userData", "instanceType", "rootBlockDevice.volumeSize")


class HostsPart(Part):
    """The instances of a region and the addresses they carry."""

    cloud, kind = "aws", "Hosts"

    def __init__(self, region: Region, needs: Needs, provider: aws.Provider) -> None:
        super().__init__(region.name, provider)
        self._region = region
        self._needs = needs
        self.made = tuple(self._host(host) for host in region.hosts)
        self.register_outputs({})

    def _image(self, host: Host) -> pulumi.Input[str]:
        """What it boots from. Nothing is looked up for hosts that keep theirs: it may be withdrawn by now."""
        if self._region.image is not None:
            return self._region.image
        kept = None if host.renew else self._needs.booted_from.get(host.name)
        return kept or self._pinned

    @cached_property
    def _pinned(self) -> pulumi.Output[str]:
        """The id of the pinned image here. An exact name has one meaning: no newest to choose."""
        found = aws.ec2.get_ami_output(
            owners=[images.AWS_OWNER],
            most_recent=False,
            filters=[aws.ec2.GetAmiFilterArgs(name="name", values=[images.AWS_NAME])],
            # After two years AWS calls a public image deprecated and shows it to those only who ask for such.
            include_deprecated=True,
            opts=pulumi.InvokeOutputOptions(parent=self, provider=self._provider),
        )
        return found.id

    def _host(self, host: Host) -> Made:
        needs = self._needs
        made = aws.ec2.Instance(
            host.name,
            ami=self._image(host),
            instance_type=host.instance.name,
            subnet_id=needs.network.subnets[host.subnet],
            vpc_security_group_ids=[needs.reachability.guards[host.role].id],
            iam_instance_profile=needs.identity.ids[host.role],
            source_dest_check=not host.forwards,
            metadata_options=aws.ec2.InstanceMetadataOptionsArgs(
                http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
            ),
            root_block_device=aws.ec2.InstanceRootBlockDeviceArgs(
                encrypted=True, volume_size=host.disk_gb, volume_type="gp3", tags=of_host(self._region, host)
            ),
            ebs_optimized=True,
            # Said, and not left to the subnet: so that a host that is there already gets one too.
            ipv6_address_count=1 if self._region.ipv6 else None,
            user_data=needs.user_data[host.name],
            user_data_replace_on_change=True,
            tags=of_host(self._region, host),
            opts=self.child(ignore_changes=first_boot(host, *_LASTING)),
        )
        address = needs.addresses.hosts.get(host.name)
        if address is not None:
            aws.ec2.EipAssociation(
                host.name,
                allocation_id=address.id,
                instance_id=made.id,
                opts=self.child(depends_on=[*needs.network.way_out]),
            )
        return Made(
            plan=host,
            id=made.id,
            link=made.id,
            type=made.instance_type,
            private_address=made.private_ip,
            address=address.address if address is not None else made.private_ip,
            interface=made.primary_network_interface_id,
            address6=made.ipv6_addresses.apply(lambda found: found[0] if found else "")
            if self._region.ipv6
            else None,
        )
