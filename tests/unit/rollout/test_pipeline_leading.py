"""What a control host serves when it starts, and what it may do no more when another one leads."""

import asyncio
import datetime as dt
import sqlite3

import pytest

from tests.support.applied import change, edited, history, settled
from tests.support.fake_fleet import FakeFleet
from xds_agent.rollout import release
from xds_agent.rollout.ledger import draft_of
from xds_agent.rollout.revoke import revoke
from xds_agent.steering.deciding import UNDECIDED
from xds_agent.store import StoreError


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    monkeypatch.setattr(release, "NEWCOMER_GRACE_S", 0.0)


@pytest.fixture
async def pipeline(control):
    return control()


async def test_the_last_good_revision_is_served_after_a_restart(control, fleet, pipeline, document):
    node = fleet.connect("edge1")
    answer = await pipeline.apply(change(document))
    held = node.holds
    again = control()
    await again.boot()
    assert (again.live.number, again.live.id) == (1, answer.revision)
    # The same content has the same versions: the node has nothing to fetch.
    newer = FakeFleet(again.publisher)
    node.received.clear()
    newer.reconnect(node)
    await asyncio.sleep(0)
    assert await settled(again) == {"edge1": "active", "edge2": "offline"}
    assert (node.received, node.holds) == ([], held)


async def test_what_was_being_published_when_control_died_is_not_served(control, pipeline, document):
    await pipeline.apply(change(document))
    new = await pipeline.build(edited(document))
    await asyncio.to_thread(pipeline.ledger.keep, draft_of(new, change(edited(document))), new)
    again = control()
    await again.boot()
    assert again.live.number == 1
    assert history(again) == [(1, "live"), (2, "interrupted")]


async def test_a_revision_that_cannot_be_loaded_leaves_control_up_for_repair(
    control, pipeline, document, tmp_path
):
    await pipeline.apply(change(document))
    with sqlite3.connect(tmp_path / "control.db") as connection:
        connection.execute("UPDATE revisions SET content = json_remove(content, '$.edge')")
    again = control()
    await again.boot()
    assert again.live is None
    assert again.trouble.startswith("revision 1 could not be loaded")
    assert (await again.apply(change(document))).outcome == "live"
    assert again.trouble == ""


async def test_who_leads_no_more_publishes_nothing_over_the_new_leader(pipeline, fleet, document):
    node = fleet.connect("edge1")
    await pipeline.apply(change(document))
    published, held = asyncio.Event(), node.holds

    def silent(complete):
        published.set()
        return None if complete.snapshot.revision == held else "silent"

    node.decide = silent
    under_way = asyncio.create_task(pipeline.apply(change(edited(document))))
    await published.wait()
    pipeline.give_way()
    # With nobody to lead this may be all for long: no proxy stays between two revisions.
    assert pipeline.publisher.number == 1
    pipeline.publisher.publish(pipeline.live.snapshots, 7)  # as the new leader says
    with pytest.raises(StoreError, match="leads no more"):
        await under_way
    assert await pipeline.updates.place(UNDECIDED, of=pipeline.live) is None
    assert await pipeline.updates.refresh("due") is False
    assert pipeline.publisher.number == 7


async def test_reading_what_is_live_never_sets_a_leader_back(control, pipeline, document, monkeypatch):
    await pipeline.apply(change(document))
    other = control()
    others = FakeFleet(other.publisher)
    for name in ("edge1", "edge2"):
        others.connect(name)
    build, reading, gate = other.build, asyncio.Event(), asyncio.Event()

    async def slow(document, **more):
        if not reading.is_set():
            reading.set()
            await gate.wait()
        return await build(document, **more)

    monkeypatch.setattr(other, "build", slow)
    follower = asyncio.create_task(other.read_live())
    await reading.wait()
    leader = asyncio.create_task(other.apply(change(edited(document))))
    # In turn it waits; before, it went ahead and was overwritten.
    await asyncio.wait([leader], timeout=1.0)
    gate.set()
    await asyncio.gather(leader, follower)
    assert other.live.number == 2


async def test_who_leads_no_more_opens_no_window(pipeline, fleet, document, clock):
    fleet.connect("edge1")
    await pipeline.apply(change(document))

    def fenced(session):
        raise StoreError("control2 leads now")

    pipeline.ledger.fence = fenced
    given = {"cloud": "gcp", "until": (clock() + dt.timedelta(hours=1)).isoformat(), "reason": "CHG-1"}
    with pytest.raises(StoreError, match="control2 leads now"):
        await pipeline.windows.open(given, "ada")
    await pipeline.windows.load()
    assert not pipeline.windows.named


async def test_who_leads_no_more_revokes_nobody(pipeline, pki):
    def fenced(session):
        raise StoreError("control2 leads now")

    pipeline.ledger.fence = fenced
    before = pki.folder.joinpath("crl.pem").read_bytes()
    with pytest.raises(StoreError, match="control2 leads now"):
        await revoke(pipeline, "edge1", serials=["4F21"], author="ada", reason="", dry_run=False)
    assert pki.folder.joinpath("crl.pem").read_bytes() == before
