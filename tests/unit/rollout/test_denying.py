"""A network denied by hand: what the history says of it, what it replaces, and how it ends."""

import datetime as dt

import pytest

from tests.support.fake_fleet import FakeFleet
from xds_agent.rollout import denying, release
from xds_agent.rollout.change import Change, Conflict
from xds_agent.store import revisions
from xds_agent.store.denials import Denial

AT = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(hours=1)
LATER = AT + dt.timedelta(hours=1)


@pytest.fixture
async def served(control, document, monkeypatch):
    """A control host with one proxy that has a datapath; its clock is the test's."""
    monkeypatch.setattr(release, "NEWCOMER_GRACE_S", 0.0)
    pipeline = control()
    document["hosts"]["edge1"] |= {"groups": ["ingress", "l4"], "interfaces": ["eth0"]}
    FakeFleet(pipeline.publisher).connect("edge1")
    answer = await pipeline.apply(Change(document=document, author="ada", timeout_s=5.0))
    assert answer.outcome == "live", answer
    return pipeline


def words(pipeline):
    """The lines of the newest revision."""
    with pipeline.store.read() as session:
        return [line["text"] for line in revisions.history(session)[0].lines]


async def test_the_history_says_who_is_denied_and_when_that_is_over(served, clock):
    await denying.deny(served, Denial("203.0.113.7", AT, "ada", "INC-1"), force=False)
    assert words(served) == [f"203.0.113.7/32 is denied by hand until {AT:%Y-%m-%d %H:%M:%S} UTC"]
    clock.at = LATER
    assert denying.forget_ended(served, clock())
    assert await served.updates.refresh("what was denied by hand is over")
    assert words(served) == ["203.0.113.7/32 is no longer denied by hand"]


async def test_the_same_network_again_tells_what_it_replaces(served):
    assert await denying.deny(served, Denial("203.0.113.7/24", AT, "ada", ""), force=False) == (
        "203.0.113.0/24",
        None,
    )
    network, before = await denying.deny(served, Denial("203.0.113.0/24", LATER, "bob", ""), force=False)
    assert (network, before) == ("203.0.113.0/24", Denial("203.0.113.0/24", AT, "ada", ""))


async def test_it_is_lifted_however_the_network_is_written(served):
    """Who denied 203.0.113.7 lifts 203.0.113.7, not only the /32 that was made of it."""
    await denying.deny(served, Denial("203.0.113.7", AT, "ada", ""), force=False)
    assert await denying.lift(served, "203.0.113.7", "bob")
    assert not await denying.lift(served, "203.0.113.7", "bob")
    with pytest.raises(Conflict, match="nonsense is no network"):
        await denying.lift(served, "nonsense", "bob")
