"""Days of traffic over three clouds in virtual time, seeded: how well each algorithm steers, and how calmly.

Twelve regions, four in each cloud, seen from four proxies: one in each cloud, none in a region that has
endpoints, and one in a data centre of one's own. Round trips are what distance costs and a detour, drift by
the hour, and every sample jitters by 30 %. Load follows the sun over each proxy. Regions go down and come
back, some paths turn grey (60 ms longer, for hours). Each minute probes are taken in and decided by.

`cost_over_optimum`: dollars against a hindsight that knows every true round trip and price of the minute,
under the same latency budget and health. `latency_gap_ms`: p50 of the path chosen above the p50 of the best
one. `moves_per_hour`: changes of who comes first, of the service that changed most. Beside these, for every
way to steer (`static`: `weighted`, an order written by hand): dollars over the optimum, p50 and p95 of the
round trip (of all requests; `best_*`: of the nearest region that is up), moves an hour, and how many of a
million requests go to a region that is down, before the next decision, by a proxy that checks nothing itself.
`--plot FILE` draws the days as SVG.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.steering_plot import Panel, draw
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
_DEGREES_A_DAY = 360.0
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
    "shared": Policy("latency", order=_ORDER),
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


@dataclass(frozen=True)
class _Minute:
    """What became of a minute's requests."""

    load: float
    ms: float | None
    """Mean round trip of those that were served; None when none was."""
    best_ms: float
    usd: float
    best_usd: float
    failed: float


@dataclass
class _Tally:
    """What one policy did at one vantage."""

    placement: Placement | None = None
    minutes: list[_Minute] = field(default_factory=list)
    moves: list[int] = field(default_factory=list)
    """Minutes at which another came first."""


def measure(*, quick: bool = False, plot: Path | None = None) -> dict[str, float]:
    """Three days, or eight hours with --quick."""
    return simulate(minutes=8 * 60 if quick else 3 * _MINUTES_A_DAY, seed=SEED, plot=plot)


def simulate(*, minutes: int, seed: int, plot: Path | None = None) -> dict[str, float]:
    """Figures of that many minutes."""
    drawn = random.Random(seed)
    weather = _Weather(random.Random(seed + 1))
    paths = {(vantage, region): Rtt() for vantage in _VANTAGES for region in _REGIONS}
    tallies = {(name, vantage): _Tally() for name in POLICIES for vantage in _VANTAGES}
    for minute in range(minutes):
        weather.pass_minute(minute)
        for (_, vantage), tally in tallies.items():
            _serve(tally, weather, vantage, minute)
        for vantage in _VANTAGES:
            _probe(paths, weather, vantage, minute, drawn)
            _decide(paths, tallies, weather, vantage, minute)
    if plot is not None:
        plot.write_text(_drawn(tallies, minutes))
    return _figures(tallies, minutes)


def _load(vantage: Region, minute: int) -> float:
    """Requests of a minute: most in the early evening of where the proxy stands."""
    _, east = _WORLD.place(vantage) or (0.0, 0.0)
    day = minute / _MINUTES_A_DAY + east / _DEGREES_A_DAY
    return 1.0 + 0.8 * math.sin(2 * math.pi * (day - 0.5))


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
            tally.moves.append(minute)
        tally.placement = after


def _serve(tally: _Tally, weather: _Weather, vantage: Region, minute: int) -> None:
    """A minute's requests, where the last decision sends them, beside where hindsight would."""
    if tally.placement is None:
        return
    load = _load(vantage, minute)
    true_ms = {one: weather.rtt_ms(vantage, one, minute) for one in _REGIONS if weather.up(one, minute)}
    best_ms = min(true_ms.values())
    best_usd = min(
        _WORLD.usd_per_gb(one, vantage) or 0.0 for one, ms in true_ms.items() if ms - best_ms <= BUDGET_MS
    )
    served = {one: share for one, share in tally.placement.shares().items() if one in true_ms}
    total = sum(served.values())
    mean_ms = sum(share * true_ms[one] for one, share in served.items()) / total if total else None
    usd = sum(share * (_WORLD.usd_per_gb(one, vantage) or 0.0) for one, share in served.items())
    tally.minutes.append(
        _Minute(load, mean_ms, best_ms, load * usd, load * best_usd, load * (1.0 - total))
    )  # fmt: skip


