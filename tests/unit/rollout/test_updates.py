"""What control changes by itself while a person's edit soaks, and who may keep it from all others."""

import asyncio
import copy
from unittest.mock import Mock

import pytest
from sqlalchemy import delete

from tests.support.fake_fleet import FakeFleet, Refuse
from tests.support.small_site import THREE, three_proxies
from xds_agent.compile import CompileError
from xds_agent.model import Problem
from xds_agent.protocol.outcomes import Refused
from xds_agent.rollout import release
from xds_agent.rollout.change import Change
from xds_agent.rollout.hand import Hand
from xds_agent.rollout.shadow import Tried
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, SECRET
from xds_agent.steering.deciding import UNDECIDED
from xds_agent.store import StoreError, audit, revisions
from xds_agent.store.schema import CertificateRow


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(release, "NEWCOMER_GRACE_S", 0.0)
    monkeypatch.setattr(release, "SETTLING_S", 0.05)


@pytest.fixture
def document(document):
    """Three proxies, edge1 the first wave of any edit, which then soaks until somebody refuses."""
    return three_proxies(document, soak="600s")


@pytest.fixture
async def nodes(pipeline, document):
    fleet = FakeFleet(pipeline.publisher)
    found = {name: fleet.connect(name) for name in THREE}
    for node in found.values():
        node.fleet = fleet
    assert (await pipeline.apply(change(copy.deepcopy(document)))).outcome == "live"
    return found


@pytest.fixture
async def edit(pipeline, nodes, document, monkeypatch):
    """edit(soak) is an edit that edge1 has; the others wait for it to have soaked."""
    tasks, soaking, tell = [], asyncio.Event(), pipeline._on_progress

    async def told(progress, evidence):
        await tell(progress, evidence)
        if progress.phase == "soaking":
            soaking.set()

    monkeypatch.setattr(pipeline, "_on_progress", told)

    async def begin(soak="600s"):
        document["edge"]["rollout"]["soak"] = soak
        document["edge"]["services"][0]["timeout"] = "7s"
        tasks.append(asyncio.create_task(pipeline.apply(change(document))))
        await asyncio.wait_for(soaking.wait(), 20)
        return tasks[0]

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def elsewhere(pipeline, monkeypatch):
    """elsewhere(port): from now on decisions lead to that port, by any site."""
    place = pipeline.builder.place

    def move(port):
        def placed(live, decisions):
            document = copy.deepcopy(dict(live.document))
            document["edge"]["services"][0]["endpoints"][0]["port"] = port
            built = pipeline.builder.build(document, live)
            return built.compiled

        monkeypatch.setattr(pipeline.builder, "place", placed)

    yield move
    monkeypatch.setattr(pipeline.builder, "place", place)


def change(document, **more):
    return Change(document=document, author="ada", **{"timeout_s": 5.0, **more})


def holds(node, type_url):
    return dict(node.assembly.held.of_type(type_url))


async def test_a_placement_does_not_wait_until_an_edit_has_soaked(pipeline, nodes, edit, elsewhere):
    applying = await edit()
    before = {name: holds(node, ENDPOINTS) for name, node in nodes.items()}
    timeouts = holds(nodes["edge1"], CLUSTER), holds(nodes["edge2"], CLUSTER)
    elsewhere(9090)
    assert await asyncio.wait_for(pipeline.updates.place(UNDECIDED, of=pipeline.live), 20) == ""
    assert not applying.done()
    for name, node in nodes.items():
        assert holds(node, ENDPOINTS)["shop"] != before[name]["shop"]
    # Each has its own of the two sites still.
    assert (holds(nodes["edge1"], CLUSTER), holds(nodes["edge2"], CLUSTER)) == timeouts
    assert pipeline.progress.phase == "soaking"


async def test_the_edit_goes_on_with_what_was_placed_meanwhile(pipeline, nodes, edit, elsewhere):
    applying = await edit(soak="8s")
    elsewhere(9090)
    assert await pipeline.updates.place(UNDECIDED, of=pipeline.live) == ""
    assert not applying.done()
    placed = holds(nodes["edge1"], ENDPOINTS)["shop"]
    assert (await asyncio.wait_for(applying, 60)).outcome == "live"
    await pipeline.publisher.settle(timeout_s=5.0)
    assert {holds(node, ENDPOINTS)["shop"] for node in nodes.values()} == {placed}
    assert {node.holds for node in nodes.values()} == {pipeline.live.snapshots["edge1"].revision}
    with pipeline.store.read() as session:
        assert [(r.number, r.outcome) for r in revisions.history(session)] == [(2, "live"), (1, "live")]


