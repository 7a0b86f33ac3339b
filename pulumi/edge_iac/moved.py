"""Networks of Azure that an edit would move from under hosts, refused before anything is touched.

Azure changes no range that something stands in. A network without hosts is made anew (azure/network.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from edge_iac.plan import Plan, Region

Held = Mapping[str, Mapping[str, Any]]
"""URN -> type and outputs of all that the stack holds, as the engine tells them."""

# Of a URN: its type behind that of its parent, and its name.
_NETWORK = re.compile(r"::edge:azure:Network\$azure-native:network:VirtualNetwork::([^:]+)$")
_CARD = re.compile(r"::edge:azure:Hosts\$azure-native:network:NetworkInterface::.+-azure-(.+)-\d+$")


def moved(plan: Plan, held: Held) -> list[str]:
    """A sentence for every region of Azure whose network ``plan`` changes while hosts stand in it."""
    inhabited = {found[1] for urn in held if (found := _CARD.search(urn))}
    return [
        _said(region.name, there, region.network)
        for region, there in _elsewhere(plan, held)
        if region.name in inhabited
    ]


def with_moves(plan: Plan, held: Held) -> Plan:
    """``plan``, in which regions of Azure know that their network is there with another range."""
    moving = {region.name for region, _ in _elsewhere(plan, held)}
    regions = (replace(one, moves=one.cloud == "azure" and one.name in moving) for one in plan.regions)
    return replace(plan, regions=tuple(regions))


def _elsewhere(plan: Plan, held: Held) -> Iterator[tuple[Region, str]]:
    """Regions of Azure whose network the stack holds without the range of ``plan``, and what it has."""
    wanted = {region.name: region for region in plan.regions if region.cloud == "azure"}
    for urn, resource in held.items():
        found = _NETWORK.search(urn)
        there = (resource["outputs"].get("addressSpace") or {}).get("addressPrefixes") if found else None
        region = wanted.get(found[1]) if found else None
        if region is not None and there and region.network not in there:
            yield region, ", ".join(there)


def _said(region: str, there: str, wanted: str) -> str:
    return (
        f"clouds.azure.regions.{region}.network: {there} becomes {wanted}, and Azure changes no network that "
        f"hosts stand in: write {there} again, and make a region more; or take the hosts out (hosts: {{}}, "
        "kept under addresses for each public one), `pulumi up`, and bring them back with the other network"
    )