def _figures(tallies: dict[tuple[str, Region], _Tally], minutes: int) -> dict[str, float]:
    hours = minutes / 60
    found = {
        "cost_over_optimum": _over(_of(tallies, "cost")),
        "latency_gap_ms": max(_gap_ms(one) for one in _of(tallies, "latency")),
        "moves_per_hour": max(len(one.moves) for one in tallies.values()) / hours,
        "best_p50_ms": _percentile(_requests(_of(tallies, "latency"), best=True), 0.5),
        "best_p95_ms": _percentile(_requests(_of(tallies, "latency"), best=True), 0.95),
    }
    for name in POLICIES:
        own = _of(tallies, name)
        load = sum(one.load for tally in own for one in tally.minutes)
        found |= {
            f"{name}_cost_over_optimum": _over(own),
            f"{name}_p50_ms": _percentile(_requests(own), 0.5),
            f"{name}_p95_ms": _percentile(_requests(own), 0.95),
            f"{name}_moves_per_hour": max(len(one.moves) for one in own) / hours,
            f"{name}_failed_ppm": sum(one.failed for tally in own for one in tally.minutes) / load * 1e6,
        }
    return found | {"days": minutes / _MINUTES_A_DAY}


def _of(tallies: dict[tuple[str, Region], _Tally], name: str) -> list[_Tally]:
    return [tally for (own, _), tally in tallies.items() if own == name]


def _over(tallies: Iterable[_Tally]) -> float:
    minutes = [one for tally in tallies for one in tally.minutes]
    return sum(one.usd for one in minutes) / sum(one.best_usd for one in minutes)


def _gap_ms(tally: _Tally) -> float:
    served = [one.ms for one in tally.minutes if one.ms is not None]
    return median(served) - median(one.best_ms for one in tally.minutes)


def _requests(tallies: Iterable[_Tally], *, best: bool = False) -> list[tuple[float, float]]:
    """(round trip, how many met it)."""
    minutes = [one for tally in tallies for one in tally.minutes]
    if best:
        return [(one.best_ms, one.load) for one in minutes]
    return [(one.ms, one.load - one.failed) for one in minutes if one.ms is not None]


def _percentile(weighted: list[tuple[float, float]], part: float) -> float:
    left = part * sum(weight for _, weight in weighted)
    for value, weight in sorted(weighted):
        left -= weight
        if left <= 0.0:
            return value
    return math.nan


def _drawn(tallies: dict[tuple[str, Region], _Tally], minutes: int) -> str:
    """Hour by hour, over all vantages: dollars, round trips, and moves since the beginning."""
    hours = range(max(1, minutes // 60))

    def hourly(name: str, *, best: bool = False) -> tuple[list[float], list[float]]:
        cut = [[one for t in _of(tallies, name) for one in t.minutes[60 * h : 60 * h + 60]] for h in hours]
        usd = [sum(one.best_usd if best else one.usd for one in hour) for hour in cut]
        ms = [
            _percentile([(one.best_ms if best else one.ms or 0.0, one.load) for one in hour], 0.5)
            for hour in cut
        ]
        return usd, ms

    lines = {name: hourly(name) for name in POLICIES} | {"hindsight": hourly("latency", best=True)}
    moves = {
        name: [float(sum(at < 60 * (h + 1) for t in _of(tallies, name) for at in t.moves)) for h in hours]
        for name in POLICIES
    }
    return draw(
        "Steering three days of requests, hour by hour" if minutes >= 3 * _MINUTES_A_DAY else "Steering",
        [
            Panel("price of an hour's requests (relative)", {name: usd for name, (usd, _) in lines.items()}),
            Panel("median round trip, ms", {name: ms for name, (_, ms) in lines.items()}),
            Panel("moves so far", moves),
        ],
    )  # fmt: skip
