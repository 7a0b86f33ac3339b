"""All decisions of a site: from what is known and what was decided before, to the next ones. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from xds_agent.model import ResolvedEndpoint
from xds_agent.steering.asking import Ask
from xds_agent.steering.decide import Question, basis_of, decide
from xds_agent.steering.rtt import Estimate, combined
from xds_agent.steering.site import Scene, Steered
from xds_agent.steering.values import Endpoint, Group, Placement, group_of
from xds_agent.steering.world import Region

Seat = tuple[Region, str]
"""(where proxies stand, service)."""
Share = tuple[Region, int, int]
"""(region, priority, weight within it)."""
Drained = Callable[[ResolvedEndpoint], bool]
At = tuple[Region, Ask]
"""(where proxies stand, what they asked)."""


@dataclass(frozen=True)
class Known:
    """What has been measured, and the requests a second of each service on all proxies together."""

    health: Mapping[At, bool] = field(default_factory=lambda: MappingProxyType({}))
    """Not named: nobody knows."""
    rtts: Mapping[At, Estimate] = field(default_factory=lambda: MappingProxyType({}))
    load_rps: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


NOTHING = Known()


@dataclass(frozen=True)
class Kept:
    """A decision in force."""

    placement: Placement
    since_s: float
    """Since when requests go this way (Unix seconds)."""
    reason: str
    """Why they began to."""
    shares: tuple[Share, ...]
    """The part that proxies act on."""


Decisions = Mapping[Region, Mapping[str, Kept]]
"""Every decision of a site: place -> service -> decision. Where nothing changed, the objects of before."""
UNDECIDED: Decisions = MappingProxyType({})


def never(_: ResolvedEndpoint) -> bool:
    """Nothing is drained."""
    return False


def question(scene: Scene, seat: Seat, known: Known, drained: Drained = never) -> Question:
    """What is to be decided for one service in one place."""
    vantage, name = seat
    steered = scene.services[name]
    return Question(
        policy=steered.policy,
        vantage=vantage,
        groups=[_group(steered, vantage, region, known, drained) for region in steered.groups],
        world=scene.world,
        rtts=_rtts(steered, vantage, known) if steered.policy.measures else {},
        load_rps=known.load_rps.get(name, 0.0),
    )


def decide_all(
    scene: Scene, before: Decisions, known: Known, now_s: float, drained: Drained = never
) -> Decisions:
    """The next decisions for every seat of the scene."""
    wanted = set(scene.seats())
    return decide_some(scene, _cut(before, wanted), known, now_s, sorted(wanted), drained)


def decide_edited(
    old: Scene | None, scene: Scene, before: Decisions, known: Known, now_s: float, drained: Drained = never
) -> Decisions:  # fmt: skip
    """The next decisions where the inventory changed from `old`, a service is new, or something is drained.

    Without `old` what was decided before is taken to be of this very inventory, unless it cannot be: control
    may have died before it wrote down what it decided by the last edit.
    """
    wanted = set(scene.seats())
    all_anew = old is not None and old.world != scene.world
    edited = {
        name
        for name, one in scene.services.items()
        if all_anew
        or (old is not None and not _same(old.services.get(name), one))
        or any(drained(seen.endpoint) for group in one.groups.values() for seen in group)
    }
    seats = sorted(
        (place, name) for place, name in wanted
        if name in edited or name not in before.get(place, {})
        or _is_of_another(scene.services[name], before[place][name].placement)
    )  # fmt: skip
    return decide_some(scene, _cut(before, wanted), known, now_s, seats, drained)


def _is_of_another(steered: Steered, made: Placement) -> bool:
    """Whether it gives requests to, or plans with, what this inventory forbids or does not have."""
    named = {one.region for one in made.placed} | {region for tier in made.plan for region, _ in tier}
    return any(region not in steered.groups or not steered.policy.allows(region) for region in named)


def _same(one: Steered | None, other: Steered) -> bool:
    return one is not None and one.policy == other.policy and one.groups == other.groups


def _cut(before: Decisions, wanted: set[Seat]) -> Decisions:
    """Without the seats that are gone; what stays whole is the object of before."""
    cut: dict[Region, Mapping[str, Kept]] = {}
    for place in dict.fromkeys(place for place, _ in wanted):
        named = before.get(place, {})
        mine = {name: one for name, one in named.items() if (place, name) in wanted}
        cut[place] = named if len(mine) == len(named) else mine
    return cut


def decide_some(
    scene: Scene, before: Decisions, known: Known, now_s: float, seats: Iterable[Seat],
    drained: Drained = never,
) -> Decisions:  # fmt: skip
    """The next decisions, made anew for `seats` alone.

    Services that ask the same and were decided the same share the work.
    """
    changed: dict[Region, dict[str, Kept]] = {}
    shared: dict[object, Placement] = {}
    for seat in seats:
        vantage, name = seat
        old = before.get(vantage, {}).get(name)
        asked = question(scene, seat, known, drained)
        current = old.placement if old is not None else None
        if current is not None and not current.basis and not _is_of_another(scene.services[name], current):
            # It comes from the store: the inventory it was made from is this one.
            current = replace(current, basis=basis_of(asked))
        key = _key(asked, current)
        placement = shared.get(key)
        if placement is None:
            placement = shared[key] = decide(asked, current, now_s)
        if old is None or placement != old.placement:
            changed.setdefault(vantage, {})[name] = _kept(old, placement, now_s)
    if not changed:
        return before
    return {**before, **{place: {**before.get(place, {}), **named} for place, named in changed.items()}}


def _key(asked: Question, current: Placement | None) -> object:
    policy = asked.policy
    load_rps = asked.load_rps if policy.capacity_rps else 0.0
    return (
        asked.vantage, policy, tuple(policy.weights.items()), tuple(policy.capacity_rps.items()),
        tuple(asked.groups), tuple(asked.rtts.items()), load_rps, current and _state(current),
    )  # fmt: skip


def _state(placement: Placement) -> object:
    of = placement
    return of.placed, of.plan, of.standings, of.challenged_since_s, of.moved_s


def _kept(old: Kept | None, placement: Placement, now_s: float) -> Kept:
    shares = tuple((one.region, one.priority, one.weight) for one in placement.placed)
    if old is not None and old.shares == shares:
        return replace(old, placement=placement)
    return Kept(placement, now_s, moved(old.placement if old is not None else None, placement), shares)


def moves(before: Decisions, after: Decisions) -> dict[Seat, Kept]:
    """Decisions of `after` by which proxies do something else than by `before`."""
    found: dict[Seat, Kept] = {}
    for place, named in after.items():
        old = before.get(place, {})
        if named is old:
            continue
        for name, kept in named.items():
            was = old.get(name)
            if was is not kept and (was is None or was.shares != kept.shares):
                found[place, name] = kept
    return found


def is_restless(kept: Kept, now_s: float) -> bool:
    """True while time alone may change the decision: something waits, comes back or is on its way."""
    placement = kept.placement
    policy = placement.basis[0] if placement.basis else None
    wait_s = getattr(policy, "failback_after_s", 0.0) + getattr(policy, "failback_ramp_s", 0.0)
    step_s = getattr(policy, "step_s", 0.0)
    if placement.challenged_since_s is not None or now_s - placement.moved_s <= 2.0 * step_s:
        return True
    return any(not one.up or now_s - one.since_s <= wait_s + 2.0 * step_s for _, one in placement.standings)


def moved(before: Placement | None, after: Placement) -> str:
    """What changed, in words: who gets more or less than before, each with its reason."""
    if before is None:
        words = [f"{one.region} {one.reason}" for one in after.placed if one.share > 0.0]
        return "; ".join([*words, *after.notes])
    was = before.shares()
    words = [
        f"{one.region} {one.reason} (was {100.0 * was.get(one.region, 0.0):.3g} %)"
        for one in after.placed if abs(one.share - was.get(one.region, 0.0)) > 1e-4
    ]  # fmt: skip
    words += [f"{region} gets nothing: {why}" for region, why in after.left_out if was.get(region)]
    if not words:
        words = [f"{one.region} {one.reason}" for one in after.placed if one.share <= 0.0]
    return "; ".join([*words, *after.notes])


def _group(steered: Steered, vantage: Region, region: Region, known: Known, drained: Drained) -> Group:
    endpoints = [
        Endpoint(
            one.endpoint.zone,
            one.endpoint.weight,
            False if drained(one.endpoint) else known.health.get((vantage, one.ask)),
        )
        for one in steered.groups[region]
    ]
    return group_of(region, endpoints)


def _rtts(steered: Steered, vantage: Region, known: Known) -> dict[Region, Estimate]:
    found = {}
    for region, group in steered.groups.items():
        estimate = combined(known.rtts.get((vantage, one.ask)) for one in group)
        if estimate is not None:
            found[region] = estimate
    return found
