"""What a decision is made from, and what it gives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeVar

from xds_agent.steering.world import Region

K = TypeVar("K")
Algorithm = Literal["latency", "cost", "geo", "weighted"]
Tier = tuple[tuple[Region, float], ...]
"""Regions that share by weight."""
Plan = tuple[Tier, ...]
"""Tiers, first choice first: the next one takes what the one before cannot."""

WHOLE = 10_000
"""Weights of one priority add up to this."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the inventory says about a service. Shares are fractions from 0 to 1, times seconds."""

    algorithm: Algorithm = "weighted"
    active_passive: bool = False
    order: tuple[str, ...] = ()
    """Clouds allowed, first choice first; empty: all of them."""
    weights: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    """Share of each cloud when all are active; a cloud not named has 1, and no mapping means by endpoint."""
    latency_budget_ms: float | None = None
    """`cost` takes only what is at most this much farther than the nearest."""
    switch_threshold: float = 0.2
    hold_s: float = 30.0
    max_shift: float = 0.25
    step_s: float = 10.0
    min_healthy: float = 0.5
    failback_after_s: float = 60.0
    failback_ramp_s: float = 60.0
    capacity_rps: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    @property
    def measures(self) -> bool:
        """True when round-trip times make a difference to it."""
        return self.algorithm == "latency" or (
            self.algorithm == "cost" and self.latency_budget_ms is not None
        )

    def allows(self, region: Region) -> bool:
        """True when the inventory lets traffic go there."""
        return not self.order or region.cloud in self.order

    def turn(self, region: Region) -> int:
        """Place of its cloud in the order."""
        return self.order.index(region.cloud) if region.cloud in self.order else len(self.order)

    def cloud_weight(self, cloud: str) -> int:
        """Share of a cloud against the others."""
        return 1 if self.active_passive else self.weights.get(cloud, 1)


class Group(NamedTuple):
    """The endpoints of a service in one region."""

    region: Region
    weight: int = 1
    """What its endpoints weigh together; 0: none may be used."""
    healthy: float | None = None
    """Share of that weight that is well; None: nobody knows, which is not the same as down."""


class Endpoint(NamedTuple):
    """One endpoint as far as steering cares."""

    zone: str
    weight: int = 1
    healthy: bool | None = None


class Standing(NamedTuple):
    """Whether a group counts as up, and since when. Up since -inf: it was never down."""

    up: bool = True
    since_s: float = -math.inf


class Placed(NamedTuple):
    """What a group gets."""

    region: Region
    priority: int
    weight: int
    """Within its priority, in parts of WHOLE."""
    share: float
    """Of all requests, while priority 0 is well."""
    reason: str


@dataclass(frozen=True, slots=True)
class Placement:
    """A decision, and what the next one must know of it."""

    placed: tuple[Placed, ...] = ()
    """By priority, then region. Priorities are 0, 1, 2... without a gap."""
    left_out: tuple[tuple[Region, str], ...] = ()
    """Groups that get nothing whatever happens, and why."""
    notes: tuple[str, ...] = ()
    """What is wrong with the whole: all down, more load than capacity."""
    plan: Plan = ()
    basis: tuple[object, ...] = ()
    """The part of the inventory it was made from; when that changes, the plan does at once."""
    standings: tuple[tuple[Region, Standing], ...] = ()
    challenged_since_s: float | None = None
    """Since when another plan has been better by more than the threshold."""
    moved_s: float = -math.inf
    """Time of the last move that was not forced."""

    def shares(self) -> dict[Region, float]:
        """Share of each group that has one."""
        return {one.region: one.share for one in self.placed if one.share > 0.0}


def group_of(region: Region, endpoints: Sequence[Endpoint]) -> Group:
    """Endpoints of one region taken together; those nobody knows about count as well."""
    weight = sum(one.weight for one in endpoints)
    if not weight or all(one.healthy is None for one in endpoints if one.weight):
        return Group(region, weight)
    well = sum(one.weight for one in endpoints if one.healthy is not False)
    return Group(region, weight, well / weight)


def spread(weight: int, endpoints: Sequence[Endpoint]) -> tuple[dict[str, int], tuple[int, ...]]:
    """(weight of each zone, weight of each endpoint) of a group that has `weight`.

    A zone gets its part by what its endpoints weigh, at least 1; one known to be down gets 0, unless all are.
    """
    some_well = any(one.weight and one.healthy is not False for one in endpoints)
    own = tuple(0 if some_well and one.healthy is False else one.weight for one in endpoints)
    sums: dict[str, int] = {}
    for one, mine in zip(endpoints, own, strict=True):
        sums[one.zone] = sums.get(one.zone, 0) + mine
    parts = whole_numbers({zone: float(total) for zone, total in sums.items()}, weight)
    return {zone: max(1, part) if sums[zone] else 0 for zone, part in parts.items()}, own


def whole_numbers(shares: Mapping[K, float], whole: int) -> dict[K, int]:
    """Shares as whole numbers that add up to `whole`; the largest remainders are rounded up."""
    total = sum(shares.values())
    if total <= 0.0:
        return dict.fromkeys(shares, 0)
    if len(shares) == 1:
        return dict.fromkeys(shares, whole)
    exact = {key: share * whole / total for key, share in shares.items()}
    parts = {key: math.floor(value) for key, value in exact.items()}
    ranked: Iterable[K] = sorted(exact, key=lambda key: parts[key] - exact[key])
    for key in list(ranked)[: whole - sum(parts.values())]:
        parts[key] += 1
    return parts
