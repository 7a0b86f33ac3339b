"""Firewall rules of a region's network; hosts carry a tag per role, which rules speak of.

A network of one's own refuses what comes in and lets out what goes, until a rule says otherwise.
"""

from __future__ import annotations

import pulumi_gcp as gcp

from edge_iac.base import Guard, Network, Reachability
from edge_iac.component import Part
from edge_iac.plan import Networks, Region, Roles, Rule
from edge_iac.plan.reachability import span_text
from edge_iac.site import Role
from edge_iac.site.names import cloud_name

PROBES = ("35.191.0.0/16", "130.211.0.0/22", "209.85.152.0/22", "209.85.204.0/22")
"""Where the health checks of Google's passthrough balancers come from, internal ones too."""
_ICMP6 = "58"


class ReachabilityPart(Part):
    """A firewall rule for each rule of the matrix."""

    cloud, kind = "gcp", "Reachability"

    def __init__(self, region: Region, network: Network, provider: gcp.Provider) -> None:
        super().__init__(region.name, provider)
        self._region = region
        for rule in region.rules:
            self._firewall(rule, network)
        self.made = Reachability({role: Guard(self._tag(role)) for role in region.roles})
        self.register_outputs({})

    def _tag(self, role: Role) -> str:
        return cloud_name(self._region.site, role)

    def _firewall(self, rule: Rule, network: Network) -> None:
        name = f"{self._region.name}-{rule.name}"
        source = rule.source
        ranges = source.ranges if isinstance(source, Networks) else PROBES
        roles = isinstance(source, Roles)
        six = isinstance(source, Networks) and source.family == 6
        gcp.compute.Firewall(
            name,
            name=cloud_name(self._region.site, name),
            network=network.id,
            direction="INGRESS",
            priority=1000,
            allows=[
                gcp.compute.FirewallAllowArgs(
                    protocol=_ICMP6 if rule.protocol == "icmp" and six else rule.protocol,
                    ports=[span_text(span) for span in rule.ports] or None,
                )
            ],
            source_ranges=None if roles else list(ranges),
            source_tags=[self._tag(role) for role in source.roles] if isinstance(source, Roles) else None,
            target_tags=[self._tag(rule.target)],
            description=rule.why,
            opts=self.child(),
        )
