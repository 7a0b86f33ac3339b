"""The pipeline with the real store, compiler and protocol core; nodes are the agents' own Assembly."""

import asyncio
import copy
import datetime as dt
from types import SimpleNamespace

import pytest

from tests.support.applied import change, edited, history, settled
from tests.support.fake_fleet import Refuse
from tests.support.site_pki import key_pem
from xds_agent.model import ModelError
from xds_agent.rollout import release
from xds_agent.rollout.change import Change, Conflict, NotEntitled
from xds_agent.snapshot.resource import CLUSTER, SECRET
from xds_agent.steering.deciding import UNDECIDED
from xds_agent.store import StoreFull, audit, revisions


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    monkeypatch.setattr(release, "NEWCOMER_GRACE_S", 0.0)


@pytest.fixture
async def pipeline(control):
    return control()


async def test_a_first_revision_reaches_every_proxy(pipeline, fleet, document):
    nodes = [fleet.connect(name) for name in ("edge1", "edge2")]
    answer = await pipeline.apply(change(document))
    assert (answer.outcome, answer.number, answer.changed) == ("live", 1, True)
    assert {name: view.state for name, view in answer.nodes.items()} == {"edge1": "active", "edge2": "active"}
    assert [node.holds for node in nodes] == [
        pipeline.publisher.snapshots[node.name].revision for node in nodes
    ]
    assert history(pipeline) == [(1, "live")]


async def test_a_proxy_that_is_away_is_offline_and_takes_it_on_return(pipeline, fleet, document):
    fleet.connect("edge1")
    answer = await pipeline.apply(change(document))
    assert answer.outcome == "live"
    assert answer.nodes["edge2"].state == "offline"
    fleet.connect("edge2")
    await asyncio.sleep(0)
    assert await settled(pipeline) == {"edge1": "active", "edge2": "active"}


async def test_equal_content_is_no_new_revision(pipeline, fleet, document):
    node = fleet.connect("edge1")
    first = await pipeline.apply(change(document))
    moved = copy.deepcopy(document)
    moved["origins"] = {"edge.services[shop]": "edge/shop.yml:77:5"}
    again = await pipeline.apply(change(moved))
    assert (again.outcome, again.changed, again.revision) == ("unchanged", False, first.revision)
    assert len(node.received) == 1
    assert history(pipeline) == [(1, "live")]
    assert pipeline.live.site.origin("services[shop]") == "edge/shop.yml:77:5"


async def test_a_dry_run_changes_nothing_and_says_the_same(pipeline, fleet, document):
    node = fleet.connect("edge1")
    dry = await pipeline.apply(change(document, dry_run=True))
    assert (dry.outcome, dry.number, dry.changed) == ("dry-run", None, True)
    assert history(pipeline) == []
    assert node.received == []
    assert list(pipeline.publisher.snapshots) == []
    wet = await pipeline.apply(change(document))
    assert (dry.lines, dry.summary) == (wet.lines, wet.summary)


async def test_a_refusal_brings_the_one_before_back(pipeline, fleet, document):
    good = fleet.connect("edge1")
    picky = fleet.connect("edge2")
    await pipeline.apply(change(document))
    before = pipeline.publisher.snapshots["edge1"].revision
    name = next(iter(pipeline.publisher.snapshots["edge1"].of_type(CLUSTER)))
    held = picky.holds
    picky.decide = lambda complete: (
        None if complete.snapshot.revision == held else Refuse("ring too big", CLUSTER, (name,))
    )
    answer = await pipeline.apply(change(edited(document)))
    assert (answer.outcome, answer.changed, answer.reverted_to) == ("refused", False, 1)
    assert answer.nodes["edge2"].state == "refused"
    [problem] = answer.problems
    assert "edge2 refused cluster" in problem.message
    assert "ring too big" in problem.message
    assert problem.origin == "edge/shop.yml:3:5"
    assert history(pipeline) == [(1, "live"), (2, "refused")]
    assert pipeline.live.number == 1
    assert await settled(pipeline) == {"edge1": "active", "edge2": "active"}
    assert good.holds == before
    # The same again is refused until somebody insists; the next change is compared with what is live.
    picky.decide = lambda complete: None
    for dry_run in (True, False):
        with pytest.raises(Conflict, match=r"revision 2 held exactly this and was refused: .*ring too big"):
            await pipeline.apply(change(edited(document), dry_run=dry_run))
    assert (await pipeline.apply(change(edited(document), force=True))).outcome == "live"


