"""Health has hysteresis, silence of a stranger is no verdict, and percentiles are of what was measured."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xds_agent.node.probing import Answered, Failed, Outcome, Tally, Unable, Window

GOOD, SILENT, REFUSED, UNABLE = (
    Answered(1.0),
    Failed("silence", False),
    Failed("refused", True),
    Unable("no right"),
)
OUTCOMES = st.lists(st.sampled_from([GOOD, SILENT, REFUSED, UNABLE]), max_size=40)


def tally(outcomes: list[Outcome], unhealthy_after: int = 3, healthy_after: int = 2) -> Tally:
    found = Tally()
    for at, one in enumerate(outcomes):
        found = found.after(one, float(at), unhealthy_after=unhealthy_after, healthy_after=healthy_after)
    return found


@given(st.lists(st.sampled_from([SILENT, UNABLE])))
def test_one_that_never_answered_is_unknown_not_down(outcomes: list[Outcome]) -> None:
    assert tally(outcomes).healthy is None


@given(OUTCOMES, st.integers(1, 4))
def test_silent_is_one_that_never_answered_though_it_was_asked_often_enough(
    outcomes: list[Outcome], down: int
) -> None:
    found = tally(outcomes, down)
    asked = [one for one in outcomes if one is not UNABLE]
    assert found.silent is (len(asked) >= down and set(asked) == {SILENT})
    assert not (found.silent and found.healthy is not None)


@given(OUTCOMES)
def test_what_this_host_cannot_ask_changes_nothing(outcomes: list[Outcome]) -> None:
    assert tally(outcomes).healthy == tally([one for one in outcomes if one is not UNABLE]).healthy


@given(OUTCOMES, st.integers(1, 4), st.integers(1, 4))
def test_health_turns_only_after_so_many_in_a_row(outcomes: list[Outcome], down: int, up: int) -> None:
    asked = [one for one in outcomes if one is not UNABLE]
    for end in range(1, len(asked) + 1):
        before, after = (tally(asked[:size], down, up).healthy for size in (end - 1, end))
        if before is True and after is False:
            assert all(one is not GOOD for one in asked[end - down : end])
        if before is False and after is True:
            assert asked[end - up : end] == [GOOD] * up


def test_a_refusal_is_a_word_even_from_a_stranger() -> None:
    assert tally([REFUSED, REFUSED]).healthy is None
    assert tally([REFUSED, REFUSED, REFUSED]).healthy is False


def test_since_is_when_it_turned() -> None:
    assert tally([GOOD, GOOD, SILENT, SILENT, SILENT, SILENT]).since_s == 4.0


@given(st.lists(st.floats(0.01, 1000.0), min_size=1, max_size=200))
def test_percentiles_are_ordered_samples_of_the_window(rtts: list[float]) -> None:
    window = Window()
    for one in rtts:
        window = window.after(one)
    kept = rtts[-64:]
    p50, p95 = window.percentile_ms(50), window.percentile_ms(95)
    assert window.count == len(rtts)
    assert window.least_ms == min(kept) <= p50 <= p95 <= max(kept)
    assert p50 in kept
    assert p95 in kept
    assert sum(one <= p95 for one in kept) >= 0.95 * len(kept)


def test_what_cannot_be_a_round_trip_is_left_out() -> None:
    assert Window().after(None).after(0.0).after(-1.0).after(1e9) == Window()
