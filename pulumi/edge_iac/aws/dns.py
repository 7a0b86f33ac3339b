"""Route 53: a record per region, answered by latency or evenly, out when no address of it answers."""

from __future__ import annotations

import pulumi_aws as aws

from edge_iac.base import Vip
from edge_iac.component import Part
from edge_iac.dns_window import CHECKS
from edge_iac.latency import Place, aws_regions_for
from edge_iac.site.model import Dns


class DnsPart(Part):
    """Records and health checks. The zone itself is yours and is not touched."""

    cloud, kind = "aws", "Dns"

    def __init__(
        self, dns: Dns, vips: tuple[Vip, ...], *, port: int, tags: dict[str, str], provider: aws.Provider
    ) -> None:
        super().__init__(dns.name, provider)
        self._dns, self._port, self._tags = dns, port, tags
        of_region: dict[Place, list[Vip]] = {}
        for vip in vips:
            of_region.setdefault((vip.cloud, vip.region), []).append(vip)
        self._nearest = aws_regions_for(of_region)
        for place, own in of_region.items():
            self._record(place, own)
        self.register_outputs({})

    def _record(self, place: Place, vips: list[Vip]) -> None:
        name = "-".join(place)
        # Of one address a VIP is called as its region: its check is not, or both would be one to the engine.
        checks = [self._check(f"{vip.cloud}-{vip.name}-tcp", vip) for vip in vips]
        # The region is well while one of its addresses is.
        region = aws.route53.HealthCheck(
            name,
            type="CALCULATED",
            child_healthchecks=[check.id for check in checks],
            child_health_threshold=1,
            tags={**self._tags, "Name": name},
            opts=self.child(),
        )
        by_latency = self._dns.routing == "latency"
        aws.route53.Record(
            name,
            zone_id=self._dns.zone,
            name=self._dns.name,
            type="A",
            ttl=round(self._dns.ttl.total_seconds()),
            records=[vip.address for vip in vips],
            set_identifier=name,
            health_check_id=region.id,
            latency_routing_policies=[aws.route53.RecordLatencyRoutingPolicyArgs(region=self._nearest[place])]
            if by_latency
            else None,
            weighted_routing_policies=None
            if by_latency
            else [aws.route53.RecordWeightedRoutingPolicyArgs(weight=1)],
            # A region that goes takes its answer along: clients are to be sent to what is there.
            opts=self.child(),
        )

    def _check(self, name: str, vip: Vip) -> aws.route53.HealthCheck:
        return aws.route53.HealthCheck(
            name,
            type="TCP",
            ip_address=vip.address,
            port=self._port,
            request_interval=CHECKS["aws"].interval_s,
            failure_threshold=CHECKS["aws"].failures,
            tags={**self._tags, "Name": name},
            opts=self.child(),
        )
