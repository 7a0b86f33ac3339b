"""A network security group per role, and an application security group by which others' rules name its hosts.

Every Azure group ends in rules of its own that let the whole virtual network and every probe in. The last
rule here refuses what no rule of the matrix allows, before those are reached.
"""

from __future__ import annotations

from pulumi_azure_native import network

from edge_iac.azure.place import Place
from edge_iac.base import Guard, Reachability
from edge_iac.component import Part
from edge_iac.plan import Networks, Roles, Rule
from edge_iac.plan.reachability import EVERYWHERE, span_text
from edge_iac.site import Role

FIRST_PRIORITY = 100
PRIORITY_STEP = 10
LAST_PRIORITY = 4096
PROBE_TAG = "AzureLoadBalancer"
"""The service tag of 168.63.129.16, from which Azure asks after health."""
_PROTOCOLS = {"tcp": "Tcp", "udp": "Udp", "icmp": "Icmp"}


class ReachabilityPart(Part):
    """Security groups and their standalone rules."""

    cloud, kind = "azure", "Reachability"

    def __init__(self, place: Place) -> None:
        super().__init__(place.region.name, place.provider)
        self._place = place
        roles = place.region.roles
        self._members = {role: self._member(role) for role in roles}
        self._groups = {role: self._group(role) for role in roles}
        for role in roles:
            own = [rule for rule in place.region.rules if rule.target == role]
            for number, rule in enumerate(own):
                self._rule(rule, FIRST_PRIORITY + PRIORITY_STEP * number)
            self._refuse(role)
        self.made = Reachability(
            {role: Guard(self._groups[role].id, self._members[role].id) for role in roles}
        )
        self.register_outputs({})

    def _member(self, role: Role) -> network.ApplicationSecurityGroup:
        return network.ApplicationSecurityGroup(
            f"{self._place.region.name}-{role}",
            resource_group_name=self._place.group,
            application_security_group_name=self._place.name(role),
            location=self._place.region.name,
            tags=self._place.tags,
            opts=self.child(),
        )

    def _group(self, role: Role) -> network.NetworkSecurityGroup:
        return network.NetworkSecurityGroup(
            f"{self._place.region.name}-{role}",
            resource_group_name=self._place.group,
            network_security_group_name=self._place.name(role),
            location=self._place.region.name,
            tags=self._place.tags,
            opts=self.child(),
        )

    def _rule(self, rule: Rule, priority: int) -> None:
        source = rule.source
        prefix = None if isinstance(source, Networks | Roles) else PROBE_TAG
        if isinstance(source, Networks) and EVERYWHERE[4] in source.ranges:
            prefix = "*"
        network.SecurityRule(
            f"{self._place.region.name}-{rule.name}",
            resource_group_name=self._place.group,
            network_security_group_name=self._groups[rule.target].name,
            security_rule_name=rule.name,
            priority=priority,
            direction="Inbound",
            access="Allow",
            protocol=_PROTOCOLS[rule.protocol],
            source_address_prefix=prefix,
            source_address_prefixes=list(source.ranges)
            if isinstance(source, Networks) and prefix is None
            else None,
            source_application_security_groups=[
                network.ApplicationSecurityGroupArgs(id=self._members[role].id) for role in source.roles
            ]
            if isinstance(source, Roles)
            else None,
            source_port_range="*",
            destination_address_prefix="*",
            destination_port_ranges=[span_text(span) for span in rule.ports] or ["*"],
            description=rule.why,
            opts=self.child(),
        )

    def _refuse(self, role: Role) -> None:
        network.SecurityRule(
            f"{self._place.region.name}-refuse-{role}",
            resource_group_name=self._place.group,
            network_security_group_name=self._groups[role].name,
            security_rule_name="refuse",
            priority=LAST_PRIORITY,
            direction="Inbound",
            access="Deny",
            protocol="*",
            source_address_prefix="*",
            source_port_range="*",
            destination_address_prefix="*",
            destination_port_ranges=["*"],
            description="what no rule allows",
            opts=self.child(),
        )
