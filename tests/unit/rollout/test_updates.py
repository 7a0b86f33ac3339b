"""What control changes by itself while a person's edit soaks, and who may keep it from all others."""

import asyncio
import copy

import pytest
from sqlalchemy import delete

from tests.support.fake_fleet import FakeFleet, Refuse
from xds_agent.protocol.outcomes import Refused
from xds_agent.rollout import release
from xds_agent.rollout.change import Change
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, SECRET
from xds_agent.steering.deciding import UNDECIDED
from xds_agent.store import audit, revisions
from xds_agent.store.schema import CertificateRow

NAMES = ["edge1", "edge2", "edge3"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(release, "NEWCOMER_GRACE_S", 0.0)
    monkeypatch.setattr(release, "SETTLING_S", 0.05)


@pytest.fixture
def document(document):
    """Three proxies, edge1 the first wave of any edit, which then soaks until somebody refuses."""
    for number, name in enumerate(NAMES, 1):
        document["hosts"][name] = {"address": f"10.0.0.{number + 1}", "groups": ["ingress"], "cloud": "aws"}
    document["edge"]["rollout"] = {"waves": [1, "100%"], "soak": "600s"}
    return document


@pytest.fixture
async def nodes(pipeline, document):
    fleet = FakeFleet(pipeline.publisher)
    found = {name: fleet.connect(name) for name in NAMES}
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
    assert await asyncio.wait_for(pipeline.updates.place(UNDECIDED), 20) == ""
    assert not applying.done()
    for name, node in nodes.items():
        assert holds(node, ENDPOINTS)["shop"] != before[name]["shop"]
    # Each has its own of the two sites still.
    assert (holds(nodes["edge1"], CLUSTER), holds(nodes["edge2"], CLUSTER)) == timeouts
    assert pipeline.progress.phase == "soaking"


async def test_the_edit_goes_on_with_what_was_placed_meanwhile(pipeline, nodes, edit, elsewhere):
    applying = await edit(soak="1s")
    elsewhere(9090)
    assert await pipeline.updates.place(UNDECIDED) == ""
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
    assert await asyncio.wait_for(pipeline.updates.place(UNDECIDED), 20) == ""
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


async def test_one_ill_proxy_does_not_keep_a_placement_from_all_others(pipeline, nodes, elsewhere):
    mine = nodes["edge3"].holds
    nodes["edge3"].decide = lambda complete: None if complete.snapshot.revision == mine else Refuse("no room")
    for port in (9090, 9091):
        elsewhere(port)
        assert await pipeline.updates.place(UNDECIDED) == ""
        assert nodes["edge1"].holds == nodes["edge2"].holds == pipeline.live.snapshots["edge1"].revision
        assert nodes["edge3"].holds == mine
    # It was asked each time, since the next one may be one it takes; nobody else was ever taken back.
    assert [len(nodes[name].received) for name in NAMES] == [3, 3, 3]


async def test_what_most_refuse_goes_back_everywhere(pipeline, nodes, elsewhere):
    before = {name: node.holds for name, node in nodes.items()}
    for name in ("edge1", "edge2"):
        mine = nodes[name].holds
        nodes[name].decide = lambda complete, mine=mine: (
            None if complete.snapshot.revision == mine else Refuse("no room")
        )
    elsewhere(9090)
    assert "edge1: no room; edge2: no room" in await pipeline.updates.place(UNDECIDED)
    await pipeline.publisher.settle(timeout_s=5.0)
    assert {name: node.holds for name, node in nodes.items()} == before


def _refusal(pipeline, name):
    return Refused(name, pipeline.publisher.snapshots[name].revision, "", (), "it fell ill")
