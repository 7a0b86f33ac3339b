"""Changes in waves: the real pipeline, store, compiler and core; nodes are the agents' own Assembly."""

import asyncio
import datetime as dt
import json

import pytest
from sqlalchemy import delete

from tests.support.fake_fleet import FakeFleet, Refuse
from xds_agent.protocol.outcomes import Acknowledged
from xds_agent.rollout import release
from xds_agent.rollout.change import Change
from xds_agent.snapshot.resource import CLUSTER, EMPTY
from xds_agent.store import audit, revisions
from xds_agent.store.schema import CertificateRow

NAMES = [f"edge{n}" for n in range(1, 6)]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(release, "NEWCOMER_GRACE_S", 0.0)
    monkeypatch.setattr(release, "LOST_AFTER_S", 0.05)
    monkeypatch.setattr(release, "SETTLING_S", 0.05)


@pytest.fixture
def document(document):
    """Five proxies: the first wave is edge1 (aws) and edge2 (gcp), the second edge3, the third the rest."""
    for number, name in enumerate(NAMES, 1):
        cloud = "gcp" if number == 2 else "aws"
        document["hosts"][name] = {"address": f"10.0.0.{number + 1}", "groups": ["ingress"], "cloud": cloud}
    document["edge"]["rollout"] = {"waves": [1, "60%", "100%"], "soak": "0s"}
    return document


@pytest.fixture
async def nodes(pipeline, document):
    """All proxies, holding revision 1."""
    fleet = FakeFleet(pipeline.publisher)
    found = {name: fleet.connect(name) for name in NAMES}
    assert (await pipeline.apply(change(document))).outcome == "live"
    for node in found.values():
        node.fleet = fleet
    return found


def change(document, **more):
    return Change(document=document, author="ada", **{"timeout_s": 5.0, **more})


def edit(document):
    document["edge"]["services"][0]["endpoints"][0]["port"] = 9090
    return document


def touched(nodes):
    """Who was ever given the second revision."""
    return {name for name, node in nodes.items() if len(node.received) > 1}


def revisions_held(nodes):
    return {node.holds for node in nodes.values()}


def failing_from_now_on(node, verdict):
    """It refuses (or ignores) whatever it does not hold now."""
    held = node.holds
    node.decide = lambda complete: None if complete.snapshot.revision == held else verdict


def actions(pipeline, action):
    with pipeline.store.read() as session:
        return [json.loads(row.detail) for row in reversed(audit.newest(session)) if row.action == action]


async def test_each_wave_waits_for_the_one_before(pipeline, nodes, document):
    seen = []
    for name, node in nodes.items():
        node.decide = lambda complete, name=name: seen.append((name, pipeline.progress.wave))
    answer = await pipeline.apply(change(edit(document)))
    assert answer.outcome == "live"
    assert sorted(seen) == [("edge1", 1), ("edge2", 1), ("edge3", 2), ("edge4", 3), ("edge5", 3)]
    assert pipeline.progress is None
    [plan] = actions(pipeline, "revision.waves")
    assert plan["plan"][0].startswith("3 waves, 0 s of soaking in all: 2 (edge1, edge2); then")
    assert [row["wave"] for row in actions(pipeline, "revision.wave")] == [1, 2]
    assert "no evidence" in actions(pipeline, "revision.wave")[0]["evidence"]


async def test_what_a_canary_refuses_nobody_else_sees(pipeline, nodes, document):
    before = revisions_held(nodes)
    name = next(iter(pipeline.publisher.snapshots["edge1"].of_type(CLUSTER)))
    failing_from_now_on(nodes["edge2"], Refuse("ring too big", CLUSTER, (name,)))
    answer = await pipeline.apply(change(edit(document)))
    assert (answer.outcome, answer.reverted_to) == ("refused", 1)
    assert touched(nodes) == {"edge1", "edge2"}
    assert revisions_held(nodes) == before
    assert "edge2 refused cluster" in answer.problems[0].message