async def test_a_refused_first_revision_leaves_nothing_published(pipeline, fleet, document):
    fleet.connect("edge1", lambda complete: Refuse("no"))
    answer = await pipeline.apply(change(document))
    assert (answer.outcome, answer.reverted_to, answer.revision) == ("refused", None, "")
    assert pipeline.live is None
    assert list(pipeline.publisher.snapshots) == []


async def test_a_proxy_that_says_nothing_is_pending_when_time_is_up(pipeline, fleet, document):
    fleet.connect("edge1", lambda complete: "silent")
    answer = await pipeline.apply(Change(document=document, author="ada", timeout_s=0.05))
    assert (answer.outcome, answer.nodes["edge1"].state) == ("live", "pending")


async def test_the_second_person_is_told_who_is_ahead(pipeline, fleet, document):
    published = asyncio.Event()

    def silent(complete):
        published.set()
        return "silent"

    fleet.connect("edge1", silent)
    first = asyncio.create_task(pipeline.apply(change(document)))
    await published.wait()
    with pytest.raises(Conflict, match=r"ada, since .* is applying a change"):
        await pipeline.apply(Change(document=edited(document), author="bob"))
    # Looking is always allowed.
    assert (await pipeline.apply(change(edited(document), dry_run=True))).outcome == "dry-run"
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_problems_stop_everything_and_none_is_hidden(pipeline, document):
    document["edge"]["services"][0]["endpoints"][0]["port"] = 99999
    document["edge"]["routes"][0]["service"] = "nowhere"
    with pytest.raises(ModelError) as caught:
        await pipeline.apply(change(document))
    assert len(caught.value.problems) == 2
    assert history(pipeline) == []


async def test_removal_must_be_named(pipeline, fleet, document):
    await pipeline.apply(change(document))
    less = copy.deepcopy(document)
    del less["hosts"]["edge2"]
    for dry_run in (True, False):
        with pytest.raises(Conflict, match="-e allow_removal=edge2") as refused:
            await pipeline.apply(change(less, dry_run=dry_run))
        # Whoever only looks is told what the edit would do all the same.
        assert bool(refused.value.lines) == dry_run
    answer = await pipeline.apply(change(less, allow_removal=("edge2",)))
    assert answer.outcome == "live"
    assert list(pipeline.publisher.snapshots) == ["edge1"]


async def test_a_removed_proxy_is_an_orphan(pipeline, fleet, document):
    node = fleet.connect("edge2")
    await pipeline.apply(change(document))
    del document["hosts"]["edge2"]
    await pipeline.apply(change(document, allow_removal=("edge2",)))
    await asyncio.sleep(0)
    assert "no host of this name" in node.closed


async def test_a_socket_of_one_tenant_changes_its_own_only(pipeline, document):
    await pipeline.apply(change(document))
    mine = edited(document)
    assert (await pipeline.apply(change(mine, tenants=frozenset({"retail"})))).outcome == "live"
    theirs = copy.deepcopy(mine)
    theirs["edge"]["services"][1]["endpoints"][0]["port"] = 1
    with pytest.raises(NotEntitled, match=r"tenant retail only.*service vault \(of tenant bank\)"):
        await pipeline.apply(change(theirs, tenants=frozenset({"retail"})))


async def test_rollback_is_a_new_revision_with_the_old_content(pipeline, fleet, document):
    node = fleet.connect("edge1")
    first = await pipeline.apply(change(document))
    held = node.holds
    await pipeline.apply(change(edited(document)))
    answer = await pipeline.rollback(1, Change(document={}, author="bob", reason="INC-1", timeout_s=5.0))
    assert (answer.outcome, answer.number, answer.revision) == ("live", 3, first.revision)
    assert node.holds == held
    with pipeline.store.read() as session:
        assert revisions.get(session, 3).reason == "rollback to revision 1: INC-1"
    with pytest.raises(Conflict, match="no revision 99"):
        await pipeline.rollback(99, Change(document={}, author="bob"))


async def test_a_full_disk_publishes_nothing(pipeline, fleet, document):
    node = fleet.connect("edge1")
    await pipeline.apply(change(document))
    with pipeline.store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    pipeline.store.engine.dispose()

    from sqlalchemy import event

    @event.listens_for(pipeline.store.engine, "connect")
    def no_more_room(connection, record):
        connection.execute(f"PRAGMA max_page_count={pages}")

    big = edited(document)
    big["edge"]["services"][0]["description"] = "x" * 100_000
    with pytest.raises(StoreFull, match="the disk of the control database is full: nothing was stored"):
        await pipeline.apply(change(big))
    assert len(node.received) == 1
    assert pipeline.live.number == 1


