"""The decision: where the requests of one service go, as seen from one place, now and next to what was.

Three rules keep it calm. The plan (who comes first) changes only when another is better by more than
`switch_threshold` for as long as `hold`. Shares follow the plan by at most `max_shift` per step. What was
down comes back only after `failback.after` without a relapse, and then little by little over `failback.ramp`.
What must not wait does not: a group that is down, full or no longer allowed loses its share at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from xds_agent.steering.filling import TINY, Limits, fill
from xds_agent.steering.placing import Words, placed
from xds_agent.steering.ranking import Scores, is_better, plan, regions_of, scores
from xds_agent.steering.rtt import Estimate
from xds_agent.steering.values import Group, Placement, Plan, Policy, Standing
from xds_agent.steering.world import Region, World

_CAPACITY_STEPS = 20


@dataclass(frozen=True)
class Question:
    """Everything a decision is made from, but the last decision and the time."""

    policy: Policy
    vantage: Region
    groups: Sequence[Group]
    world: World = field(default_factory=World)
    rtts: Mapping[Region, Estimate] = field(default_factory=lambda: MappingProxyType({}))
    load_rps: float = 0.0
    """Requests a second of the service on all proxies together (smoothed); 0: not known."""


def decide(question: Question, current: Placement | None = None, now_s: float = 0.0) -> Placement:
    """The next placement. Pure: the same question, placement and time give the same answer.

    Without a `current` placement the plan is taken as it is, without hold or steps.
    """
    policy = question.policy
    groups = sorted(one for one in question.groups if policy.allows(one.region))
    left_out = [
        (one.region, _not_allowed(policy)) for one in question.groups if not policy.allows(one.region)
    ]
    left_out += [(one.region, "all its weights are 0") for one in groups if one.weight <= 0]
    standings = _standings(policy, groups, current, now_s)
    up = {region for region, standing in standings.items() if standing.up}
    shares_then = current.shares() if current is not None else {}
    held = set(shares_then)
    found = scores(policy, question.vantage, groups, question.world, question.rtts, up=up, held=held)
    wanted = plan(policy, groups, found)
    named = regions_of(wanted)
    left_out += [
        (g.region, "its cloud has weight 0") for g in groups if g.weight > 0 and g.region not in named
    ]
    limits = _limits(question, standings, now_s)
    basis = _basis(policy, groups)
    if current is None or current.basis != basis:
        chosen, challenged = wanted, None
    else:
        chosen, challenged = _chosen_plan(policy, wanted, current, found, limits, up, now_s)
    goal, notes = _goal(chosen, limits, up)
    shares, moved = _stepped(policy, goal, limits, current, shares_then, now_s)
    words = Words(policy, groups, found, standings, goal, limits, now_s)
    return Placement(
        placed=placed(chosen, shares, words),
        left_out=tuple(sorted(left_out)),
        notes=notes,
        plan=chosen,
        basis=basis,
        standings=tuple(standings.items()),
        challenged_since_s=challenged,
        moved_s=moved,
    )


def basis_of(question: Question) -> tuple[object, ...]:
    """The part of the inventory that a decision is made from."""
    policy = question.policy
    return _basis(policy, sorted(one for one in question.groups if policy.allows(one.region)))


def _basis(policy: Policy, groups: Sequence[Group]) -> tuple[object, ...]:
    return policy, tuple((one.region, one.weight) for one in groups)


def _not_allowed(policy: Policy) -> str:
    return f"the order ({', '.join(policy.order)}) does not name its cloud"


def _standings(
    policy: Policy, groups: Sequence[Group], current: Placement | None, now_s: float
) -> dict[Region, Standing]:
    """Down at once; up again at once too, but what that is worth is for the limits to say."""
    before = dict(current.standings) if current is not None else {}
    found = {}
    for one in groups:
        well = one.healthy is None or one.healthy >= policy.min_healthy
        was = before.get(one.region)
        if was is None:
            found[one.region] = Standing() if well else Standing(False, now_s)
        else:
            found[one.region] = was if was.up == well else Standing(well, now_s)
    return found


def comeback(policy: Policy, standing: Standing, now_s: float) -> float:
    """How much of all requests a group that was down may take: 0 until `after`, 1 when the ramp is over."""
    if not standing.up:
        return 0.0
    if standing.since_s == -math.inf:
        return 1.0
    past = now_s - standing.since_s - policy.failback_after_s
    if past < 0.0:
        return 0.0
    return 1.0 if past >= policy.failback_ramp_s else past / policy.failback_ramp_s


def _limits(question: Question, standings: Mapping[Region, Standing], now_s: float) -> Limits:
    policy = question.policy
    regions = {region: comeback(policy, standing, now_s) for region, standing in standings.items()}
    clouds = {}
    for cloud, capacity in policy.capacity_rps.items():
        if question.load_rps > capacity:
            # In steps, so that a load that jitters does not move anything.
            steps = math.floor(capacity / question.load_rps * _CAPACITY_STEPS)
            clouds[cloud] = max(steps, 0.2) / _CAPACITY_STEPS
    return Limits(regions, clouds)


def _chosen_plan(
    policy: Policy,
    wanted: Plan,
    current: Placement,
    found: Scores,
    limits: Limits,
    up: set[Region],
    now_s: float,
) -> tuple[Plan, float | None]:
    """(the plan to follow, since when another one has been better): the rule of threshold and hold."""
    old = current.plan
    if wanted == old or policy.algorithm in ("weighted", "geo"):
        # These two change by an edit only: nothing in them jitters.
        return wanted, None
    if policy.active_passive:
        better = is_better(policy, wanted, old, found)
    else:
        before, after = _goal(old, limits, up)[0], _goal(wanted, limits, up)[0]
        better = _difference(before, after) > policy.switch_threshold
    if not better:
        return old, None
    since = now_s if current.challenged_since_s is None else min(now_s, current.challenged_since_s)
    return (wanted, None) if now_s - since >= policy.hold_s else (old, since)


def _goal(plan_: Plan, limits: Limits, up: set[Region]) -> tuple[dict[Region, float], tuple[str, ...]]:
    """(shares that add up to 1 wherever there is a plan, what is wrong)."""
    shares = fill(plan_, limits)
    if 1.0 - sum(shares.values()) > TINY:
        # Better one that has only just come back than none.
        patient = {region: 1.0 if region in up else 0.0 for region in limits.regions}
        shares = fill(plan_, Limits(patient, limits.clouds), shares)
    total = sum(shares.values())
    if 1.0 - total <= TINY:
        return shares, ()
    if total > TINY:
        words = f"the load is more than all clouds can take: each gets {1.0 / total:.2f} times its capacity"
        return {region: share / total for region, share in shares.items()}, (words,)
    shares = fill(plan_, Limits({}, {}))
    return shares, ("everything is down: requests go where they would if all were well",) if shares else ()


def _stepped(
    policy: Policy,
    goal: Mapping[Region, float],
    limits: Limits,
    current: Placement | None,
    then: Mapping[Region, float],
    now_s: float,
) -> tuple[dict[Region, float], float]:
    """(shares, time of the last free move): what must go goes at once, the rest in steps."""
    if current is None or not then:
        return dict(goal), now_s
    forced = _forced(goal, limits, then)
    if _difference(forced, goal) <= TINY:
        return dict(goal), current.moved_s
    if now_s - current.moved_s < policy.step_s and now_s >= current.moved_s:
        return forced, current.moved_s
    part = min(1.0, policy.max_shift / _difference(forced, goal))
    regions = sorted({*forced, *goal})
    shares = {
        region: (1.0 - part) * forced.get(region, 0.0) + part * goal.get(region, 0.0) for region in regions
    }
    return shares, now_s


def _forced(
    goal: Mapping[Region, float], limits: Limits, then: Mapping[Region, float]
) -> dict[Region, float]:
    """Shares of before, cut to the limits; what was cut goes where the goal has room for it."""
    kept = {
        region: min(share, max(limits.regions.get(region, 0.0), goal.get(region, 0.0)))
        for region, share in then.items()
    }
    for cloud, room in limits.clouds.items():
        mine = [region for region in kept if region.cloud == cloud]
        most = max(room, sum(share for region, share in goal.items() if region.cloud == cloud))
        total = sum(kept[region] for region in mine)
        if total > most:
            kept.update((region, kept[region] * most / total) for region in mine)
    lost = 1.0 - sum(kept.values())
    if lost <= TINY:
        return kept
    gaps = {region: share - kept.get(region, 0.0) for region, share in goal.items()}
    gaps = {region: gap for region, gap in gaps.items() if gap > 0.0}
    total = sum(gaps.values())
    for region, gap in gaps.items():
        kept[region] = kept.get(region, 0.0) + gap * min(1.0, lost / total)
    return kept


def _difference(one: Mapping[Region, float], other: Mapping[Region, float]) -> float:
    """Share of requests that would go elsewhere."""
    regions = sorted({*one, *other})
    return sum(abs(one.get(region, 0.0) - other.get(region, 0.0)) for region in regions) / 2.0
