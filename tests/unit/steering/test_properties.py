"""What holds for every decision, whatever is asked."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from xds_agent.steering import (
    WHOLE,
    Estimate,
    Fees,
    Group,
    Placement,
    Policy,
    Question,
    Region,
    Rtt,
    World,
    decide,
)

REGIONS = [
    Region("aws", "us-east-1"),
    Region("aws", "eu-west-1"),
    Region("gcp", "us-central1"),
    Region("gcp", "europe-west3"),
    Region("azure", "eastus"),
    Region("colo", "nowhere"),
]
CLOUDS = ["aws", "gcp", "azure", "colo"]
ALGORITHMS = st.sampled_from(["latency", "cost", "geo", "weighted"])
MEASURED = st.builds(Estimate, ms=st.floats(0.1, 400), confidence=st.floats(0, 1))
PRICES = st.builds(Fees, out_usd=st.floats(0, 1), between_usd=st.none() | st.floats(0, 1))

policies = st.builds(
    Policy,
    algorithm=ALGORITHMS,
    active_passive=st.booleans(),
    order=st.lists(st.sampled_from(CLOUDS), unique=True, max_size=4).map(tuple),
    weights=st.dictionaries(st.sampled_from(CLOUDS), st.integers(0, 5)),
    latency_budget_ms=st.none() | st.floats(0, 100),
    capacity_rps=st.dictionaries(st.sampled_from(CLOUDS), st.floats(1, 1000)),
)
groups = st.lists(
    st.builds(
        Group,
        region=st.sampled_from(REGIONS),
        weight=st.integers(0, 5),
        healthy=st.none() | st.floats(0, 1),
    ),
    unique_by=lambda one: one.region,
    max_size=6,
)
questions = st.builds(
    Question,
    policy=policies,
    vantage=st.sampled_from(REGIONS),
    groups=groups,
    world=st.builds(World, fees=st.dictionaries(st.sampled_from(REGIONS), PRICES)),
    rtts=st.dictionaries(st.sampled_from(REGIONS), MEASURED),
    load_rps=st.floats(0, 2000),
)
# A life: what is measured and well changes from step to step, the inventory stays.
steps = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(REGIONS), MEASURED),
        st.lists(st.none() | st.floats(0, 1), min_size=6, max_size=6),
        st.floats(0, 40),
    ),
    max_size=6,
)


def _life(question: Question, changes: Any) -> list[tuple[Question, Placement]]:
    now = 0.0
    current = decide(question, None, now)
    found = [(question, current)]
    for rtts, health, passed in changes:
        now += passed
        then = [g._replace(healthy=h) for g, h in zip(question.groups, health, strict=False)]
        asked = replace(question, rtts=rtts, groups=then)
        current = decide(asked, current, now)
        found.append((asked, current))
    return found


@given(questions, steps)
@settings(max_examples=60)
def test_weight_is_conserved_and_priorities_have_no_gap(question: Question, changes: Any) -> None:
    for asked, made in _life(question, changes):
        usable = [g for g in asked.groups if g.weight and asked.policy.allows(g.region)]
        usable = [g for g in usable if g.region not in dict(made.left_out)]
        assert {one.region for one in made.placed} == {g.region for g in usable}
        if not usable:
            assert made.placed == ()
            continue
        assert math.isclose(sum(one.share for one in made.placed), 1.0, abs_tol=1e-6)
        assert all(0.0 <= one.share <= 1.0 + 1e-9 for one in made.placed)
        assert sorted({one.priority for one in made.placed}) == list(
            range(1 + max(one.priority for one in made.placed))
        )
        for priority in {one.priority for one in made.placed}:
            assert sum(one.weight for one in made.placed if one.priority == priority) == WHOLE
        assert all((one.priority == 0) == (one.share > 0.0) for one in made.placed)
        assert all(one.reason for one in made.placed)


@given(questions, steps)
@settings(max_examples=50)
def test_a_forbidden_cloud_never_gets_anything(question: Question, changes: Any) -> None:
    for asked, made in _life(question, changes):
        assert all(asked.policy.allows(one.region) for one in made.placed)
        for one in asked.groups:
            if not asked.policy.allows(one.region):
                assert (one.region, "the order") in [(r, why[:9]) for r, why in made.left_out]


@given(questions, st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_the_order_of_groups_does_not_show_and_equal_questions_agree(
    question: Question, shuffled: random.Random
) -> None:
    turned = list(question.groups)
    shuffled.shuffle(turned)
    assert decide(replace(question, groups=turned)) == decide(question) == decide(question)


@given(questions, st.data())
@settings(max_examples=60)
def test_better_health_never_takes_a_share_away(question: Question, data: st.DataObject) -> None:
    if not question.groups:
        return
    at = data.draw(st.integers(0, len(question.groups) - 1))
    worse = replace(question, groups=[g._replace(healthy=0.0) if n == at else g for n, g in _of(question)])
    better = replace(question, groups=[g._replace(healthy=1.0) if n == at else g for n, g in _of(question)])
    region = question.groups[at].region
    assert _share(decide(worse), region) <= _share(decide(better), region) + 1e-6 or _all_down(worse)


@given(questions, st.data())
@settings(max_examples=60)
def test_a_higher_price_never_brings_a_share(question: Question, data: st.DataObject) -> None:
    question = replace(question, policy=replace(question.policy, algorithm="cost"))
    region = data.draw(st.sampled_from(REGIONS))
    low, more = data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1))
    shares = []
    for usd in (low, low + more):
        fees = {**question.world.fees, region: Fees(usd)}
        shares.append(_share(decide(replace(question, world=World(fees=fees))), region))
    assert shares[1] <= shares[0] + 1e-6


@given(st.integers(0, 10_000), st.booleans(), st.floats(5, 200))
@settings(max_examples=10)
def test_two_equal_clouds_do_not_oscillate_under_jitter(seed: int, passive: bool, path_ms: float) -> None:
    """Four hours of samples that jitter by 30 %: who serves at the start serves at the end, all along."""
    drawn = random.Random(seed)
    pair = (Region("aws", "a"), Region("gcp", "b"))
    policy = Policy(algorithm="latency", active_passive=passive, order=("aws", "gcp"))
    paths = {region: Rtt() for region in pair}
    current: Placement | None = None
    plans = set()
    for now in range(0, 4 * 3600, 60):
        for region in pair:
            for part in range(6):
                sample = path_ms * drawn.uniform(0.7, 1.3)
                paths[region] = paths[region].after(sample, now + 10.0 * part)
        rtts = {region: e for region in pair if (e := paths[region].at(now + 55.0)) is not None}
        asked = Question(policy, Region("aws", "z"), [Group(one) for one in pair], rtts=rtts)
        current = decide(asked, current, now + 55.0)
        plans.add(current.plan)
        assert abs(sum(current.shares().values()) - 1.0) < 1e-6
    assert len(plans) == 1


@given(st.floats(0, 300), st.floats(1, 300), st.lists(st.floats(0.5, 30), min_size=1, max_size=40))
@settings(max_examples=60)
def test_what_comes_back_comes_back_by_its_ramp(after: float, ramp: float, waits: list[float]) -> None:
    aws, gcp = Region("aws", "us-east-1"), Region("gcp", "us-central1")
    policy = Policy(
        active_passive=True, order=("aws", "gcp"), failback_after_s=after, failback_ramp_s=ramp, max_shift=1.0
    )

    def asked(healthy: float) -> Question:
        return Question(policy, Region("azure", "eastus"), [Group(aws, 1, healthy), Group(gcp, 1, 1.0)])

    current = decide(asked(1.0), None, 0.0)
    assert _share(current, aws) == 1.0
    current = decide(asked(0.0), current, 1.0)
    assert _share(current, aws) == 0.0, "what is down is left at once"
    now, back, last = 2.0, 2.0, 0.0
    for wait in waits:
        current = decide(asked(1.0), current, now)
        share = _share(current, aws)
        allowed = min(1.0, max(0.0, (now - back - after) / ramp))
        assert last <= share <= allowed + 1e-6
        last, now = share, now + wait
    late = back + after + ramp + 20.0 + sum(waits)
    assert _share(decide(asked(1.0), current, late), aws) == 1.0


@given(questions, steps)
@settings(max_examples=50)
def test_a_free_move_is_never_larger_than_a_step(question: Question, changes: Any) -> None:
    """With nobody down and room enough, one decision moves at most `max_shift`."""
    question = replace(question, load_rps=0.0)
    life = _life(question, [(rtts, [1.0] * 6, passed) for rtts, _, passed in changes])[1:]
    for (_, before), (asked, after) in itertools.pairwise(life):
        old, new = before.shares(), after.shares()
        moved = sum(abs(old.get(r, 0.0) - new.get(r, 0.0)) for r in {*old, *new}) / 2
        if all(standing.since_s == -math.inf for _, standing in after.standings):
            assert moved <= asked.policy.max_shift + 1e-3


def _of(question: Question) -> list[tuple[int, Group]]:
    return list(enumerate(question.groups))


def _share(made: Placement, region: Region) -> float:
    return made.shares().get(region, 0.0)


def _all_down(question: Question) -> bool:
    """Then health says nothing any more."""
    return "everything is down" in " ".join(decide(question).notes)
