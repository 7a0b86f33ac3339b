"""ACME orders: authorities count failures, so nothing is asked of one that cannot end well, nor too often."""

import asyncio
import datetime as dt

import pytest

from tests.support.fake_fleet import FakeFleet, Refuse
from xds_agent.pki import acme
from xds_agent.rollout import orders as module
from xds_agent.rollout.change import Change
from xds_agent.rollout.orders import LONGEST_RETRY, Orders


@pytest.fixture
async def node(pipeline, document):
    document["edge"]["certificates"][0] = {
        "name": "shop", "source": "acme", "directory": "https://ca.example/directory",
    }  # fmt: skip
    node = FakeFleet(pipeline.publisher).connect("edge1")
    answer = await pipeline.apply(Change(document=document, author="ada", timeout_s=5.0))
    assert answer.outcome == "live"
    return node


@pytest.fixture
def authority(monkeypatch):
    """What it was asked, each time once the answers were published."""
    asked = []

    def obtain(authority, *, key, names, publish):
        publish({"token": b"answer"})
        try:
            asked.append(list(names))
            raise acme.AcmeError("it does not like the name")
        finally:
            publish({})

    monkeypatch.setattr(acme, "obtain", obtain)
    return asked


async def test_an_order_whose_answers_proxies_refuse_is_not_looked_at(pipeline, node, authority):
    held = node.holds
    node.decide = lambda complete: None if complete.snapshot.revision == held else Refuse("no room")
    orders = Orders(pipeline)
    await orders.look()
    assert authority == []
    assert "proxies refused its answers" in orders.failures["shop"].words
    assert "no room" in orders.failures["shop"].words
    # Nothing of it goes out with the next renewal.
    assert pipeline.builder.challenges == {}


async def test_an_authority_that_refuses_for_weeks_is_asked_ever_less(pipeline, node, authority):
    orders, now = Orders(pipeline), pipeline.now()
    pipeline.now = lambda: now
    for _ in range(60):
        await orders.look()
        now = orders.failures["shop"].retry
    assert len(authority) == 60
    assert orders.failures["shop"].retry - now <= LONGEST_RETRY
    await orders.look()
    assert orders.failures["shop"].retry - now == LONGEST_RETRY


async def test_whatever_breaks_an_order_the_next_one_waits(pipeline, node, monkeypatch):
    tries = []

    def obtain(*_args, **_more):
        tries.append(1)
        raise KeyError("nobody thought of this")

    monkeypatch.setattr(acme, "obtain", obtain)
    orders = Orders(pipeline)
    for _ in range(3):
        await orders.look()
    assert len(tries) == 1
    assert orders.failures["shop"].count == 1
    assert orders.failures["shop"].retry > pipeline.now() + dt.timedelta(seconds=30)


async def test_an_order_does_not_wait_for_a_control_that_has_stopped(pipeline, node, authority, monkeypatch):
    monkeypatch.setattr(module, "PUBLISH_S", 0.05)
    orders = Orders(pipeline)
    async with pipeline.hand:
        await asyncio.wait_for(orders.look(), 20)
    assert "were not with the proxies in 0.05 s" in orders.failures["shop"].words
    assert authority == []
