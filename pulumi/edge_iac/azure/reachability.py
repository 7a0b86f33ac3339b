"""A network security group per role, and an application security group by which others' rules name its hosts.

Every Azure group ends in rules of its own that let the whole virtual network and every probe in. The last
rule here refuses what no rule of the matrix allows, before those are reached.

A group and its rules are one resource, which Azure takes as a whole. Were each rule a resource of its own,
one that is added or taken out amid others would move those behind it one by one, and two that have one
priority for a moment are refused (SecurityRuleConflict).
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
    """Security groups with their rules."""

    cloud, kind = "azure", "Reachability"

    def __init__(self, place: Place) -> None:
        super().__init__(place.region.name, place.provider)
        self._place = place
        roles = place.region.roles
        self._members = {role: self._member(role) for role in roles}
        self._groups = {role: self._group(role) for role in roles}
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
        own = [rule for rule in self._place.region.rules if rule.target == role]
        return network.NetworkSecurityGroup(
            f"{self._place.region.name}-{role}",
            resource_group_name=self._place.group,
            network_security_group_name=self._place.name(role),
            location=self._place.region.name,
            security_rules=[
                *(
                    self._rule(rule, FIRST_PRIORITY + PRIORITY_STEP * number)
                    for number, rule in enumerate(own)
                ),
                _refusal(),
            ],
            tags=self._place.tags,
            opts=self.child(),
        )

    def _rule(self, rule: Rule, priority: int) -> network.SecurityRuleArgs:
        source = rule.source
        prefix = None if isinstance(source, Networks | Roles) else PROBE_TAG
        if isinstance(source, Networks) and EVERYWHERE[4] in source.ranges:
            prefix = "*"
        return network.SecurityRuleArgs(
            name=rule.name,
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
            # `*` is taken in the field for one value alone.
            destination_port_range=None if rule.ports else "*",
            destination_port_ranges=[span_text(span) for span in rule.ports] or None,
            description=rule.why,
        )


def _refusal() -> network.SecurityRuleArgs:
    return network.SecurityRuleArgs(
        name="refuse",
        priority=LAST_PRIORITY,
        direction="Inbound",
        access="Deny",
        protocol="*",
        source_address_prefix="*",
        source_port_range="*",
        destination_address_prefix="*",
        destination_port_range="*",
        description="what no rule allows",
    )