async def test_an_edit_that_is_taken_back_takes_no_placement_with_it(pipeline, nodes, edit, elsewhere):
    applying = await edit()
    elsewhere(9090)
    assert await asyncio.wait_for(pipeline.updates.place(UNDECIDED, of=pipeline.live), 20) == ""
    placed = holds(nodes["edge2"], ENDPOINTS)["shop"]
    # The canary's agent comes back with another mind: it refuses the edit when it is offered again.
    pipeline.publisher._heard(_refusal(pipeline, "edge1"))
    answer = await asyncio.wait_for(applying, 60)
    assert answer.outcome == "refused"
    await pipeline.publisher.settle(timeout_s=5.0)
    assert {holds(node, ENDPOINTS)["shop"] for node in nodes.values()} == {placed}
    assert {node.holds for node in nodes.values()} == {pipeline.live.snapshots["edge1"].revision}


async def test_a_renewal_does_not_wait_either_and_is_in_the_audit(pipeline, nodes, edit):
    applying = await edit()
    with pipeline.store.write() as session:
        session.execute(delete(CertificateRow))
    before = holds(nodes["edge2"], SECRET)
    assert await asyncio.wait_for(pipeline.updates.refresh("a test"), 20) is True
    after = {name: holds(node, SECRET) for name, node in nodes.items()}
    assert after["edge2"] != before
    assert after["edge1"] == after["edge2"] == after["edge3"]
    assert not applying.done()
    with pipeline.store.read() as session:
        assert audit.newest(session)[0].action == "revision.operational"
        # The newest revision that is live stays the one before the edit, which is no revision of its own.
        assert [(r.number, r.outcome) for r in revisions.history(session)] == [(2, "pending"), (1, "live")]


class SlowShadows:
    """Shadows that find nothing wrong, once they are let."""

    def __init__(self):
        self.trying, self.done = asyncio.Event(), asyncio.Event()

    async def try_out(self, old, new):
        self.trying.set()
        await self.done.wait()
        return Tried({})


async def test_a_renewal_does_not_wait_for_shadows_and_the_edit_goes_on_with_it(pipeline, nodes, document):
    pipeline.shadows = shadows = SlowShadows()
    before = holds(nodes["edge2"], SECRET)
    document["edge"]["rollout"]["soak"] = "0s"
    document["edge"]["services"][0]["timeout"] = "7s"
    applying = asyncio.create_task(pipeline.apply(change(document)))
    try:
        await asyncio.wait_for(shadows.trying.wait(), 20)
        with pipeline.store.write() as session:
            session.execute(delete(CertificateRow))
        assert await asyncio.wait_for(pipeline.updates.refresh("a test"), 20) is True
        renewed = holds(nodes["edge2"], SECRET)
        assert renewed != before
        assert not applying.done()
    finally:
        shadows.done.set()
        answer = await asyncio.wait_for(applying, 60)
    assert answer.outcome == "live"
    assert [holds(node, SECRET) for node in nodes.values()] == [renewed] * len(THREE)
    # What is served after a restart is the edit, with what was renewed before it.
    with pipeline.store.read() as session:
        rows = [(one.number, one.outcome) for one in revisions.history(session)]
    assert rows == [(4, "live"), (3, "live"), (2, "interrupted"), (1, "live")]
    assert answer.number == 4


async def test_an_edit_that_is_impossible_after_the_shadows_ends_in_the_history_too(
    pipeline, nodes, document, monkeypatch
):
    pipeline.shadows = shadows = SlowShadows()
    document["edge"]["services"][0]["timeout"] = "7s"
    applying = asyncio.create_task(pipeline.apply(change(document)))
    await asyncio.wait_for(shadows.trying.wait(), 20)
    with pipeline.store.write() as session:
        session.execute(delete(CertificateRow))
    assert await asyncio.wait_for(pipeline.updates.refresh("a test"), 20) is True
    alone = Problem(path="services[shop]", message="nobody is left")
    monkeypatch.setattr(pipeline.builder, "build", Mock(side_effect=CompileError([alone])))
    shadows.done.set()
    with pytest.raises(CompileError, match="nobody is left"):
        await asyncio.wait_for(applying, 60)
    with pipeline.store.read() as session:
        rows = [(one.number, one.outcome) for one in revisions.history(session)]
    assert rows == [(3, "live"), (2, "interrupted"), (1, "live")]


