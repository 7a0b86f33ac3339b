"""Probes keep to the node's budget, whatever is asked for and however time passes."""

from __future__ import annotations

import itertools
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_agent.node.probing import Check, OverBudget, Schedule, Target, check_budget, distinct
from xds_agent.node.probing.schedule import JITTER, rate_per_s


def targets(number: int, interval_s: float) -> list[Target]:
    return [
        Target(f"10.0.{index // 250}.{index % 250 + 1}", 80, interval_s=interval_s) for index in range(number)
    ]


def play(schedule: Schedule, steps: list[float]) -> list[tuple[float, Target]]:
    """Everything that is taken while time passes in these steps."""
    taken, now = [], 0.0
    for step in steps:
        now += step
        while (target := schedule.take(now)) is not None:
            taken.append((now, target))
    return taken


@given(
    number=st.integers(1, 60), seed=st.integers(0, 99), limit=st.floats(5.0, 200.0),
    steps=st.lists(st.floats(0.0, 3.0), max_size=300),
)  # fmt: skip
def test_no_second_holds_more_than_the_budget(
    number: int, seed: int, limit: float, steps: list[float]
) -> None:
    schedule = Schedule(random.Random(seed).random, limit)
    schedule.set(targets(number, number / limit), 0.0)
    times = [at for at, _ in play(schedule, steps)]
    for index, at in enumerate(times):
        within = [other for other in times[index:] if other < at + 1.0]
        assert len(within) <= limit + 1


@given(seed=st.integers(0, 999), number=st.integers(1, 40))
def test_each_target_has_its_turn_within_its_jitter(seed: int, number: int) -> None:
    schedule = Schedule(random.Random(seed).random, 200.0)
    schedule.set(targets(number, 5.0), 0.0)
    taken = play(schedule, [0.005] * 8000)
    turns: dict[str, list[float]] = {}
    for at, target in taken:
        turns.setdefault(target.address, []).append(at)
    assert len(turns) == number
    for own in turns.values():
        assert own[0] <= 5.3
        for earlier, later in itertools.pairwise(own):
            # Up to all others may be ahead at the budget's pace.
            assert 5.0 * (1 - JITTER) - 0.3 <= later - earlier <= 5.0 * (1 + JITTER) + 0.3


def test_more_than_the_budget_is_refused_with_its_arithmetic() -> None:
    wanted = [
        *targets(150, 1.0),
        *(Target("10.1.0.1", port, Check("http"), interval_s=0.5) for port in range(1, 61)),
    ]
    with pytest.raises(OverBudget) as refused:
        check_budget(wanted, 200.0, who="edge1")
    words = str(refused.value)
    assert words.startswith(
        "edge1 is asked for 60 http every 0.5 s (120.0) + 150 tcp every 1 s (150.0) = 270.0"
    )
    factor = float(re.search(r"intervals ([\d.]+) times", words).group(1))  # type: ignore[union-attr]
    check_budget(
        [Target(o.address, o.port, o.check, interval_s=o.interval_s * factor) for o in wanted], 200.0
    )


def test_what_is_over_the_budget_leaves_the_schedule_as_it_was() -> None:
    schedule = Schedule(lambda: 0.0, 10.0)
    schedule.set(targets(5, 1.0), 0.0)
    with pytest.raises(OverBudget):
        schedule.set(targets(50, 1.0), 0.0)
    assert {one.address for _, one in play(schedule, [0.1] * 20)} == {o.address for o in targets(5, 1.0)}


def test_what_is_no_longer_wanted_is_not_probed_again() -> None:
    schedule = Schedule(lambda: 0.5, 200.0)
    schedule.set(targets(4, 1.0), 0.0)
    schedule.set(targets(1, 1.0), 0.0)
    assert {one.address for _, one in play(schedule, [0.1] * 50)} == {"10.0.0.1"}


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from([1.0, 5.0]), st.sampled_from(["tcp", "http"]))))
def test_the_same_probe_is_made_once_at_the_shortest_interval(asked: list[tuple[int, float, str]]) -> None:
    wanted = [Target("10.0.0.1", port, Check(kind), interval_s=every) for port, every, kind in asked]  # type: ignore[arg-type]
    found = distinct(wanted)
    assert len(found) == len({one.key for one in wanted})
    assert found == distinct(reversed(wanted))
    for one in found:
        assert one.interval_s == min(other.interval_s for other in wanted if other.key == one.key)
    assert rate_per_s(found) <= rate_per_s(wanted) * 1.000001


@pytest.mark.parametrize(
    "wrong", [{"address": "shop.example.com"}, {"port": 0}, {"port": 70_000}, {"interval_s": 0.0}]
)
def test_what_cannot_be_probed_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Target(**{"address": "10.0.0.1", "port": 80, **wrong})  # type: ignore[arg-type]
