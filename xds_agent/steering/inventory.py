"""From the words of the inventory to what decisions are made from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from xds_agent.model import Cloud, Steering
from xds_agent.steering.values import Policy
from xds_agent.steering.world import Fees, Region, World

_MS = timedelta(milliseconds=1)


def policy_of(steering: Steering) -> Policy:
    """The policy of a service."""
    budget = steering.latency_budget
    return Policy(
        algorithm=steering.algorithm,
        active_passive=steering.active_passive,
        order=steering.order,
        weights=steering.weights,
        latency_budget_ms=None if budget is None else budget / _MS,
        switch_threshold=steering.switch_threshold / 100.0,
        hold_s=steering.hold.total_seconds(),
        max_shift=steering.max_shift / 100.0,
        min_healthy=steering.min_healthy / 100.0,
        failback_after_s=steering.failback.after.total_seconds(),
        failback_ramp_s=steering.failback.ramp.total_seconds(),
        capacity_rps=steering.capacity,
    )


def world_of(clouds: Mapping[str, Cloud]) -> World:
    """Places and prices a site gives: a region's own price goes before that of its cloud."""
    places, fees = {}, {}
    for name, cloud in clouds.items():
        if cloud.egress_usd_per_gb is not None:
            fees[Region(name)] = Fees(cloud.egress_usd_per_gb)
        for own, region in cloud.regions.items():
            if region.latitude is not None and region.longitude is not None:
                places[Region(name, own)] = (region.latitude, region.longitude)
            if region.egress_usd_per_gb is not None:
                fees[Region(name, own)] = Fees(region.egress_usd_per_gb)
    return World(places, fees)