async def test_a_refusal_in_a_later_wave_reverts_every_wave(pipeline, nodes, document):
    before = revisions_held(nodes)
    failing_from_now_on(nodes["edge5"], Refuse("no"))
    answer = await pipeline.apply(change(edit(document)))
    assert answer.outcome == "refused"
    assert touched(nodes) == set(NAMES)
    assert revisions_held(nodes) == before


async def test_a_stalled_canary_is_a_failure(pipeline, nodes, document):
    failing_from_now_on(nodes["edge1"], "silent")
    answer = await pipeline.apply(change(edit(document), timeout_s=1.0))
    assert answer.outcome == "refused"
    assert answer.problems[0].message == "edge1 did not acknowledge the change within 1 s"
    assert touched(nodes) == {"edge1", "edge2"}


async def test_a_lost_canary_is_a_failure(pipeline, nodes, document):
    node = nodes["edge1"]

    def leave(complete):
        node.fleet.disconnect(node)
        return "silent"

    node.decide = leave
    answer = await pipeline.apply(change(edit(document)))
    assert answer.outcome == "refused"
    assert answer.problems[0].message == "edge1 was lost after it got the change"
    assert touched(nodes) == {"edge1", "edge2"}


async def test_a_canary_that_comes_back_in_time_is_not_lost(pipeline, nodes, document, monkeypatch):
    monkeypatch.setattr(release, "LOST_AFTER_S", 5.0)
    node = nodes["edge1"]

    def restart(complete):
        node.decide = lambda complete: None
        node.fleet.disconnect(node)
        node.fleet.reconnect(node)
        return "silent"

    node.decide = restart
    assert (await pipeline.apply(change(edit(document)))).outcome == "live"
    assert len(revisions_held(nodes)) == 1


async def test_who_was_sick_before_freezes_nobody_and_converges_later(pipeline, nodes, document):
    sick = nodes["edge1"]
    sick.fleet.disconnect(sick)
    await asyncio.sleep(0)
    answer = await pipeline.apply(change(edit(document)))
    assert answer.outcome == "live"
    assert answer.left_out == {"edge1": "it is offline"}
    sick.fleet.reconnect(sick)
    await pipeline.publisher.settle(timeout_s=5.0)
    await asyncio.sleep(0.05)
    await pipeline.publisher.settle(timeout_s=5.0)
    assert len(revisions_held(nodes)) == 1


async def test_a_sick_one_may_refuse_what_is_live(pipeline, nodes, document):
    pipeline.vitals.heard("edge1", "AWAY", {})
    failing_from_now_on(nodes["edge1"], Refuse("no room"))
    answer = await pipeline.apply(change(edit(document)))
    assert (answer.outcome, answer.left_out) == ("live", {"edge1": "its Envoy is AWAY"})
    assert "edge1 is left out of the waves (its Envoy is AWAY) and converges later" in answer.notes
    await pipeline.publisher.settle(timeout_s=5.0)
    assert pipeline.publisher.nodes()["edge1"].state == "refused"
    assert pipeline.live.number == 2


@pytest.mark.parametrize(("who", "outcome"), [("edge5", "live"), ("edge2", "refused")])
async def test_later_waves_tolerate_what_the_first_does_not(pipeline, nodes, document, who, outcome):
    document["edge"]["rollout"]["tolerate"] = 1
    failing_from_now_on(nodes[who], Refuse("no room"))
    answer = await pipeline.apply(change(edit(document)))
    assert answer.outcome == outcome
    if outcome == "live":
        assert answer.left_out == {"edge5": "edge5 refused the change: no room"}
        assert any("tolerated" in note for note in answer.notes)


async def test_a_wave_that_is_worse_off_is_taken_back(pipeline, nodes, document):
    """edge1 answers every asking with its counters; after the change half of its requests fail."""
    total, failed = 0, 0

    def report(names):
        nonlocal total, failed
        if "edge1" in names:
            total += 1000
            failed += 500 if len(nodes["edge1"].received) > 1 else 0
            counters = {"downstream_rq_total": total, "downstream_rq_5xx": failed}
            pipeline.vitals.heard("edge1", "LIVE", counters)

    report({"edge1"})
    pipeline.vitals.ask = report
    before = revisions_held(nodes)
    answer = await pipeline.apply(change(edit(document)))
    assert answer.outcome == "refused"
    assert "edge1: requests answered 5xx went from 0.0% to 50.0%" in answer.problems[0].message
    assert touched(nodes) == {"edge1", "edge2"}
    assert revisions_held(nodes) == before


