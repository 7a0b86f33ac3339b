"""Shares as priorities and whole weights, each with its reason in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xds_agent.steering.filling import TINY, Limits
from xds_agent.steering.ranking import Scores
from xds_agent.steering.values import WHOLE, Group, Placed, Plan, Policy, Standing, whole_numbers
from xds_agent.steering.world import Region

_LEAST = 0.5 / WHOLE


@dataclass(frozen=True, slots=True)
class Words:
    """What the reasons are made of."""

    policy: Policy
    groups: Sequence[Group]
    scores: Scores
    standings: Mapping[Region, Standing]
    goal: Mapping[Region, float]
    limits: Limits
    now_s: float

    def of(self, region: Region, share: float, priority: int) -> str:
        """Why a region has its share or its priority."""
        why = f": {self.scores[region].words}{self._state(region)}"
        if share <= 0.0:
            return f"stands by as number {priority}{why}"
        text = f"takes {_percent(share)}"
        goal = self.goal.get(region, 0.0)
        if abs(goal - share) > TINY:
            text += f", on the way to {_percent(goal)}"
        full = region.cloud in self.limits.clouds
        return text + why + (f", {region.cloud} is at its capacity" if full else "")

    def _state(self, region: Region) -> str:
        standing = self.standings[region]
        if not standing.up:
            healthy = next(one.healthy for one in self.groups if one.region == region)
            least = _percent(self.policy.min_healthy)
            return f"; down, {_percent(healthy or 0.0)} of it is well (at least {least})"
        limit = self.limits.regions[region]
        if limit < 1.0:
            return f"; well again for {self.now_s - standing.since_s:.0f} s, may take {_percent(limit)}"
        return ""

    def rank(self, region: Region) -> int:
        """Who stands by last: the well first, then those coming back, then the down."""
        if not self.standings[region].up:
            return 2
        return 1 if self.limits.regions[region] < 1.0 else 0


def _percent(share: float) -> str:
    return f"{100.0 * share:.3g} %"


def placed(plan: Plan, shares: Mapping[Region, float], words: Words) -> tuple[Placed, ...]:
    """Who has a share is priority 0; the others stand by behind it, tier by tier."""
    serving = {region: share for region, share in sorted(shares.items()) if share > _LEAST}
    weights = whole_numbers(serving, WHOLE)
    total = sum(serving.values())
    found = [
        Placed(region, 0, weights[region], share / total, words.of(region, share / total, 0))
        for region, share in serving.items()
    ]
    standby: dict[tuple[int, int], dict[Region, float]] = {}
    for number, tier in enumerate(plan):
        for region, weight in tier:
            if region not in serving:
                standby.setdefault((words.rank(region), number), {})[region] = weight
    first = 1 if serving else 0
    for priority, key in enumerate(sorted(standby), start=first):
        if len(standby[key]) == 1:
            [region] = standby[key]
            found.append(Placed(region, priority, WHOLE, 0.0, words.of(region, 0.0, priority)))
            continue
        parts = whole_numbers(standby[key], WHOLE)
        found += [
            Placed(region, priority, part, 0.0, words.of(region, 0.0, priority))
            for region, part in sorted(parts.items())
        ]
    return tuple(found)
