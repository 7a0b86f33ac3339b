"""Pours a service's requests into a plan: tier by tier, never over a limit while there is another way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from xds_agent.steering.values import Plan, Tier
from xds_agent.steering.world import Region

TINY = 1e-9


class Limits(NamedTuple):
    """The most that each region, and each cloud as a whole, may take of all requests. Not named: all."""

    regions: Mapping[Region, float]
    clouds: Mapping[str, float]


def fill(plan: Plan, limits: Limits, taken: Mapping[Region, float] | None = None) -> dict[Region, float]:
    """Shares on top of those `taken`; they add up to 1, or to less when the limits leave no more."""
    shares = dict(taken or {})
    left = 1.0 - sum(shares.values())
    for tier in plan:
        if left <= TINY:
            break
        left -= _fill_tier(tier, left, limits, shares)
    return shares


def _fill_tier(tier: Tier, amount: float, limits: Limits, shares: dict[Region, float]) -> float:
    """Shares out up to `amount` by weight; what one cannot take the others get. Returns what was taken."""
    room = _room_of_clouds(limits, shares)
    rest = {region: limits.regions.get(region, 1.0) - shares.get(region, 0.0) for region, _ in tier}
    active = {region: weight for region, weight in tier if weight > 0.0 and rest[region] > TINY}
    taken = 0.0
    while active and amount - taken > TINY:
        total = sum(active.values())
        want = {region: (amount - taken) * weight / total for region, weight in active.items()}
        # The tightest limit decides how far all may go together; who meets it is done.
        pace = min((rest[region] / part for region, part in want.items() if part > 0.0), default=1.0)
        sums: dict[str, float] = {}
        for region, part in want.items():
            sums[region.cloud] = sums.get(region.cloud, 0.0) + part
        pace = min(
            1.0, pace, *(room.get(cloud, math.inf) / part for cloud, part in sums.items() if part > 0.0)
        )
        for region, part in want.items():
            shares[region] = shares.get(region, 0.0) + pace * part
            rest[region] -= pace * part
        for cloud in sums:
            if cloud in room:
                room[cloud] -= pace * sums[cloud]
        taken += pace * sum(want.values())
        active = {
            region: weight
            for region, weight in active.items()
            if rest[region] > TINY and room.get(region.cloud, math.inf) > TINY
        }
    return taken


def _room_of_clouds(limits: Limits, shares: Mapping[Region, float]) -> dict[str, float]:
    room = dict(limits.clouds)
    for region, share in shares.items():
        if region.cloud in room:
            room[region.cloud] -= share
    return room
