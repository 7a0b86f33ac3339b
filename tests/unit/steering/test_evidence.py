"""Words of nodes become what is known: liars are outvoted, the old is forgotten, state survives the store."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from xds_agent.model import load_site
from xds_agent.steering import Estimate, Region
from xds_agent.steering.deciding import (
    NOTHING,
    UNDECIDED,
    Known,
    decide_all,
    decide_edited,
    decide_some,
    is_restless,
    moves,
)
from xds_agent.steering.evidence import STALE_S, Evidence, majority
from xds_agent.steering.site import Scene, scene_of
from xds_agent.steering.whatif import Suppose, settled, usd_per_day
from xds_agent.steering.written import read, written

AWS, GCP = Region("aws", "us-east-1"), Region("gcp", "us-central1")


def scene(proxies: int = 3, **steering: Any) -> Scene:
    endpoints = [
        {"address": f"10.{n}.0.1", "port": 80, "cloud": one.cloud, "region": one.region}
        for n, one in enumerate((AWS, GCP), 1)
    ]
    hosts = {
        f"edge{n}": {"address": f"10.9.0.{n}", "groups": ["ingress"], **AWS._asdict()}
        for n in range(1, proxies + 1)
    }
    said = {"order": ["aws", "gcp"], **steering}
    edge = {
        "clouds": {"aws": {"egress_usd_per_gb": 0.09}, "gcp": {"egress_usd_per_gb": 0.12}},
        "services": [{"name": "s", "endpoints": endpoints, "steering": said}],
    }
    return scene_of(load_site({"schema": 1, "edge": edge, "hosts": hosts, "origins": {}}))


def ask(of: Scene, region: Region) -> Any:
    return of.services["s"].groups[region][0].ask


@given(st.lists(st.sampled_from([True, False, None])))
def test_a_majority_of_those_who_know_decides_and_a_tie_is_unknown(verdicts: list[bool | None]) -> None:
    found = majority(verdicts)
    well, down = verdicts.count(True), verdicts.count(False)
    assert found is (None if well == down else well > down)


def test_one_node_that_lies_changes_nothing() -> None:
    of, evidence = scene(), Evidence()
    evidence.follow(of)
    for node, healthy, rtt in (("edge1", True, 5.0), ("edge2", True, 6.0), ("edge3", False, 900.0)):
        evidence.hear(node, ask(of, AWS).id, 0.0, healthy=healthy, samples_ms=[rtt] * 8)
    assert evidence.settle(0.0) == ({(AWS, ask(of, AWS))}, {(AWS, ask(of, AWS))})
    assert evidence.known.health == {(AWS, ask(of, AWS)): True}
    assert evidence.known.rtts[AWS, ask(of, AWS)].ms == 6.0


def test_nobody_is_heard_about_what_he_was_not_asked() -> None:
    of, evidence = scene(proxies=1), Evidence()
    evidence.follow(of)
    evidence.hear("edge1", 12345, 0.0, healthy=False)
    evidence.hear("stranger", ask(of, AWS).id, 0.0, healthy=False)
    assert evidence.settle(0.0) == (set(), set())


def test_what_no_round_trip_can_take_is_not_told_of_it() -> None:
    """A node's NaN made every answer about routes fail, since JSON has none."""
    of, evidence = scene(proxies=1), Evidence()
    evidence.follow(of)
    for nonsense in (float("nan"), float("inf"), -1.0):
        evidence.hear("edge1", ask(of, AWS).id, 0.0, healthy=True, p50_ms=nonsense, p95_ms=nonsense)
        [word] = evidence.of(AWS, ask(of, AWS))
        assert (word.p50_ms, word.p95_ms) == (0.0, 0.0)


def test_what_a_silent_node_said_is_forgotten() -> None:
    of, evidence = scene(proxies=1), Evidence()
    evidence.follow(of)
    evidence.hear("edge1", ask(of, AWS).id, 0.0, healthy=False)
    evidence.settle(0.0)
    assert evidence.known.health
    evidence.grow_old(STALE_S + 1.0)
    evidence.settle(STALE_S + 1.0)
    assert not evidence.known.health


@given(st.integers(0, 4), st.booleans())
def test_a_decision_survives_the_store(steps: int, down: bool) -> None:
    of = scene()
    known = Known(health={(AWS, ask(of, AWS)): not down})
    decisions = decide_all(of, UNDECIDED, NOTHING, 0.0)
    for step in range(steps):
        decisions = decide_all(of, decisions, known, 10.0 * (step + 1))
    kept = decisions[AWS]["s"]
    again = read(json.loads(json.dumps(written(kept))), since_s=kept.since_s, reason=kept.reason)
    assert again.shares == kept.shares
    for later in (60.0, 120.0, 300.0):
        one = decide_all(of, {AWS: {"s": kept}}, known, later)[AWS]["s"]
        other = decide_all(of, {AWS: {"s": again}}, known, later)[AWS]["s"]
        assert one.placement == other.placement


