"""The rule of the gate, and where it says that it knows nothing."""

import pytest

from xds_agent.rollout.gate import Window, judge


def counters(requests, failed=0, connects=0, rejected=0):
    return {
        "downstream_rq_total": requests, "downstream_rq_5xx": failed,
        "upstream_cx_connect_fail": connects, "update_rejected": rejected,
    }  # fmt: skip


def window(before, after):
    """Shares before and after, as (requests, failed, connects)."""
    start = counters(*before)
    now = counters(*(a + b for a, b in zip(before, after, strict=True)))
    return Window(counters(0), start, now)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ((1000, 0, 0), (1000, 0, 0), None),
        ((1000, 0, 0), (1000, 9, 0), None),
        ((1000, 0, 0), (1000, 10, 0), "requests answered 5xx went from 0.0% to 1.0%"),
        ((1000, 300, 0), (1000, 400, 0), None),
        ((1000, 300, 0), (1000, 601, 0), "requests answered 5xx went from 30.0% to 60.1%"),
        ((1000, 0, 0), (1000, 0, 50), "failed connects to backends went from 0.0% to 5.0%"),
    ],
)
def test_worse_is_twice_as_bad_and_a_percent_more(before, after, words):
    verdict = judge({"edge1": window(before, after)})
    assert [words in one for one in verdict.worse] == ([True] if words else [])
    assert verdict.evidence == "1000 requests compared"


@pytest.mark.parametrize(
    "quiet",
    [
        window((1000, 0, 0), (99, 99, 0)),
        window((99, 0, 0), (1000, 1000, 0)),
        Window(None, counters(0), counters(1000, 1000)),
        Window(counters(0), counters(1000), None),
    ],
)
def test_too_little_is_no_evidence(quiet):
    verdict = judge({"edge1": quiet})
    assert verdict.worse == ()
    assert verdict.evidence.startswith("no evidence")


def test_quiet_proxies_are_judged_together():
    verdict = judge({f"edge{n}": window((60, 0, 0), (60, 30, 0)) for n in range(2)})
    assert "2 quiet proxies together: requests answered 5xx went from 0.0% to 50.0%" in verdict.worse[0]


def test_one_bad_proxy_does_not_hide_behind_the_others():
    good = {f"edge{n}": window((10_000, 0, 0), (10_000, 0, 0)) for n in range(9)}
    verdict = judge({**good, "bad": window((200, 0, 0), (200, 20, 0))})
    assert [one.split(":")[0] for one in verdict.worse] == ["bad"]


def test_an_envoy_that_began_again_is_no_evidence():
    assert judge({"edge1": Window(counters(0), counters(5000), counters(200, 200))}).worse == ()


def test_a_late_rejection_needs_no_traffic():
    verdict = judge({"edge1": Window(None, counters(0, rejected=3), counters(0, rejected=4))})
    assert verdict.worse == ("edge1: Envoy rejected 1 updates after the change",)
