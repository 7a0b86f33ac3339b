"""A newer compiler's bytes: proxies keep the older ones' over the restart, and waves bring them the newer."""

import asyncio
import copy
import datetime as dt
from dataclasses import replace

import pytest

from tests.support.fake_fleet import FakeFleet, Refuse
from tests.support.small_site import THREE, three_proxies
from xds_agent.api.views import View
from xds_agent.compile import clusters
from xds_agent.model import ModelError, Problem
from xds_agent.rollout import release, remade
from xds_agent.rollout.change import Answer, Change
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.rollout.publisher import Publisher
from xds_agent.rollout.remade import Remaking
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS
from xds_agent.steering.deciding import UNDECIDED
from xds_agent.store import Store, revisions


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(release, "NEWCOMER_GRACE_S", 0.0)
    monkeypatch.setattr(release, "LOST_AFTER_S", 0.05)
    monkeypatch.setattr(release, "SETTLING_S", 0.05)
    monkeypatch.setattr(remade, "SETTLED_S", 0.0)


@pytest.fixture
def document(document):
    """Three proxies: edge1 is the first wave."""
    return three_proxies(document, soak="0s")


@pytest.fixture
async def nodes(pipeline, document):
    """All proxies, holding revision 1 as compiler 1 makes it."""
    pipeline.compiler = "1"
    fleet = FakeFleet(pipeline.publisher)
    found = {name: fleet.connect(name) for name in THREE}
    assert (await pipeline.apply(change(document))).outcome == "live"
    return found


@pytest.fixture
def newer(pipeline, nodes, tmp_path, monkeypatch):
    """newer() is control after an upgrade: its compiler writes clusters otherwise."""
    stores = []

    async def start(compiler="2", panic=7.0):
        monkeypatch.setattr(clusters, "_PANIC_PERCENT", panic)
        store = Store.open(f"sqlite:///{tmp_path}/control.db", tmp_path / "secret.key")
        stores.append(store)
        control = Pipeline(store, Publisher(), pipeline.ca, compiler=compiler)
        await control.boot()
        fleet = start.fleet = FakeFleet(control.publisher)
        for node in nodes.values():
            node.received.clear()
            fleet.reconnect(node)
        await control.publisher.settle(timeout_s=5.0, grace_s=dict.fromkeys(THREE, 5.0))
        return control

    yield start
    for store in stores:
        store.close()


def change(document, **more):
    return Change(document=document, author="ada", **{"timeout_s": 5.0, **more})


def held(nodes):
    return {name: node.holds for name, node in nodes.items()}


def states(control):
    return {name: view.state for name, view in control.publisher.nodes().items()}


def history(control):
    with control.store.read() as session:
        return [(r.number, r.kind, r.outcome) for r in reversed(revisions.history(session))]


async def rolled(control):
    """The chore of `serve`, until it has done its work."""
    told = asyncio.Event()
    outcomes = []

    def counted(outcome):
        outcomes.append(outcome)
        told.set()

    task = asyncio.create_task(Remaking(control, counted, look_s=0.01).run())
    try:
        async with asyncio.timeout(20):
            await told.wait()
    finally:
        task.cancel()
    return outcomes


async def test_the_restart_itself_sends_nothing(nodes, newer, document):
    before = held(nodes)
    control = await newer()
    assert control.live.behind.compiler == "1"
    assert states(control) == dict.fromkeys(THREE, "active")
    assert (held(nodes), [node.received for node in nodes.values()]) == (before, [[], [], []])


async def test_waves_bring_it_and_the_canary_has_it_first(nodes, newer, document):
    before = held(nodes)
    control = await newer()
    plan = await control.apply(change(document, dry_run=True))
    texts = [line["text"] for line in plan.lines]
    assert any("made anew by the newer compiler" in text for text in texts), texts
    assert any("2 waves" in note for note in plan.notes)
    seen = []
    nodes["edge1"].decide = lambda complete: seen.append(held(nodes))
    assert await rolled(control) == ["live"]
    assert seen == [before]
    for name in ("edge2", "edge3"):
        assert [one.snapshot.revision for one in nodes[name].received] == [
            control.live.snapshots[name].revision
        ]
    assert (control.live.behind, history(control)[-1]) == (None, (2, "compiler", "live"))
    assert (await control.apply(change(document))).outcome == "unchanged"
    # The next start of the same version has nothing to do.
    again = await newer()
    assert (again.live.behind, [node.received for node in nodes.values()]) == (None, [[], [], []])


async def test_a_canary_that_refuses_it_brings_the_older_back_everywhere(nodes, newer, document):
    before = held(nodes)
    control = await newer()
    mine = nodes["edge1"].holds
    nodes["edge1"].decide = lambda complete: (
        None if complete.snapshot.revision == mine else Refuse("no such field", CLUSTER, ("shop",))
    )
    assert await rolled(control) == ["refused"]
    await control.publisher.settle(timeout_s=5.0)
    assert (held(nodes), states(control)) == (before, dict.fromkeys(THREE, "active"))
    assert nodes["edge2"].received == nodes["edge3"].received == []
    assert "no such field" in control.live.behind.refused
    # The same inventory is as it was; what was refused is tried again when somebody insists.
    answer = await control.apply(change(document))
    assert answer.outcome == "unchanged"
    assert any("was refused: " in note and "-e force=true" in note for note in answer.notes), answer.notes
    again = await newer()
    assert "no such field" in again.live.behind.refused
    nodes["edge1"].decide = lambda complete: None
    assert (await again.apply(change(document, force=True))).outcome == "live"
    assert again.live.behind is None


