"""Azure DNS has no health checks: a Traffic Manager profile decides, and the zone's record points at it."""

from __future__ import annotations

import hashlib

import pulumi_azure_native as azure
from pulumi_azure_native import dns as zones
from pulumi_azure_native import trafficmanager

import pulumi
from edge_iac.base import Vip
from edge_iac.component import Part
from edge_iac.dns_window import CHECKS
from edge_iac.latency import azure_regions_for
from edge_iac.site.model import Dns
from edge_iac.site.names import cloud_name

TIMEOUT_S = 5
DIGITS = 8


class DnsPart(Part):
    """The profile with an endpoint per VIP, and the record. The zone itself is yours and is not touched."""

    cloud, kind = "azure", "Dns"

    def __init__(
        self,
        dns: Dns,
        vips: tuple[Vip, ...],
        *,
        site: str,
        tags: dict[str, str],
        port: int,
        subscription: pulumi.Output[str],
        provider: azure.Provider,
    ) -> None:
        super().__init__(dns.name, provider)
        name = cloud_name(site, "edge")
        group, zone = dns.zone.split("/")
        ttl = round(dns.ttl.total_seconds())
        nearest = azure_regions_for((vip.cloud, vip.region) for vip in vips)
        profile = trafficmanager.Profile(
            dns.name,
            # Beside the zone, which outlives every region.
            resource_group_name=group,
            profile_name=name,
            location="global",
            traffic_routing_method="Performance" if dns.routing == "latency" else "Weighted",
            dns_config=trafficmanager.DnsConfigArgs(relative_name=world_name(name, subscription), ttl=ttl),
            monitor_config=trafficmanager.MonitorConfigArgs(
                protocol="TCP",
                port=port,
                interval_in_seconds=CHECKS["azure"].interval_s,
                timeout_in_seconds=TIMEOUT_S,
                tolerated_number_of_failures=CHECKS["azure"].failures,
            ),
            endpoints=[
                trafficmanager.EndpointArgs(
                    name=f"{vip.cloud}-{vip.name}",
                    type="Microsoft.Network/trafficManagerProfiles/externalEndpoints",
                    target=vip.address,
                    endpoint_location=nearest[vip.cloud, vip.region] if dns.routing == "latency" else None,
                    weight=1 if dns.routing == "weighted" else None,
                )
                for vip in vips
            ],
            tags=tags,
            opts=self.kept(),
        )
        relative = dns.name.removesuffix(f".{zone}")
        apex = dns.name == zone
        zones.RecordSet(
            dns.name,
            resource_group_name=group,
            zone_name=zone,
            # A CNAME cannot stand at the top of a zone; there the record is an alias of the profile.
            record_type="A" if apex else "CNAME",
            relative_record_set_name="@" if apex else relative,
            ttl=ttl,
            target_resource=zones.SubResourceArgs(id=profile.id) if apex else None,
            cname_record=None
            if apex
            else zones.CnameRecordArgs(
                cname=profile.dns_config.apply(lambda found: (found.fqdn if found else None) or "")
            ),
            opts=self.kept(),
        )
        self.register_outputs({})


def world_name(name: str, subscription: pulumi.Output[str]) -> pulumi.Output[str]:
    """A name under trafficmanager.net that nobody has: all of Azure shares them, and 'prod-edge' is taken."""
    return subscription.apply(
        lambda id_: f"{name}-{hashlib.sha256(f'{id_}/{name}'.encode()).hexdigest()[:DIGITS]}"
    )