def test_what_did_not_change_is_the_object_of_before() -> None:
    of = scene()
    first = decide_all(of, UNDECIDED, NOTHING, 0.0)
    assert decide_some(of, first, NOTHING, 1000.0, of.seats()) is first
    assert moves(first, first) == {}
    down = decide_some(of, first, Known(health={(AWS, ask(of, AWS)): False}), 1000.0, of.seats())
    assert set(moves(first, down)) == {(AWS, "s")}
    assert is_restless(down[AWS]["s"], 1000.0)
    assert not is_restless(first[AWS]["s"], 10_000.0)


def test_what_if_moves_by_the_same_rules_and_prices_it() -> None:
    of = scene(algorithm="latency", mode="active-passive")
    gone = settled(of, NOTHING, lambda _: False, Suppose(down=frozenset({"aws"})))
    assert gone[AWS]["s"].placement.shares() == {GCP: 1.0}
    # Ten megabytes a second that come from gcp: 864 GB a day.
    cost = usd_per_day(of, gone, {(AWS, "s"): 1e7})
    assert round(cost["s"]["gcp"], 2) == round(864 * 0.12, 2)
    dearer = usd_per_day(of, gone, {(AWS, "s"): 1e7}, Suppose(usd_per_gb={"gcp": 0.24}))
    assert round(dearer["s"]["gcp"], 2) == round(864 * 0.24, 2)
    slow = settled(of, NOTHING, lambda _: False, Suppose(more_ms={"aws": 500.0}))
    assert slow[AWS]["s"].placement.shares() == {GCP: 1.0}
    assert settled(of, NOTHING, lambda _: False, Suppose())[AWS]["s"].placement.shares() == {AWS: 1.0}


def test_what_if_keeps_what_is_not_better_by_more_than_the_threshold() -> None:
    of = scene(algorithm="latency", mode="active-passive", order=["gcp", "aws"], hold="30s")
    both = {AWS: 10.0, GCP: 12.0}

    def known(rtts: dict[Region, float]) -> Known:
        return Known(rtts={(AWS, ask(of, region)): Estimate(ms, 1.0) for region, ms in rtts.items()})

    before = decide_all(of, UNDECIDED, known({AWS: 10.0, GCP: 30.0}), 0.0)
    assert before[AWS]["s"].placement.shares() == {AWS: 1.0}
    for more_ms, goes_to in ((1.5, AWS), (40.0, GCP)):
        suppose = Suppose(more_ms={"aws": more_ms})
        said = settled(of, known(both), lambda _: False, suppose, before, 1000.0)
        # What it says is what then happens, however long one waits.
        met = known({AWS: 10.0 + more_ms, GCP: 12.0})
        after = before
        for step in range(20):
            after = decide_all(of, after, met, 1000.0 + 10.0 * step)
        assert said[AWS]["s"].placement.shares() == after[AWS]["s"].placement.shares() == {goes_to: 1.0}


def test_an_edit_decides_anew_what_it_touches_and_nothing_else() -> None:
    of = scene()
    first = decide_all(of, UNDECIDED, NOTHING, 0.0)
    assert decide_edited(of, scene(), first, NOTHING, 1000.0) == first
    assert decide_edited(None, of, UNDECIDED, NOTHING, 0.0) == first
    turned = decide_edited(of, scene(order=["gcp"]), first, NOTHING, 1000.0)
    assert turned[AWS]["s"].placement.shares() == {GCP: 1.0}
    assert [region for region, _, _ in turned[AWS]["s"].shares] == [GCP]
    out = decide_edited(of, of, first, NOTHING, 1000.0, lambda one: one.cloud == "aws")
    assert out[AWS]["s"].placement.shares() == {GCP: 1.0}


def test_a_cloud_that_is_forbidden_by_now_gets_nothing_from_the_store() -> None:
    """Control died between an edit and the note of what it decided by it."""
    for algorithm in ("weighted", "latency", "cost"):
        kept = decide_all(scene(algorithm=algorithm, mode="active-active"), UNDECIDED, NOTHING, 0.0)
        assert {region for region, _, _ in kept[AWS]["s"].shares} == {AWS, GCP}
        stored = {AWS: {"s": read(json.loads(json.dumps(written(kept[AWS]["s"]))), since_s=0.0, reason="")}}
        now = scene(algorithm=algorithm, mode="active-active", order=["aws"])
        after = decide_edited(None, now, stored, NOTHING, 1.0)
        assert {region for region, _, _ in after[AWS]["s"].shares} == {AWS}
