"""Azure's security groups: what a rule may say in which field."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from simcloud import addresses, rules
from simcloud.azure.network import ASG, NAME, NSG, group_of, prefix, prefix_or_tag, type_
from simcloud.schema import Refused, Request, Values

DESCRIPTION_LETTERS = 140
# Of each line, a rule says one: the one value, the list, or the groups.
_SIDES = (
    ("sourceAddressPrefix", "sourceAddressPrefixes", "sourceApplicationSecurityGroups"),
    ("destinationAddressPrefix", "destinationAddressPrefixes", "destinationApplicationSecurityGroups"),
    ("sourcePortRange", "sourcePortRanges"),
    ("destinationPortRange", "destinationPortRanges"),
)


def _port(value: Any) -> str | None:
    return None if value == "*" else _port_of_list(value)


def _port_of_list(value: Any) -> str | None:
    """A list of ports takes no `*`: that stands in the field for one."""
    reason = rules.port_range(value)
    return reason and f"SecurityRuleInvalidPortRange: {reason}"


def _prefix_of_list(value: Any) -> str | None:
    """A list of ranges takes neither `*` nor a service tag."""
    reason = prefix(value)
    return reason and f"SecurityRuleParameterContainsUnsupportedValue: {reason}"


def _described(value: Any) -> str | None:
    letters = len(str(value))
    return (
        None if letters <= DESCRIPTION_LETTERS else f"{letters} letters; there may be {DESCRIPTION_LETTERS}"
    )


def _rules_of(request: Request) -> None:
    """Rules of a group are taken together or not at all."""
    group_of(request)
    taken: dict[tuple[str, int], str] = {}
    for rule in request.get("securityRules") or []:
        name, place = str(rule.get("name")), (str(rule.get("direction")), int(rule.get("priority") or 0))
        if place in taken:
            raise Refused(
                f"SecurityRuleConflict: {name} and {taken[place]} have priority {place[1]} and direction "
                f"{place[0]} both."
            )
        if name in taken.values():
            raise Refused(f"InvalidRequestFormat: there are two rules {name}.")
        taken[place] = name
        _whole(name, rule)


def _whole(name: str, rule: Values) -> None:
    for side in _SIDES:
        if sum(bool(rule.get(key)) for key in side) != 1:
            raise Refused(f"SecurityRuleInvalid: rule {name} has one of {', '.join(side)}.")
    for key in ("sourceAddressPrefixes", "destinationAddressPrefixes"):
        for one, other in combinations(rule.get(key) or [], 2):
            if addresses.overlapping(one, [other]):
                raise Refused(
                    f"OverlappingSubnetsNotPermittedInSecurityRule: {one} and {other} in {key} of {name}."
                )


TYPES = (
    type_(ASG, "Network", "applicationSecurityGroups", "applicationSecurityGroupName"),
    type_(
        NSG,
        "Network",
        "networkSecurityGroups",
        "networkSecurityGroupName",
        quota="NetworkSecurityGroups",
        rules={
            f"securityRules[].{path}": rule
            for path, rule in {
                "name": NAME,
                "priority": rules.between(100, 4096, "priority"),
                "direction": rules.one_of(("Inbound", "Outbound"), "direction"),
                "access": rules.one_of(("Allow", "Deny"), "access"),
                "protocol": rules.one_of(("Tcp", "Udp", "Icmp", "Esp", "Ah", "*"), "protocol"),
                "description": _described,
                "sourceAddressPrefix": prefix_or_tag,
                "destinationAddressPrefix": prefix_or_tag,
                "sourceAddressPrefixes[]": _prefix_of_list,
                "destinationAddressPrefixes[]": _prefix_of_list,
                "sourcePortRange": _port,
                "destinationPortRange": _port,
                "sourcePortRanges[]": _port_of_list,
                "destinationPortRanges[]": _port_of_list,
            }.items()
        },
        admit=_rules_of,
    ),
)
