"""`datapath top`: each packet is one tier's, and what nobody counts is not guessed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_agent.cli.datapath_words import ENVOY_PATTERN, TIERS, Look, proxied_of, rates, show_top

OTHERS = "host and envoy's other ports"
FATES = {
    "drop_denied": "xdp dropped", "drop_no_real": "xdp dropped", "send_nat": "xdp balanced",
    "send_answer": "xdp balanced", "send_gue": "xdp balanced", "send_dsr": "xdp balanced",
    "send_echo": "xdp answered", "send_cookie": "xdp answered", "note_egress": "tc", "note_exempt": None,
}  # fmt: skip
STATE = {
    "services": [
        {"name": "shaped", "forward": "kernel", "fronts": [{"protocol": 6}]},
        {"name": "dns", "forward": "kernel", "fronts": [{"protocol": 17}]},
        {"name": "db", "forward": "nat", "fronts": [{"protocol": 6}]},
        {"name": "envoy/https", "forward": "kernel", "fronts": [{"protocol": 6}]},
    ]
}


def look(
    counts: dict[str, dict[str, int]], *, at: float = 0.0, answered: float | None = None, **envoy: int
) -> Look:
    packets = {
        name: {reason: {"packets": number, "bytes": 0} for reason, number in reasons.items()}
        for name, reasons in counts.items()
    }
    said = {name.replace("__", "."): value for name, value in envoy.items()}
    return Look(packets, proxied_of(STATE), said, at, at if answered is None else answered)


@pytest.mark.parametrize("fate", FATES)
def test_a_fate_is_the_work_of_one_tier(fate: str) -> None:
    found = rates(look({}), look({"shaped": {fate: 10}}, at=2.0))
    assert {tier for tier, rate in found["tiers"].items() if rate} == (
        {FATES[fate]} if FATES[fate] else set()
    )


@pytest.mark.parametrize(
    ("service", "tier"),
    [
        ("envoy/https", "envoy http"),
        ("shaped", "envoy tcp_proxy"),
        ("dns", "envoy udp_proxy"),
        ("db", OTHERS),
        ("host", OTHERS),
    ],
)
def test_what_passes_is_envoys_where_its_service_is_known(service: str, tier: str) -> None:
    found = rates(look({service: {"pass_kernel": 5}}), look({service: {"pass_kernel": 25}}, at=2.0))
    assert {name: rate for name, rate in found["tiers"].items() if rate} == {tier: 10.0}
    assert found["share_percent"][tier] == 100.0


@given(st.dictionaries(st.sampled_from([*FATES, "pass_kernel"]), st.integers(0, 10**9)))
def test_shares_are_of_all_packets(counts: dict[str, int]) -> None:
    found = rates(look({}), look({"shaped": counts, "host": counts}, at=1.0))
    counted = sum(number for fate, number in counts.items() if fate != "note_exempt")
    assert sum(found["tiers"].values()) == 2 * counted
    assert tuple(found["share_percent"]) == TIERS
    assert abs(sum(found["share_percent"].values()) - (100 if counted else 0)) < 1


def test_tc_has_no_part_in_http() -> None:
    """It sees the answers wherever something else is shaped, and gives them no class: one share with and
    without it. What XDP drops or answers in front of Envoy is not Envoy's either."""
    fates = {"pass_kernel": 4, "note_egress": 9, "drop_denied": 2, "send_cookie": 1}
    found = rates(look({}), look({"envoy/https": fates}, at=1.0))
    assert {tier: rate for tier, rate in found["tiers"].items() if rate} == {
        "envoy http": 4.0, "xdp dropped": 2.0, "xdp answered": 1.0,
    }  # fmt: skip


def test_envoy_says_its_own_units_and_nothing_where_it_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    stats = {
        "http__https__downstream_rq_total": 40, "http__https__downstream_cx_rx_bytes_total": 4000,
        "tcp__shaped__downstream_cx_total": 2, "tcp__db__downstream_cx_total": 4,
        "udp__dns__downstream_sess_rx_datagrams": 6,
    }  # fmt: skip
    assert all(re.search(ENVOY_PATTERN, name.replace("__", ".")) for name in stats)
    found = rates(look({}, **dict.fromkeys(stats, 0)), look({}, at=2.0, **stats))
    assert found["envoy"] == {
        "envoy http": {"requests_per_second": 20.0, "bytes_per_second": 2000.0},
        "envoy tcp_proxy": {"connections_per_second": 3.0, "bytes_per_second": 0.0},
        "envoy udp_proxy": {"datagrams_per_second": 3.0, "bytes_per_second": 0.0},
    }
    show_top(found)
    assert "20 requests/s" in capsys.readouterr().out
    assert rates(look({}), look({}, at=2.0, **stats))["envoy"] == {}


def test_what_envoy_takes_to_answer_is_not_a_packets_second() -> None:
    """Counters were read 2 s apart and Envoy, which was busy, answered 4 s apart: each by its own time."""
    stats = {"tcp__shaped__downstream_cx_total": 8}
    before = look({"db": {"send_nat": 0}}, at=10.0, answered=10.5, **dict.fromkeys(stats, 0))
    found = rates(before, look({"db": {"send_nat": 100}}, at=12.0, answered=14.5, **stats))
    assert found["packets_per_second"] == {"db": {"send_nat": 50.0}}
    assert found["envoy"]["envoy tcp_proxy"]["connections_per_second"] == 2.0
