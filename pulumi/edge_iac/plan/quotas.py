"""What is known to be more than a cloud takes, once all that is to be made is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edge_iac.plan.model import Networks, Region, Roles, Rule
from xds_agent.model.problems import ModelError, Problem

AWS_RULES_PER_GROUP = 60
"""Quota "Inbound rules per security group" of Amazon VPC, L-0EA8095F, where nobody had it raised."""


def check_quotas(regions: Iterable[Region]) -> None:
    """Raises ModelError for security groups of AWS with more rules than it takes."""
    problems = [
        Problem(
            path=f"clouds.aws.regions.{region.name}",
            message=f"{count} rules for {who} are more than a security group of AWS takes "
            f"({AWS_RULES_PER_GROUP}, quota 'Inbound rules per security group')",
            fix="use fewer regions, or fewer ranges and ports in reach and ssh.sources",
        )
        for region in regions
        if region.cloud == "aws"
        for who, count in _groups(region)
        if count > AWS_RULES_PER_GROUP
    ]
    if problems:
        raise ModelError(problems)


def _groups(region: Region) -> Iterator[tuple[str, int]]:
    """(whose group, its rules): one per role, and that of the load balancer."""
    yield from ((f"{role} hosts", rules_in_aws(region, role)) for role in region.roles)
    yield "the load balancer", len(region.front_ports)


def rules_in_aws(region: Region, role: str) -> int:
    """How many rules the security group of a role has, each of one source and one span of ports."""
    return len({one for rule in region.rules if rule.target == role for one in _single(rule)})


def _single(rule: Rule) -> Iterator[tuple[object, ...]]:
    if isinstance(rule.source, Roles):
        sources: tuple[str, ...] = rule.source.roles
    else:
        sources = rule.source.ranges if isinstance(rule.source, Networks) else ("front",)
    for span in rule.ports or (None,):
        for source in sources:
            yield rule.protocol, span, source