async def test_service_certificates_are_issued_once_and_renewed_in_time(pipeline, fleet, document, clock):
    node = fleet.connect("edge1")
    await pipeline.apply(change(document))
    secrets = dict(node.received[-1].snapshot.of_type(SECRET))
    assert await pipeline.updates.refresh("nothing is due") is False
    clock.at += dt.timedelta(days=21)
    assert await pipeline.updates.refresh("renewal") is True
    renewed = dict(node.received[-1].snapshot.of_type(SECRET))
    assert secrets.keys() == renewed.keys()
    assert secrets != renewed
    with pipeline.store.read() as session:
        newest = revisions.history(session, 1)[0]
    assert (newest.kind, newest.author, newest.outcome) == ("operational", "control", "live")
    assert "certificate shop: two thirds of its life are over" in newest.reason
    # The person's next run of the same inventory finds nothing to do.
    assert (await pipeline.apply(change(document))).outcome == "unchanged"


async def test_an_expired_pem_is_refused_with_its_line_but_does_not_stop_a_boot(
    control, pipeline, document, pki, clock
):
    from tests.support.site_pki import new_key

    key = new_key()
    chain = pki.issuer.sign_service(key.public_key(), names=["shop.example.com"], now=clock.at)
    document["edge"]["certificates"][0] = {
        "name": "shop", "source": "pem", "certificate": chain.decode(), "private_key": key_pem(key).decode(),
    }  # fmt: skip
    document["origins"]["edge.certificates[shop].certificate"] = "edge/certificates.yml:4:7"
    await pipeline.apply(change(document))
    clock.at += dt.timedelta(days=31)
    again = control()
    await again.boot()
    assert again.live.number == 1
    with pytest.raises(ModelError) as caught:
        await again.apply(change(edited(document)))
    assert any(
        "expired on" in p.message and p.origin == "edge/certificates.yml:4:7" for p in caught.value.problems
    )


async def test_everything_is_audited_and_no_secret_is(pipeline, fleet, document, pki, clock, tmp_path):
    from tests.support.site_pki import new_key

    key = new_key()
    chain = pki.issuer.sign_service(key.public_key(), names=["shop.example.com"], now=clock.at)
    planted = key_pem(key).decode()
    document["edge"]["certificates"][0] = {
        "name": "shop", "source": "pem", "certificate": chain.decode(), "private_key": planted,
    }  # fmt: skip
    answer = await pipeline.apply(change(document))
    line = planted.splitlines()[2]
    assert line not in str(answer.as_dict())
    assert pipeline.live is not None
    assert line not in str(pipeline.live.document)
    with pipeline.store.read() as session:
        actions = [row.action for row in reversed(audit.newest(session))]
        assert audit.verify_chain(session) is None
    assert actions == ["revision.change", "revision.live"]
    for file in tmp_path.glob("control.db*"):
        assert line.encode() not in file.read_bytes()


async def test_whatever_breaks_a_rollout_no_proxy_stays_between_two_revisions(
    pipeline, fleet, document, monkeypatch
):
    node = fleet.connect("edge1")
    await pipeline.apply(change(document))
    before = node.holds

    async def broken(*_args, **_more):
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(release.Release, "_acknowledged", broken)
    with pytest.raises(RuntimeError, match="nobody thought"):
        await pipeline.apply(change(edited(document)))
    assert await settled(pipeline) == {"edge1": "active", "edge2": "offline"}
    assert (node.holds, pipeline.publisher.number) == (before, 1)


async def test_a_proxy_that_refuses_what_is_live_does_not_stop_placements(
    pipeline, fleet, document, monkeypatch
):
    good = fleet.connect("edge1")
    await pipeline.apply(change(document))
    fleet.connect("edge2", lambda complete: Refuse("no room"))
    await asyncio.sleep(0)
    assert (await settled(pipeline))["edge2"] == "refused"
    moved = pipeline.builder.build(edited(document), pipeline.live).snapshots
    monkeypatch.setattr(
        pipeline.builder, "place", lambda live, decisions: SimpleNamespace(snapshots=lambda: moved)
    )
    assert await pipeline.updates.place(UNDECIDED, of=pipeline.live) == ""
    assert good.holds == moved["edge1"].revision
