"""A peer of the benchmark does its work on filled maps, and where it does none there is no ratio to ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bench import datapath
from bench.xdp_objects import Case, Object
from xds_agent.datapath.program import PASS, TX

FRAME = bytes(64)


@pytest.fixture
def peer(program: Path) -> Iterator[Object]:
    """Sends its first frame back; which one that is it counts in a map."""
    once = {
        "answer_bytes": 60, "question_bytes": 0, "most": 1,
        "answer": bytes(96), "mask": bytes(96), "question": bytes(96),
    }  # fmt: skip
    with closing(Object(program.with_name("xdp_reflect.bpf.o"), {"trial": once})) as loaded:
        yield loaded


def verdict(peer: Object) -> int:
    with closing(Case("peer", peer.program(), FRAME)) as case:
        return case.run(1)[1]


def test_a_peer_finds_what_its_maps_were_filled_with(peer: Object) -> None:
    assert verdict(peer) == TX
    assert verdict(peer) == PASS
    peer.fill({"seen": [("00000000", "00" * 8)]})
    assert verdict(peer) == TX


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        ({"vips": [("00", "00")]}, "no map 'vips' in the object"),
        ({"seen": [("00", "00" * 8)]}, "map seen has keys of 4 bytes and values of 8, not 1 and 8"),
        ({"seen": [("nothing", "00")]}, "hexadecimal"),
    ],
)
def test_what_no_map_can_hold_is_named(
    peer: Object, maps: dict[str, list[tuple[str, str]]], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        peer.fill(maps)


@pytest.mark.parametrize(("met", "compared"), [([TX] * 3, True), ([TX, PASS, TX], False)])
def test_a_peer_that_does_not_balance_has_figures_and_no_ratio(
    met: list[int], compared: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = ("empty", "ns", "peer_ns", "xdp_filter_ns")
    raw = {f"{case}_{flows}": 50.0 for case in cases for flows in datapath.FLOWS}
    raw |= dict.fromkeys(("listed_any_ns", "unlisted_any_ns", "full_size_ns"), 50.0)
    figures = datapath.named(raw, peer_met=met)
    assert {f"ratio_peer_{flows}" in figures for flows in datapath.FLOWS} == {compared}
    assert {"peer_ns_1", "ratio_xdp_filter_1"} <= figures.keys()
    assert figures["peer_verdict"] == (TX if compared else PASS)
    assert ("--peer-maps" in capsys.readouterr().out) is not compared