async def test_one_ill_proxy_does_not_keep_a_placement_from_all_others(pipeline, nodes, elsewhere):
    mine = nodes["edge3"].holds
    nodes["edge3"].decide = lambda complete: None if complete.snapshot.revision == mine else Refuse("no room")
    for port in (9090, 9091):
        elsewhere(port)
        assert await pipeline.updates.place(UNDECIDED, of=pipeline.live) == ""
        assert nodes["edge1"].holds == nodes["edge2"].holds == pipeline.live.snapshots["edge1"].revision
        assert nodes["edge3"].holds == mine
    # It is asked each time, since the next one may be one it takes, and given back its own; nobody else is.
    assert [len(nodes[name].received) for name in THREE] == [3, 3, 5]


async def test_an_ill_proxy_that_soaks_an_edit_does_not_take_the_edit_back(pipeline, nodes, edit, elsewhere):
    applying = await edit(soak="8s")
    mine = nodes["edge1"].holds
    nodes["edge1"].decide = lambda complete: None if complete.snapshot.revision == mine else Refuse("no room")
    elsewhere(9090)
    assert await pipeline.updates.place(UNDECIDED, of=pipeline.live) == ""
    assert not applying.done()
    assert (nodes["edge1"].holds, pipeline.publisher.refusals) == (mine, {})
    assert (await asyncio.wait_for(applying, 60)).outcome == "live"
    assert nodes["edge2"].holds == nodes["edge3"].holds != mine


async def test_who_is_away_is_no_vote_for_a_placement(pipeline, nodes, elsewhere):
    for name in ("edge2", "edge3"):
        nodes[name].fleet.disconnect(nodes[name])
    await asyncio.sleep(0)
    mine = nodes["edge1"].holds
    nodes["edge1"].decide = lambda complete: None if complete.snapshot.revision == mine else Refuse("no room")
    elsewhere(9090)
    assert "no room" in await pipeline.updates.place(UNDECIDED, of=pipeline.live)


async def test_what_was_decided_for_another_live_is_not_placed(pipeline, nodes, document, elsewhere):
    before = pipeline.live
    document["edge"]["rollout"] = {"waves": ["100%"]}
    document["edge"]["services"][0]["timeout"] = "9s"
    assert (await pipeline.apply(change(document))).outcome == "live"
    elsewhere(9090)
    assert await pipeline.updates.place(UNDECIDED, of=before) is None


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_who_leads_no_more_brings_nothing_of_an_edit_back(
    pipeline, nodes, edit, elsewhere, monkeypatch, when
):
    """An edit that soaked was taken back with the lead; an update beside it must not publish it again."""
    applying = await edit()
    live, shown, loop = pipeline.live, [], asyncio.get_running_loop()
    place = pipeline.builder.place

    async def lose(*_args, **_more):
        if not pipeline.deposed.is_set():
            pipeline.give_way()
            monkeypatch.setattr(pipeline.publisher, "publish", lambda *said: shown.append(said))

    def placed(of, decisions):
        asyncio.run_coroutine_threadsafe(lose(), loop).result(20)
        return place(of, decisions)

    if when == "meanwhile":
        elsewhere(9090)
        monkeypatch.setattr(pipeline.publisher, "settle", lose)
    else:
        monkeypatch.setattr(pipeline.builder, "place", placed)
    assert await pipeline.updates.place(UNDECIDED, of=live) is None
    assert shown == []
    assert pipeline.live is live
    with pytest.raises(StoreError):
        await applying


async def test_the_hand_is_held_again_however_often_it_is_cancelled():
    hand, lent = Hand(), asyncio.Event()

    async def soaks():
        async with hand, hand.lent():
            lent.set()
            await asyncio.sleep(600)

    task = asyncio.create_task(soaks())
    await lent.wait()
    await hand.acquire()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    # Somebody else has it: it is waited for, and not let go of in their stead.
    assert hand.locked() and not task.done()
    hand.release()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled() and not hand.locked()


async def test_what_most_refuse_goes_back_everywhere(pipeline, nodes, elsewhere):
    before = {name: node.holds for name, node in nodes.items()}
    for name in ("edge1", "edge2"):
        mine = nodes[name].holds
        nodes[name].decide = lambda complete, mine=mine: (
            None if complete.snapshot.revision == mine else Refuse("no room")
        )
    elsewhere(9090)
    assert "edge1: no room; edge2: no room" in await pipeline.updates.place(UNDECIDED, of=pipeline.live)
    await pipeline.publisher.settle(timeout_s=5.0)
    assert {name: node.holds for name, node in nodes.items()} == before


def _refusal(pipeline, name):
    return Refused(name, pipeline.publisher.snapshots[name].revision, "", (), "it fell ill")
