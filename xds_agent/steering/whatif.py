"""Where requests would go if something were otherwise, and what that would cost. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from xds_agent.steering.asking import Ask
from xds_agent.steering.deciding import UNDECIDED, Decisions, Drained, Known, Seat, decide_all
from xds_agent.steering.rtt import Estimate
from xds_agent.steering.site import Scene
from xds_agent.steering.values import Placement, Policy
from xds_agent.steering.world import Fees, Region, World, least_rtt_ms

DAY_S = 86_400.0
GB = 1e9
_NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Suppose:
    """What is otherwise, by cloud."""

    down: frozenset[str] = frozenset()
    usd_per_gb: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    more_ms: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    """Added to every round trip to it."""

    def clouds(self) -> set[str]:
        """Every cloud it speaks of."""
        return {*self.down, *self.usd_per_gb, *self.more_ms}


def settled(
    scene: Scene, known: Known, drained: Drained, suppose: Suppose,
    before: Decisions = UNDECIDED, now_s: float = 0.0,
) -> Decisions:  # fmt: skip
    """Decisions once everything has moved from `before`: no hold, no steps, no ramp.

    What is not better by more than the threshold does not move then, and so it does not here.
    """
    services = {name: replace(one, policy=_hasty(one.policy)) for name, one in scene.services.items()}
    changed = replace(scene, world=_world(scene.world, suppose), services=services)
    measured = replace(known, rtts=_rtts(scene, known, suppose))
    at_rest = {
        place: {name: replace(kept, placement=_at_rest(kept.placement)) for name, kept in named.items()}
        for place, named in before.items()
    }

    def out(endpoint: object) -> bool:
        return getattr(endpoint, "cloud", "") in suppose.down or drained(endpoint)  # type: ignore[arg-type]

    return decide_all(changed, at_rest, measured, now_s, out)


def _hasty(policy: Policy) -> Policy:
    return replace(
        policy, hold_s=0.0, max_shift=1.0, step_s=0.0, failback_after_s=0.0, failback_ramp_s=0.0
    )  # fmt: skip


def _at_rest(made: Placement) -> Placement:
    """Nothing waits, nothing is on its way. Its inventory differs by haste alone, which is no edit."""
    return replace(made, basis=(), challenged_since_s=None, moved_s=-math.inf)


def usd_per_day(
    scene: Scene, decisions: Decisions, bytes_per_s: Mapping[Seat, float], suppose: Suppose | None = None
) -> dict[str, dict[str, float]]:
    """Service -> cloud -> US dollars a day for what leaves that cloud, at the rates measured now.

    What has no known price counts as nothing; within a region it is nothing.
    """
    world = _world(scene.world, suppose) if suppose is not None else scene.world
    found: dict[str, dict[str, float]] = {}
    for vantage, named in decisions.items():
        for name, kept in named.items():
            rate = bytes_per_s.get((vantage, name), 0.0)
            for one in kept.placement.placed:
                usd = world.usd_per_gb(one.region, vantage)
                if not rate or not one.share or not usd:
                    continue
                own = found.setdefault(name, {})
                daily = rate * one.share * DAY_S / GB * usd
                own[one.region.cloud] = own.get(one.region.cloud, 0.0) + daily
    return found


@dataclass(frozen=True)
class Spill:
    """What one cloud would have to take of a service, against what it can."""

    service: str
    cloud: str
    rps: float
    capacity_rps: float | None


def spills(scene: Scene, decisions: Decisions, rps: Mapping[Seat, float]) -> list[Spill]:
    """Requests a second each cloud would get of each service, from all places together."""
    found: dict[tuple[str, str], float] = {}
    for vantage, named in decisions.items():
        for name, kept in named.items():
            rate = rps.get((vantage, name), 0.0)
            for one in kept.placement.placed:
                key = (name, one.region.cloud)
                found[key] = found.get(key, 0.0) + rate * one.share
    return [
        Spill(name, cloud, rate, scene.services[name].policy.capacity_rps.get(cloud))
        for (name, cloud), rate in sorted(found.items())
    ]


def _world(world: World, suppose: Suppose) -> World:
    if not suppose.usd_per_gb:
        return world
    fees = {region: fee for region, fee in world.fees.items() if region.cloud not in suppose.usd_per_gb}
    return replace(world, fees=fees | {Region(cloud): Fees(usd) for cloud, usd in suppose.usd_per_gb.items()})


def _rtts(scene: Scene, known: Known, suppose: Suppose) -> Mapping[tuple[Region, Ask], Estimate]:
    if not suppose.more_ms:
        return known.rtts
    found = dict(known.rtts)
    for vantage, name in scene.seats():
        for region, group in scene.services[name].groups.items():
            more = suppose.more_ms.get(region.cloud)
            if more is None:
                continue
            km = scene.world.distance_km(vantage, region)
            for one in group:
                at = (vantage, one.ask)
                measured = known.rtts.get(at)
                if measured is not None:
                    found[at] = Estimate(max(0.1, measured.ms + more), measured.confidence)
                elif km is not None:
                    found[at] = Estimate(max(0.1, least_rtt_ms(km) + more), 1.0)
    return found
