"""Days of traffic over three clouds in virtual time, seeded: how well each algorithm steers, and how calmly.

Twelve regions, four in each cloud, seen from four proxies: one in each cloud, none in a region that has
endpoints, and one in a data centre of one's own. Round trips are what distance costs and a detour, drift by
the hour, and every sample jitters by 30 %. Load follows the sun. Regions go down and come back, some paths
turn grey (60 ms longer, for hours). Each minute probes are taken in and one decision is made.

`cost_over_optimum`: dollars against a hindsight that knows every true round trip and price of the minute,
under the same latency budget and health. `latency_gap_ms`: p50 of the path chosen above the p50 of the best
one. `moves_per_hour`: changes of who comes first, of the service that changed most. `failed_*`: share of
requests sent to a region that is down, before the next decision, by a proxy without health checks of its
own. `static_*`: the same days with `weighted` and an order written by hand.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from statistics import median

from xds_agent.steering import (
    Fees,
    Group,
    Placement,
    Policy,
    Question,
    Region,
    Rtt,
    World,
    decide,
    least_rtt_ms,
)

NAME = "steering_sim"
GOALS = {
    "cost_over_optimum": ("<=", 1.05),
    "latency_gap_ms": ("<=", 3.0),
    "moves_per_hour": ("<=", 1.0),
}

SEED = 20_261_125
JITTER = 0.3
BUDGET_MS = 30.0
_MINUTES_A_DAY = 24 * 60
_PROBES_A_MINUTE = 6
_DETOUR = 1.4
_REGIONS = tuple(
    Region(cloud, name)
    for cloud, names in (
        ("aws", ("us-east-1", "us-west-2", "eu-central-1", "ap-northeast-1")),
        ("gcp", ("us-east4", "us-west1", "europe-west3", "asia-northeast1")),
        ("azure", ("eastus2", "westus2", "germanywestcentral", "japaneast")),
    )
    for name in names
)
_VANTAGES = (
    Region("aws", "us-east-2"),
    Region("gcp", "europe-west4"),
    Region("azure", "japanwest"),
    Region("colo", "london"),
)
_WORLD = World(
    places={Region("colo", "london"): (51.5, -0.1)},
    fees={
        Region("aws"): Fees(0.09, 0.02),
        Region("gcp"): Fees(0.12, 0.05),
        Region("azure"): Fees(0.087, 0.02),
        Region("gcp", "europe-west3"): Fees(0.08, 0.02),
    },
)
_ORDER = ("aws", "gcp", "azure")
POLICIES = {
    "latency": Policy("latency", active_passive=True, order=_ORDER),
    "cost": Policy("cost", active_passive=True, order=_ORDER, latency_budget_ms=BUDGET_MS),
    "geo": Policy("geo", active_passive=True, order=_ORDER),
    "static": Policy("weighted", active_passive=True, order=_ORDER),
}


@dataclass
class _Weather:
    """True round trips and who is down, minute by minute."""

    drawn: random.Random
    drift: dict[tuple[Region, Region], float] = field(default_factory=dict)
    down_until: dict[Region, int] = field(default_factory=dict)
    grey_until: dict[tuple[Region, Region], int] = field(default_factory=dict)

    def pass_minute(self, minute: int) -> None:
        if minute % 60 == 0:
            for vantage in _VANTAGES:
                for region in _REGIONS:
                    self.drift[vantage, region] = self.drawn.uniform(0.95, 1.05)
        # A region is lost once in ten days and for up to an hour; a path turns grey once in twenty.
        for region in _REGIONS:
            if self.drawn.random() < 1 / (10 * _MINUTES_A_DAY):
                self.down_until[region] = minute + self.drawn.randint(5, 60)
        for vantage in _VANTAGES:
            for region in _REGIONS:
                if self.drawn.random() < 1 / (20 * _MINUTES_A_DAY):
                    self.grey_until[vantage, region] = minute + self.drawn.randint(60, 360)

    def up(self, region: Region, minute: int) -> bool:
        return self.down_until.get(region, 0) <= minute

    def rtt_ms(self, vantage: Region, region: Region, minute: int) -> float:
        km = _WORLD.distance_km(vantage, region) or 0.0
        grey = 60.0 if self.grey_until.get((vantage, region), 0) > minute else 0.0
        return (1.0 + _DETOUR * least_rtt_ms(km)) * self.drift[vantage, region] + grey


@dataclass
class _Tally:
    """What one policy did at one vantage."""

    placement: Placement | None = None
    dollars: float = 0.0
    best_dollars: float = 0.0
    chosen_ms: list[float] = field(default_factory=list)
    best_ms: list[float] = field(default_factory=list)
    moves: int = 0
    failed: float = 0.0
    requests: float = 0.0


def measure(*, quick: bool = False) -> dict[str, float]:
    """Three days, or eight hours with --quick."""
    return simulate(minutes=8 * 60 if quick else 3 * _MINUTES_A_DAY, seed=SEED)


def simulate(*, minutes: int, seed: int) -> dict[str, float]:
    """Figures of that many minutes."""
    drawn = random.Random(seed)
    weather = _Weather(random.Random(seed + 1))
    paths = {(vantage, region): Rtt() for vantage in _VANTAGES for region in _REGIONS}
    tallies = {(name, vantage): _Tally() for name in POLICIES for vantage in _VANTAGES}
    for minute in range(minutes):
        weather.pass_minute(minute)
        load = 1.0 + 0.8 * math.sin(2 * math.pi * minute / _MINUTES_A_DAY)
        for (_, vantage), tally in tallies.items():
            _serve(tally, weather, vantage, minute, load)
        for vantage in _VANTAGES:
            _probe(paths, weather, vantage, minute, drawn)
            _decide(paths, tallies, weather, vantage, minute)
    return _figures(tallies, minutes)


def _probe(
    paths: dict[tuple[Region, Region], Rtt],
    weather: _Weather,
    vantage: Region,
    minute: int,
    drawn: random.Random,
) -> None:
    for region in _REGIONS:
        if weather.up(region, minute):
            for part in range(_PROBES_A_MINUTE):
                sample = weather.rtt_ms(vantage, region, minute) * drawn.uniform(1 - JITTER, 1 + JITTER)
                at_s = 60.0 * minute + 60.0 * part / _PROBES_A_MINUTE
                paths[vantage, region] = paths[vantage, region].after(sample, at_s)


def _decide(
    paths: dict[tuple[Region, Region], Rtt],
    tallies: dict[tuple[str, Region], _Tally],
    weather: _Weather,
    vantage: Region,
    minute: int,
) -> None:
    now_s = 60.0 * (minute + 1)
    known = {region: paths[vantage, region].at(now_s) for region in _REGIONS}
    rtts = {region: estimate for region, estimate in known.items() if estimate is not None}
    groups = [Group(one, 1, 1.0 if weather.up(one, minute) else 0.0) for one in _REGIONS]
    for name, policy in POLICIES.items():
        tally = tallies[name, vantage]
        before = tally.placement
        after = decide(Question(policy, vantage, groups, world=_WORLD, rtts=rtts), before, now_s)
        if before is not None and after.plan[0] != before.plan[0]:
            tally.moves += 1
        tally.placement = after


def _serve(tally: _Tally, weather: _Weather, vantage: Region, minute: int, load: float) -> None:
    """A minute's requests, where the last decision sends them, beside where hindsight would."""
    if tally.placement is None:
        return
    true_ms = {one: weather.rtt_ms(vantage, one, minute) for one in _REGIONS if weather.up(one, minute)}
    best = min(true_ms.values())
    tally.requests += load
    tally.best_ms.append(best)
    tally.best_dollars += load * min(
        _WORLD.usd_per_gb(one, vantage) or 0.0 for one, ms in true_ms.items() if ms - best <= BUDGET_MS
    )
    mean_ms, served = 0.0, 0.0
    for region, share in tally.placement.shares().items():
        if region not in true_ms:
            tally.failed += load * share
            continue
        served += share
        mean_ms += share * true_ms[region]
        tally.dollars += load * share * (_WORLD.usd_per_gb(region, vantage) or 0.0)
    if served:
        tally.chosen_ms.append(mean_ms / served)


def _figures(tallies: dict[tuple[str, Region], _Tally], minutes: int) -> dict[str, float]:
    def of(name: str) -> list[_Tally]:
        return [tally for (own, _), tally in tallies.items() if own == name]

    def dollars(name: str) -> float:
        return sum(one.dollars for one in of(name)) / sum(one.best_dollars for one in of(name))

    def gap(name: str) -> float:
        return max(median(one.chosen_ms) - median(one.best_ms) for one in of(name))

    def failed(name: str) -> float:
        return sum(one.failed for one in of(name)) / sum(one.requests for one in of(name))

    hours = minutes / 60
    return {
        "cost_over_optimum": dollars("cost"),
        "latency_gap_ms": gap("latency"),
        "moves_per_hour": max(one.moves for name in POLICIES for one in of(name)) / hours,
        "geo_gap_ms": gap("geo"),
        "static_cost_over_optimum": dollars("static"),
        "static_gap_ms": gap("static"),
        "failed_latency": failed("latency"),
        "failed_static": failed("static"),
        "days": minutes / _MINUTES_A_DAY,
    }
