"""Distances as the command line says them, as the program reads them, and back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import LabError
from lab.wan import table
from lab.wan.table import Change, Met, Way

SIDES = {
    "aws": ["10.1.0.0/24", "10.1.1.0/24"],
    "gcp": ["10.2.0.0/24"],
    "azure": ["10.3.0.0/24"],
    "control": ["10.9.0.0/24"],
}
PAIR = ("aws", "gcp")

ways = st.dictionaries(
    st.permutations(sorted(SIDES)).map(lambda names: (names[0], names[1])),
    st.builds(
        Way,
        delay_us=st.integers(1, 10**6),
        jitter_us=st.integers(0, 10**6),
        loss_ppm=st.integers(0, table.MILLION),
        rate_bps=st.integers(0, 10**10),
    ),
)


@given(ways)
def test_what_the_program_is_told_is_what_is_shown(set_: table.Ways) -> None:
    answer = "".join(f"{line} 5 4 3 2\n" for line in table.program(set_, SIDES).splitlines())
    shown = table.read(answer, SIDES)
    assert {at: way for at, (way, _) in shown.items()} == set_
    for at, (_, met) in shown.items():
        ranges = len(SIDES[at[0]]) * len(SIDES[at[1]])
        assert met == Met(5 * ranges, 4 * ranges, 3 * ranges, 2 * ranges)


def test_a_round_trip_is_halved_and_what_is_not_said_stays() -> None:
    first = table.changed({}, PAIR, Change(rtt=timedelta(milliseconds=80), rate_bps=50_000_000))
    assert first == {PAIR: Way(40_000, 0, 0, 50_000_000), PAIR[::-1]: Way(40_000, 0, 0, 50_000_000)}
    second = table.changed(first, PAIR, Change(loss_ppm=10_000), one_way=True)
    assert second == first | {PAIR: Way(40_000, 0, 10_000, 50_000_000)}


def test_one_way_takes_the_whole_round_trip_there() -> None:
    change = Change(rtt=timedelta(milliseconds=80))
    assert table.changed({}, PAIR, change, one_way=True) == {PAIR: Way(80_000)}


def test_what_is_short_again_is_forgotten() -> None:
    far = table.changed({}, PAIR, Change(loss_ppm=1))
    assert table.changed(far, PAIR, Change(loss_ppm=0)) == {}
    assert table.without(far | {("gcp", "azure"): Way(1)}, PAIR[::-1]) == {("gcp", "azure"): Way(1)}


def test_no_packet_arrives_before_it_was_sent() -> None:
    with pytest.raises(LabError, match="before it was sent"):
        table.changed({}, PAIR, Change(rtt=timedelta(milliseconds=8), jitter=timedelta(milliseconds=5)))


@pytest.mark.parametrize(("text", "ppm"), [("1%", 10_000), ("0.05%", 500), ("100%", 1_000_000), ("0%", 0)])
def test_loss_is_a_percentage(text: str, ppm: int) -> None:
    assert table.parse_loss(text) == ppm


@pytest.mark.parametrize("text", ["1", "101%", "-1%", "%", "nan%"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="percentage"):
        table.parse_loss(text)


@pytest.mark.parametrize("text", ["aws", "aws-aws", "aws-nowhere", "-", ""])
def test_an_unknown_pair_is_told_which_networks_there_are(text: str) -> None:
    with pytest.raises(LabError) as refused:
        table.pair_of(text, SIDES)
    assert "aws, azure, control, gcp" in refused.value.remedy
