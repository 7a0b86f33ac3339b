"""One control host among others: a database that fails between two questions ends no control."""

import grpc
import pytest

from xds_agent.peers.follow import Follow
from xds_agent.peers.lead import Lead
from xds_agent.peers.leadership import Leadership
from xds_agent.peers.member import Member
from xds_agent.rollout.material import SiteCa
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.rollout.publisher import Publisher
from xds_agent.store import Store, StoreError


@pytest.fixture
def member(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path}/control.db", tmp_path / "secret.key")
    publisher = Publisher()
    pipeline = Pipeline(store, publisher, SiteCa(tmp_path / "ca.crt", None, None, None))

    async def answer(request):
        raise AssertionError("nobody asks")

    lead = Lead(publisher, [], answer, lambda name, report: None, lambda: 0)
    follow = Follow(publisher, grpc.ssl_channel_credentials, lambda names, said: None, lambda number: None)
    yield Member(Leadership(store, "control1"), pipeline, lead, follow, {})
    store.close()


async def test_who_cannot_read_what_is_live_does_not_lead_and_tries_again(member):
    answers = [StoreError("the control database refused: it restarts"), None]

    async def before_boot():
        if (error := answers.pop(0)) is not None:
            raise error

    member.before_boot = before_boot
    assert await member._take() is False
    assert not member.leading
    assert await member._take() is True
    assert member.leading


async def test_who_cannot_catch_up_stays(member, monkeypatch):
    async def before_boot():
        raise StoreError("the control database refused: it restarts")

    member.before_boot = before_boot
    monkeypatch.setattr(member._pipeline.ledger, "newest_live", lambda: 7)
    await member._catch_up()
    assert not member.leading


async def test_who_neither_leads_nor_follows_says_why(member, monkeypatch):
    assert "is being settled" in member.why_nobody_leads

    def refuse(leadership):
        raise StoreError("the database cannot be asked: refused\nanother address: no")

    monkeypatch.setattr(Leadership, "take", refuse)
    assert not await member._take()
    assert member.why_nobody_leads == (
        "no control host leads at this moment: the database cannot be asked: refused"
    )
