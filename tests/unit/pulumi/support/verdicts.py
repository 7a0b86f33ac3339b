"""An evaluator for the emitted rules of each cloud, written from the clouds' documentation.

It knows nothing of the plan: it reads registered resources, as the cloud would, and says whether a connection
gets through to hosts of a role.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.unit.pulumi.support.answers import SUBSCRIPTION
from tests.unit.pulumi.support.graph import Graph, Node


@dataclass(frozen=True)
class Attempt:
    """Somebody opens a connection to a host of a role."""

    target: str
    protocol: str
    port: int
    address: str
    """Where it comes from."""
    role: str | None = None
    """Set when it comes from a host of that role in the same region."""
    probe: bool = False
    """It is the cloud's own health check."""


def _within(address: str, ranges: list[str]) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(one) for one in ranges)


def aws_lets(graph: Graph, attempt: Attempt) -> bool:
    """Security groups: any rule that matches lets in; there is no rule that refuses."""
    groups = {
        node.name.removeprefix("us-east-1-"): f"{node.name}-id"
        for node in graph.of("ec2/securityGroup:SecurityGroup")
    }
    member = groups.get("front") if attempt.probe else groups.get(attempt.role or "")

    def matches(rule: dict[str, Any]) -> bool:
        if rule["ipProtocol"] not in ("-1", attempt.protocol):
            return False
        if attempt.protocol != "icmp" and not rule["fromPort"] <= attempt.port <= rule["toPort"]:
            return False
        if "referencedSecurityGroupId" in rule:
            return rule["referencedSecurityGroupId"] == member
        return _within(attempt.address, [rule["cidrIpv4"]])

    return any(
        matches(node.inputs)
        for node in graph.of("vpc/securityGroupIngressRule:SecurityGroupIngressRule")
        if node.inputs["securityGroupId"] == groups[attempt.target]
    )


def gcp_lets(graph: Graph, attempt: Attempt) -> bool:
    """Firewall rules that allow, over the implied rule that refuses everything."""
    tag = f"random-{attempt.role}" if attempt.role else None

    def matches(rule: dict[str, Any]) -> bool:
        if f"random-{attempt.target}" not in rule["targetTags"] or rule["direction"] != "INGRESS":
            return False
        tagged = tag is not None and tag in rule.get("sourceTags", [])
        if not (tagged or _within(attempt.address, rule.get("sourceRanges", []))):
            return False
        return any(
            one["protocol"] == attempt.protocol
            and ("ports" not in one or any(_spans(span, attempt.port) for span in one["ports"]))
            for one in rule["allows"]
        )

    return any(matches(node.inputs) for node in graph.of("compute/firewall:Firewall"))


def azure_lets(graph: Graph, attempt: Attempt) -> bool:
    """A security group's rules by priority, the first that matches decides; then Azure's own three."""
    group = f"random-{attempt.target}"
    members = {
        node.name.removeprefix("eastus-"): _azure_id(node)
        for node in graph.of("network:ApplicationSecurityGroup")
    }
    member = members.get(attempt.role or "")

    def matches(rule: dict[str, Any]) -> bool:
        if rule["protocol"].lower() not in ("*", attempt.protocol):
            return False
        ports = (
            [rule["destinationPortRange"]]
            if "destinationPortRange" in rule
            else rule["destinationPortRanges"]
        )
        # `*` stands for all in the field for one value; in a list Azure refuses it.
        assert "destinationPortRange" in rule or "*" not in ports
        if attempt.protocol != "icmp" and not any(_spans(span, attempt.port) for span in ports):
            return False
        if groups := rule.get("sourceApplicationSecurityGroups"):
            return any(one["id"] == member for one in groups)
        prefix = rule.get("sourceAddressPrefix")
        if prefix is not None:
            return prefix == "*" or (prefix == "AzureLoadBalancer" and attempt.probe)
        return _within(attempt.address, rule["sourceAddressPrefixes"])

    rules = [
        rule
        for node in graph.of("network:NetworkSecurityGroup")
        if node.inputs["networkSecurityGroupName"] == group
        for rule in node.inputs["securityRules"]
        if rule["direction"] == "Inbound"
    ]
    for rule in sorted(rules, key=lambda rule: rule["priority"]):
        if matches(rule):
            return rule["access"] == "Allow"
    (network,) = graph.of("network:VirtualNetwork")
    return attempt.probe or _within(attempt.address, network.inputs["addressSpace"]["addressPrefixes"])


def _azure_id(node: Node) -> str:
    return f"{SUBSCRIPTION}/{node.type.rpartition(':')[2]}/{node.name}"


def _spans(text: str, port: int) -> bool:
    if text == "*":
        return True
    first, _, last = text.partition("-")
    return int(first) <= port <= int(last or first)


LETS: dict[str, Callable[[Graph, Attempt], bool]] = {"aws": aws_lets, "gcp": gcp_lets, "azure": azure_lets}
