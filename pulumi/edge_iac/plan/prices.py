"""Prices of traffic where a site stands, in the two forms that others read."""

from __future__ import annotations

from typing import Any

from edge_iac.catalogue.prices import egress_usd_per_gb
from edge_iac.plan.model import Plan

Prices = dict[str, dict[str, dict[str, float]]]


def prices_of(plan: Plan) -> Prices:
    """cloud -> region -> {egress_usd_per_gb}: part of the stack's output."""
    found: Prices = {}
    for region in plan.regions:
        price = {"egress_usd_per_gb": egress_usd_per_gb(region.cloud, region.name)}
        found.setdefault(region.cloud, {})[region.name] = price
    return found


def clouds_section(plan: Plan) -> dict[str, Any]:
    """The `clouds` section of an inventory, which steering by cost decides by."""
    return {"clouds": {cloud: {"regions": regions} for cloud, regions in prices_of(plan).items()}}
