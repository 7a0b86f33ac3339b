"""From scores to a plan: which regions come first, which share, by the algorithm asked for."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from xds_agent.steering.rtt import Estimate, blended
from xds_agent.steering.values import Group, Plan, Policy, Tier
from xds_agent.steering.world import Region, World, least_rtt_ms

_NEAR_KM = 50.0
"""Coordinates are no better than this: such differences are left to the order."""
_LEAST_SURE = 0.05
# What is added before dividing, so that "here" or "free" does not take everything when all are to share.
_FLOORS = {"latency": 1.0, "geo": 100.0, "cost": 0.01}


class Score(NamedTuple):
    """How far from ideal a region is. Smaller is better; infinite: nothing is known."""

    over_budget: bool
    value: float
    words: str
    sure: float = 1.0
    """The less sure a measurement is, the larger a gain must be to move anything."""


Scores = Mapping[Region, Score]


def rtt_ms(vantage: Region, region: Region, world: World, measured: Estimate | None) -> float | None:
    """Round trip as believed: measured as far as that is sure, for the rest what the distance costs."""
    km = world.distance_km(vantage, region)
    return blended(measured, None if km is None else least_rtt_ms(km))


def scores(
    policy: Policy,
    vantage: Region,
    groups: Sequence[Group],
    world: World,
    rtts: Mapping[Region, Estimate],
    *,
    up: Collection[Region],
    held: Collection[Region] = (),
) -> dict[Region, Score]:
    """Score of every group. `up` sets the mark for the budget; what is `held` may exceed it a little."""
    if policy.algorithm == "weighted":
        return {one.region: _by_order(policy, one.region) for one in groups}
    if policy.algorithm == "geo":
        return {one.region: _by_distance(world, vantage, one.region) for one in groups}
    believed = {one.region: rtt_ms(vantage, one.region, world, rtts.get(one.region)) for one in groups}
    if policy.algorithm == "latency":
        return {region: _by_rtt(ms, rtts.get(region)) for region, ms in believed.items()}
    best = min((ms for region, ms in believed.items() if ms is not None and region in up), default=None)
    found = {}
    for region, ms in believed.items():
        over, words = False, ""
        if policy.latency_budget_ms is not None and best is not None:
            margin = 1.0 + policy.switch_threshold if region in held else 1.0
            over = ms is None or ms - best > policy.latency_budget_ms * margin
            words = (
                "; how far it is nobody knows"
                if ms is None
                else f", {max(0.0, ms - best):.0f} ms over the best"
            )
            words += f" (beyond the budget of {policy.latency_budget_ms:.0f} ms)" if over else ""
        usd = world.usd_per_gb(region, vantage)
        price = "no price is known" if usd is None else f"{usd:.3f} USD a gigabyte from there"
        found[region] = Score(over, math.inf if usd is None else usd, price + words)
    return found


def _by_order(policy: Policy, region: Region) -> Score:
    if not policy.order:
        return Score(False, 0.0, "by weight")
    turn = policy.turn(region)
    return Score(False, float(turn), f"number {turn + 1} of the order")


def _by_distance(world: World, vantage: Region, region: Region) -> Score:
    km = world.distance_km(vantage, region)
    if km is None:
        unknown = region if world.place(region) is None else vantage
        return Score(False, math.inf, f"nobody knows where {unknown} is")
    return Score(False, km, f"{km:,.0f} km away")


def _by_rtt(ms: float | None, measured: Estimate | None) -> Score:
    if ms is None:
        return Score(False, math.inf, "not measured, and nobody knows where it is")
    if measured is None:
        return Score(False, ms, f"{ms:.0f} ms away by its distance, not measured")
    return Score(False, ms, f"{ms:.0f} ms away", measured.confidence)


def plan(policy: Policy, groups: Iterable[Group], found: Scores) -> Plan:
    """Tiers of the groups that may be used, first choice first."""
    usable = [one for one in groups if one.weight > 0]
    if policy.algorithm == "weighted":
        return _weighted(policy, usable)
    if policy.active_passive:
        return tuple(((region, 1.0),) for region in _ranked(policy, usable, found))
    return _shared(policy, usable, found)


def _weighted(policy: Policy, groups: Sequence[Group]) -> Plan:
    if policy.active_passive:
        turns = sorted({policy.turn(one.region) for one in groups})
        return tuple(_by_endpoints([g for g in groups if policy.turn(g.region) == turn]) for turn in turns)
    if not policy.weights:
        return (_by_endpoints(groups),) if groups else ()
    sums: dict[str, int] = {}
    for one in groups:
        sums[one.region.cloud] = sums.get(one.region.cloud, 0) + one.weight
    tier = [
        (one.region, policy.cloud_weight(one.region.cloud) * one.weight / sums[one.region.cloud])
        for one in groups
    ]
    tier = sorted(part for part in tier if part[1] > 0.0)
    return (tuple(tier),) if tier else ()


def _by_endpoints(groups: Iterable[Group]) -> Tier:
    return tuple(sorted((one.region, float(one.weight)) for one in groups))


def _ranked(policy: Policy, groups: Iterable[Group], found: Scores) -> list[Region]:
    """Best first. Among those as good as the best of what is left, the order decides."""
    by_score = sorted((*found[one.region][:2], one.region) for one in groups)
    ranked: dict[Region, None] = {}
    # What counts as good as the best that is left, in the order of the inventory.
    as_good: list[tuple[int, float, Region]] = []
    best = end = 0
    while len(ranked) < len(by_score):
        while by_score[best][2] in ranked:
            best += 1
        over, value, _ = by_score[best]
        worst = _as_good_as(policy, value)
        while end < len(by_score) and by_score[end][0] == over and by_score[end][1] <= worst:
            _, value, region = by_score[end]
            heapq.heappush(as_good, (policy.turn(region), value, region))
            end += 1
        ranked[heapq.heappop(as_good)[2]] = None
    return list(ranked)


def _as_good_as(policy: Policy, value: float) -> float:
    """The worst value that counts as the same: measurements jitter, distances are rough, prices exact."""
    if policy.algorithm == "latency":
        return value * (1.0 + policy.switch_threshold)
    return value + _NEAR_KM if policy.algorithm == "geo" else value


def _shared(policy: Policy, groups: Sequence[Group], found: Scores) -> Plan:
    """All share, the better ones more; those beyond the budget or unknown stand behind, in their order."""
    floor = _FLOORS[policy.algorithm]
    good = [one for one in groups if not found[one.region].over_budget and found[one.region].value < math.inf]
    good = [one for one in good if policy.cloud_weight(one.region.cloud)]
    rest = [one for one in groups if one not in good and policy.cloud_weight(one.region.cloud)]
    first = tuple(
        sorted(
            (
                one.region,
                policy.cloud_weight(one.region.cloud) * one.weight / (found[one.region].value + floor),
            )
            for one in good
        )
    )
    behind = tuple(((region, 1.0),) for region in _ranked(policy, rest, found))
    return (first, *behind) if first else behind


def is_better(policy: Policy, new: Plan, old: Plan, found: Scores) -> bool:
    """True when some place of the ranking would go to a region better by more than the threshold."""
    for (before, _), (after, _) in zip(_flat(old), _flat(new), strict=True):
        was, now = found[before], found[after]
        if was.over_budget != now.over_budget:
            if was.over_budget:
                return True
            continue
        sure = max(_LEAST_SURE, min(was.sure, now.sure))
        if was.value > now.value * (1.0 + policy.switch_threshold / sure):
            return True
    return False


def _flat(plan_: Plan) -> list[tuple[Region, float]]:
    return [part for tier in plan_ for part in tier]


def regions_of(plan_: Plan) -> set[Region]:
    """Everything a plan names."""
    return {region for region, _ in _flat(plan_)}
