"""How long the decisions of a large site take: 10,000 services in 36 regions, seen from 12 places.

A site of this size is written with few kinds of `steering` and few sets of regions: 10,000 services fall into
SHAPES (same policy, same regions, same health), and services of one shape share their decision and its state.
`full_s` decides every shape for every vantage next to its last decision; `edit_ms` is one round-trip time
that changed (one vantage to one region): every shape that reads it, from that vantage. Compiling and
pushing what comes of it are not in these figures; `change_to_ack` has those. `unlike_*` is a site whose
10,000 services share nothing, each with round trips of its own: `unlike_full_s` decides all for every
vantage (control spreads that over its looks), `unlike_edit_ms` is one measurement, which one service reads.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import replace

from xds_agent.steering import Estimate, Fees, Group, Placement, Policy, Question, Region, World, decide
from xds_agent.steering.regions import REGIONS

NAME = "steering_scale"
GOALS = {"edit_ms": ("<=", 50.0), "full_s": ("<=", 2.0)}

SERVICES = 10_000
SHAPES = 240
_REGIONS = 36
_VANTAGES = 12
_EDITS = 20
_LARGEST = 12


def measure(*, quick: bool = False) -> dict[str, float]:
    """Seconds and milliseconds; --quick takes a tenth of the shapes."""
    drawn = random.Random(7)
    shapes = SHAPES // 10 if quick else SHAPES
    regions = [Region(cloud, name) for cloud in REGIONS for name in sorted(REGIONS[cloud])[: _REGIONS // 3]]
    vantages = drawn.sample(regions, _VANTAGES)
    world = World(
        fees={Region("aws"): Fees(0.09, 0.02), Region("gcp"): Fees(0.12), Region("azure"): Fees(0.087)}
    )
    questions = [_question(drawn, regions, world) for _ in range(shapes)]
    rtts = {one: {region: Estimate(drawn.uniform(1, 200), 0.9) for region in regions} for one in vantages}
    state: dict[tuple[int, Region], Placement] = {}
    _decide_all(questions, vantages, rtts, state, 0.0)
    started, started_cpu = time.perf_counter(), time.process_time()
    _decide_all(questions, vantages, rtts, state, 60.0)
    full_s, full_cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
    edits = []
    for number in range(_EDITS):
        vantage, region = drawn.choice(vantages), drawn.choice(regions)
        rtts[vantage] = {**rtts[vantage], region: Estimate(drawn.uniform(1, 200), 0.9)}
        started = time.perf_counter()
        touched = [
            at
            for at, one in enumerate(questions)
            if one.policy.measures and any(group.region == region for group in one.groups)
        ]
        for at in touched:
            asked = replace(questions[at], vantage=vantage, rtts=rtts[vantage])
            state[at, vantage] = decide(asked, state[at, vantage], 120.0 + number)
        edits.append(time.perf_counter() - started)
    return {
        "full_s": full_s,
        "full_cpu_s": full_cpu_s,
        "edit_ms": statistics.median(edits) * 1e3,
        "edit_max_ms": max(edits) * 1e3,
        "decision_us": full_s / (shapes * _VANTAGES) * 1e6,
        **_unlike(drawn, regions, world, vantages, SERVICES // 100 if quick else SERVICES),
        "services": SERVICES,
        "shapes": shapes,
    }


def _unlike(
    drawn: random.Random, regions: list[Region], world: World, vantages: list[Region], services: int
) -> dict[str, float]:
    """Every service by itself; with --quick a hundredth of them, and the figure is for all."""
    state: list[Placement] = []
    seats = [
        replace(
            _question(drawn, regions, world),
            vantage=vantage,
            rtts={region: Estimate(drawn.uniform(1, 200), 0.9) for region in regions},
        )
        for vantage in vantages for _ in range(services)
    ]  # fmt: skip
    started = time.perf_counter()
    state = [decide(one, None, 0.0) for one in seats]
    first_s = time.perf_counter() - started
    started = time.perf_counter()
    for asked, placement in zip(seats, state, strict=True):
        decide(asked, placement, 60.0)
    full_s = time.perf_counter() - started
    edits = []
    for at in drawn.sample(range(len(seats)), _EDITS):
        region = drawn.choice(seats[at].groups).region
        changed = {**seats[at].rtts, region: Estimate(drawn.uniform(1, 200), 0.9)}
        started = time.perf_counter()
        decide(replace(seats[at], rtts=changed), state[at], 120.0)
        edits.append(time.perf_counter() - started)
    scale = SERVICES / services
    return {
        "unlike_first_s": first_s * scale,
        "unlike_full_s": full_s * scale,
        "unlike_edit_ms": statistics.median(edits) * 1e3,
    }


def _question(drawn: random.Random, regions: list[Region], world: World) -> Question:
    policy = Policy(
        algorithm=drawn.choice(("latency", "cost", "geo", "weighted")),
        active_passive=drawn.random() < 0.7,
        order=tuple(drawn.sample(("aws", "gcp", "azure"), 3)),
        latency_budget_ms=drawn.choice((None, 30.0)),
        capacity_rps={"aws": 900.0},
    )
    # Most services stand in a few regions, one in ten in all of them.
    count = len(regions) if drawn.random() < 0.1 else drawn.randint(2, _LARGEST)
    groups = [Group(one, drawn.randint(1, 8), 1.0) for one in drawn.sample(regions, count)]
    return Question(policy, regions[0], groups, world=world, load_rps=drawn.uniform(0, 1500))


def _decide_all(
    questions: list[Question],
    vantages: list[Region],
    rtts: dict[Region, dict[Region, Estimate]],
    state: dict[tuple[int, Region], Placement],
    now_s: float,
) -> None:
    for vantage in vantages:
        for at, one in enumerate(questions):
            asked = replace(one, vantage=vantage, rtts=rtts[vantage])
            state[at, vantage] = decide(asked, state.get((at, vantage)), now_s)