async def test_a_canary_whose_envoy_dies_of_it_fails_the_gate(pipeline, nodes, document):
    def die(complete):
        asyncio.get_running_loop().call_soon(pipeline.vitals.heard, "edge1", "AWAY", {})

    nodes["edge1"].decide = die
    document["edge"]["rollout"]["soak"] = "10ms"
    answer = await pipeline.apply(change(edit(document)))
    assert answer.outcome == "refused"
    assert answer.problems[0].message == "edge1 has the change, and its Envoy is AWAY"


async def test_a_canary_whose_envoy_is_away_for_a_moment_passes_the_gate(
    pipeline, nodes, document, monkeypatch
):
    """As its agent tells while it restarts, until Envoy has come to it again."""
    monkeypatch.setattr(release, "LOST_AFTER_S", 30.0)
    met, on_progress = [], pipeline._on_progress

    async def judging(progress, evidence):
        if (progress.wave, progress.phase, evidence) == (1, "judging", ""):
            pipeline.vitals.heard("edge1", "AWAY", {})
            asyncio.get_running_loop().call_later(0.05, back)
        await on_progress(progress, evidence)

    def back():
        met.append(pipeline.progress.phase)
        pipeline.vitals.heard("edge1", "LIVE", {})

    monkeypatch.setattr(pipeline, "_on_progress", judging)
    answer = await pipeline.apply(change(edit(document)))
    assert (met, answer.outcome, answer.left_out) == (["judging"], "live", {})


async def test_who_has_only_just_been_away_is_not_left_out(pipeline, nodes, document, monkeypatch):
    monkeypatch.setattr(release, "SETTLING_S", 30.0)
    pipeline.vitals.heard("edge1", "AWAY", {})
    asyncio.get_running_loop().call_later(0.05, pipeline.vitals.heard, "edge1", "LIVE", {})
    answer = await pipeline.apply(change(edit(document)))
    assert (answer.outcome, answer.left_out) == ("live", {})


async def test_the_waves_are_told_before_anything_starts(pipeline, nodes, document):
    document["edge"]["rollout"]["soak"] = "10s"
    answer = await pipeline.apply(change(edit(document), dry_run=True))
    assert any(
        note.startswith("3 waves, 20 s of soaking in all: 2 (edge1, edge2); then") for note in answer.notes
    )
    assert touched(nodes) == set()


async def test_what_control_does_by_itself_takes_no_waves(pipeline, nodes, document):
    with pipeline.store.write() as session:
        session.execute(delete(CertificateRow))
    assert await pipeline.updates.refresh("a test") is True
    assert touched(nodes) == set(NAMES)
    assert actions(pipeline, "revision.waves") == []
    with pipeline.store.read() as session:
        assert revisions.history(session, 1)[0].kind == "operational"


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_clock_that_is_set_in_the_middle_changes_nothing(pipeline, nodes, document, hours):
    shift = dt.timedelta(0)

    def clock():
        return dt.datetime.now(dt.UTC) + shift

    def heard(outcome):
        nonlocal shift
        if isinstance(outcome, Acknowledged):
            shift = dt.timedelta(hours=hours)

    pipeline.now = pipeline.ledger.now = pipeline.publisher.now = clock
    pipeline.publisher.listeners.append(heard)
    answer = await pipeline.apply(change(edit(document)))
    assert shift
    assert (answer.outcome, answer.left_out) == ("live", {})
    assert touched(nodes) == set(NAMES)


async def test_who_was_only_just_given_something_is_not_sick_because_the_clock_was_set(pipeline, nodes):
    publisher = pipeline.publisher
    nodes["edge5"].decide = lambda complete: "silent"
    publisher.publish({**publisher.snapshots, "edge5": EMPTY}, 2)
    publisher.since["edge5"] -= dt.timedelta(hours=1)
    assert publisher.newly_pending(60) == ["edge5"]
