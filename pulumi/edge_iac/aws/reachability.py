"""A security group per role, with one standalone rule per source; never inline ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pulumi_aws as aws

import pulumi
from edge_iac.aws.network import ANY4, ANY6
from edge_iac.aws.tags import named
from edge_iac.base import Guard, Network, Reachability
from edge_iac.component import Part
from edge_iac.plan import Networks, Region, Roles, Rule
from edge_iac.site import Role
from edge_iac.site.names import cloud_name

_ALL_PORTS = (-1, -1)


@dataclass(frozen=True, slots=True)
class _Source:
    """One of the three, as a rule of AWS has it."""

    group: pulumi.Output[str] | None = None
    range4: str | None = None
    range6: str | None = None


class ReachabilityPart(Part):
    """Security groups and their rules."""

    cloud, kind = "aws", "Reachability"

    def __init__(self, region: Region, network: Network, provider: aws.Provider) -> None:
        super().__init__(region.name, provider)
        self._region = region
        self._groups: dict[Role, aws.ec2.SecurityGroup] = {
            role: self._group(role, network) for role in region.roles
        }
        self._front = self._group("front", network) if region.front else None
        self._open: set[str] = set()
        for role, group in self._groups.items():
            self._way_out(role, group)
        if self._front is not None:
            self._open_front(self._front)
        for rule in region.rules:
            self._rules(rule)
        self.made = Reachability(
            {role: Guard(group.id) for role, group in self._groups.items()},
            front=self._front.id if self._front is not None else None,
        )
        self.register_outputs({})

    def _group(self, role: str, network: Network) -> aws.ec2.SecurityGroup:
        return aws.ec2.SecurityGroup(
            f"{self._region.name}-{role}",
            vpc_id=network.id,
            name=cloud_name(self._region.site, role),
            description=f"{role} of {self._region.site}",
            tags=named(self._region, role),
            # In another network its name is free; the old one goes once nothing is in it.
            opts=self.child(delete_before_replace=False),
        )

    def _way_out(self, role: str, group: aws.ec2.SecurityGroup) -> None:
        for family, everywhere in ((4, ANY4), (6, ANY6))[: 2 if self._region.ipv6 else 1]:
            aws.vpc.SecurityGroupEgressRule(
                f"{self._region.name}-out-{role}-v{family}",
                security_group_id=group.id,
                ip_protocol="-1",
                cidr_ipv4=everywhere if family == 4 else None,
                cidr_ipv6=everywhere if family == 6 else None,
                opts=self.child(),
            )

    def _open_front(self, group: aws.ec2.SecurityGroup) -> None:
        """The balancer takes its ports from everybody; hosts know its health checks by this group."""
        self._way_out("front", group)
        for protocol, port in self._region.front_ports:
            aws.vpc.SecurityGroupIngressRule(
                f"{self._region.name}-front-{port}-{protocol}",
                security_group_id=group.id,
                ip_protocol=protocol,
                from_port=port,
                to_port=port,
                cidr_ipv4=ANY4,
                description="clients of the edge",
                opts=self.child(),
            )

    def _rules(self, rule: Rule) -> None:
        """Called by what they open, not by why: AWS refuses a second rule that opens the same."""
        for first, last in rule.ports or (_ALL_PORTS,):
            for suffix, source in self._sources(rule):
                span = "" if not rule.ports else f"-{first}" if first == last else f"-{first}-{last}"
                name = f"{self._region.name}-{rule.target}-{rule.protocol}{span}{suffix}"
                if name in self._open:
                    continue
                self._open.add(name)
                aws.vpc.SecurityGroupIngressRule(
                    name,
                    security_group_id=self._groups[rule.target].id,
                    ip_protocol=_protocol(rule, source),
                    from_port=first,
                    to_port=last,
                    description=rule.why,
                    referenced_security_group_id=source.group,
                    cidr_ipv4=source.range4,
                    cidr_ipv6=source.range6,
                    opts=self.child(),
                )

    def _sources(self, rule: Rule) -> Iterator[tuple[str, _Source]]:
        """(what makes the rule's name its own, the source). AWS takes one source per rule."""
        if isinstance(rule.source, Roles):
            for role in rule.source.roles:
                yield f"-{role}", _Source(group=self._groups[role].id)
            return
        if isinstance(rule.source, Networks):
            for one in rule.source.ranges:
                yield f"-{one}", _Source(range6=one) if ":" in one else _Source(range4=one)
        elif self._front is not None:
            yield "-front", _Source(group=self._front.id)


def _protocol(rule: Rule, source: _Source) -> str:
    return "icmpv6" if rule.protocol == "icmp" and source.range6 is not None else rule.protocol