async def test_what_nobody_refused_is_tried_again_by_itself(nodes, newer, document, monkeypatch):
    """A proxy that restarts just then, as in an upgrade, says nothing of the bytes."""
    monkeypatch.setattr(remade, "RETRY_S", 0.01)
    before = held(nodes)
    control = await newer()
    mine = nodes["edge1"].holds

    def restarts(complete):
        if complete.snapshot.revision == mine:
            return None
        newer.fleet.disconnect(nodes["edge1"])
        return "silent"

    nodes["edge1"].decide = restarts
    told = asyncio.Queue()
    task = asyncio.create_task(Remaking(control, told.put_nowait, look_s=0.01).run())
    try:
        async with asyncio.timeout(20):
            assert await told.get() == "refused"
            assert (control.live.behind.refused, control.live.behind.missed != "") == ("", True)
            status = await View(control, "control1", None).status()
            assert "it is tried again" in status["behind"]["words"]
            assert (await View(control, "control1", frozenset()).status())["behind"] is None
            # Nor is the inventory of which it is made.
            plan = await control.apply(change(document, dry_run=True))
            assert plan.outcome == "dry-run"
            nodes["edge1"].decide = lambda complete: None
            newer.fleet.reconnect(nodes["edge1"])
            while await told.get() != "live":
                pass
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (control.live.behind, states(control)) == (None, dict.fromkeys(THREE, "active"))
    assert all(node.holds != before[name] for name, node in nodes.items())


async def test_tries_that_are_in_vain_come_less_and_less_often(nodes, newer, monkeypatch):
    control = await newer()
    remaking = Remaking(control)
    live = control.live
    control.live = replace(live, behind=replace(live.behind, missed="edge1 is lost"))

    async def missed(pipeline, timeout_s):
        return Answer(outcome="refused", revision=live.id, number=2, changed=False)

    monkeypatch.setattr(remade, "remake", missed)
    pauses = []
    for _ in range(8):
        await remaking._bring()
        pauses.append(remaking._pause_s)
    assert pauses[:3] == [remade.RETRY_S, 2 * remade.RETRY_S, 4 * remade.RETRY_S]
    assert pauses[-1] == remade.RETRY_MOST_S


async def test_going_back_to_the_older_version_sends_nothing(nodes, newer, document):
    before = held(nodes)
    control = await newer()
    nodes["edge1"].decide = lambda complete: (
        Refuse("no") if complete.snapshot.revision != before["edge1"] else None
    )
    assert await rolled(control) == ["refused"]
    older = await newer(compiler="1", panic=1.0)
    assert older.live.behind is None
    assert (held(nodes), states(older)) == (before, dict.fromkeys(THREE, "active"))
    assert [node.received for node in nodes.values()] == [[], [], []]


async def test_what_control_keeps_fresh_does_not_wait_for_it(nodes, newer, document, monkeypatch):
    control = await newer()
    shop = control.live.snapshots["edge1"].of_type(CLUSTER)["shop"]
    elsewhere = copy.deepcopy(document)
    elsewhere["edge"]["services"][0]["endpoints"][0]["port"] = 9090
    moved = control.builder.build(elsewhere, control.live).compiled
    monkeypatch.setattr(control.builder, "place", lambda live, decisions: moved)
    assert await control.updates.place(UNDECIDED, of=control.live) == ""
    now = nodes["edge1"].received[-1].snapshot
    assert now.of_type(CLUSTER)["shop"].version == shop.version
    assert now.of_type(ENDPOINTS) == moved.snapshots()["edge1"].of_type(ENDPOINTS)
    assert control.live.behind is not None


async def test_an_edit_brings_it_along_and_says_so(nodes, newer, document):
    control = await newer()
    document["edge"]["services"][0]["timeout"] = "7s"
    answer = await control.apply(change(document))
    assert any("made anew by the newer compiler" in line["text"] for line in answer.lines)
    assert (answer.outcome, control.live.behind) == ("live", None)


async def test_a_renewal_meanwhile_leaves_the_newer_part_to_the_waves(nodes, newer, pipeline):
    control = await newer()
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=21)
    control.now = control.builder._now = control.ledger.now = lambda: later
    clusters_before = dict(control.live.snapshots["edge1"].of_type(CLUSTER))
    assert await control.updates.refresh("renewal") is True
    assert dict(nodes["edge1"].received[-1].snapshot.of_type(CLUSTER)) == clusters_before
    again = await newer()
    assert (again.live.behind.compiler, again.live.number) == ("1", 2)
    assert await rolled(again) == ["live"]


async def test_a_refused_renewal_is_no_refusal_of_the_newer_compiler(nodes, newer):
    control = await newer()
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=21)
    control.now = control.builder._now = control.ledger.now = lambda: later
    for node in nodes.values():
        mine = node.holds
        node.decide = lambda complete, mine=mine: (
            None if complete.snapshot.revision == mine else Refuse("no room")
        )
    assert await control.updates.refresh("renewal") is False
    assert "no room" in control.updates.refused
    assert (control.live.behind.compiler, control.live.behind.refused) == ("1", "")
    for node in nodes.values():
        node.decide = lambda complete: None
    assert await rolled(control) == ["live"]


async def test_an_inventory_that_is_none_any_more_ends_no_control(nodes, newer, document, monkeypatch):
    control, tries = await newer(), []

    async def fails(change):
        tries.append(change)
        raise ModelError([Problem("certificates[shop]", "expired yesterday")])

    monkeypatch.setattr(control, "apply", fails)
    task = asyncio.create_task(Remaking(control, look_s=0.001).run())
    async with asyncio.timeout(20):
        while len(tries) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert not task.done()
    assert control.live.behind is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
