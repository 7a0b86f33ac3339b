"""Cloud DNS: one record set that answers by geography or evenly and leaves out what does not answer."""

from __future__ import annotations

import pulumi_gcp as gcp

from edge_iac.base import Vip
from edge_iac.component import Part
from edge_iac.dns_window import CHECKS
from edge_iac.latency import gcp_regions_for
from edge_iac.site.model import Dns
from edge_iac.site.names import cloud_name

SOURCES = ("us-central1", "europe-west1", "asia-east1")
"""Cloud DNS asks after external addresses from exactly three regions."""


class DnsPart(Part):
    """The record set and its health check. The zone itself is yours and is not touched."""

    cloud, kind = "gcp", "Dns"

    def __init__(
        self, dns: Dns, vips: tuple[Vip, ...], *, site: str, port: int, provider: gcp.Provider
    ) -> None:
        super().__init__(dns.name, provider)
        check = gcp.compute.HealthCheck(
            dns.name,
            name=cloud_name(site, "dns"),
            source_regions=list(SOURCES),
            check_interval_sec=CHECKS["gcp"].interval_s,
            unhealthy_threshold=CHECKS["gcp"].failures,
            tcp_health_check=gcp.compute.HealthCheckTcpHealthCheckArgs(port=port),
            opts=self.child(),
        )
        gcp.dns.RecordSet(
            dns.name,
            managed_zone=dns.zone,
            name=f"{dns.name}.",
            type="A",
            ttl=round(dns.ttl.total_seconds()),
            routing_policy=self._policy(dns, vips, check),
            opts=self.kept(),
        )
        self.register_outputs({})

    def _policy(
        self, dns: Dns, vips: tuple[Vip, ...], check: gcp.compute.HealthCheck
    ) -> gcp.dns.RecordSetRoutingPolicyArgs:
        if dns.routing == "weighted":
            return gcp.dns.RecordSetRoutingPolicyArgs(
                health_check=check.id,
                wrrs=[
                    gcp.dns.RecordSetRoutingPolicyWrrArgs(
                        weight=1,
                        health_checked_targets=gcp.dns.RecordSetRoutingPolicyWrrHealthCheckedTargetsArgs(
                            external_endpoints=[vip.address]
                        ),
                    )
                    for vip in vips
                ],
            )
        nearest = gcp_regions_for((vip.cloud, vip.region) for vip in vips)
        of_region: dict[str, list[Vip]] = {}
        for vip in vips:
            of_region.setdefault(nearest[vip.cloud, vip.region], []).append(vip)
        return gcp.dns.RecordSetRoutingPolicyArgs(
            health_check=check.id,
            geos=[
                gcp.dns.RecordSetRoutingPolicyGeoArgs(
                    location=location,
                    health_checked_targets=gcp.dns.RecordSetRoutingPolicyGeoHealthCheckedTargetsArgs(
                        external_endpoints=[vip.address for vip in own]
                    ),
                )
                for location, own in sorted(of_region.items())
            ],
        )
