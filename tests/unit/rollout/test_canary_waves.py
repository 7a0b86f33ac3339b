"""What a wave makes of its canaries' requests: the real pipeline; nodes answer what a test says."""

from __future__ import annotations

import copy

import pytest

from tests.support.fake_fleet import FakeFleet
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.rollout.canary import rounds
from xds_agent.rollout.change import Change


def change(document):
    return Change(document=document, author="ada", timeout_s=5.0)


class Canaries:
    """Nodes that answer requests as `replies` says of (node, path, how often it was asked)."""

    def __init__(self, replies):
        self.replies = replies
        self.asked = []

    async def __call__(self, name, requests, within_s):
        self.asked += [(name, one.path) for one in requests]
        found = [self.replies(name, one.path, self.asked.count((name, one.path))) for one in requests]
        return None if None in found else found


def ok(name, path, time):
    return pb.CanaryReply(status=200)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(rounds, "BETWEEN_TRIES_S", 0.0)


@pytest.fixture
def pay(document):
    """An edit that sends /pay elsewhere, on line 7."""
    bad = copy.deepcopy(document)
    bad["edge"]["routes"].append(
        {"name": "pay", "domains": ["shop.example.com"], "prefix": "/pay", "service": "shop"}
    )
    bad["origins"]["edge.routes[pay]"] = "edge/pay.yml:7:5"
    return bad


@pytest.fixture
async def live(pipeline, document):
    """Revision 1 on two proxies of two clouds; returns the fleet's nodes."""
    fleet = FakeFleet(pipeline.publisher)
    nodes = [fleet.connect("edge1"), fleet.connect("edge2")]
    document["edge"]["rollout"] = {"waves": ["50%", "100%"], "soak": "0s"}
    assert (await pipeline.apply(change(document))).outcome == "live"
    return nodes


async def test_a_canary_that_serves_worse_takes_the_change_back_and_names_the_line(pipeline, live, pay):
    def broken(name, path, time):
        after = live[0].holds != first
        return (
            pb.CanaryReply(status=503, by_envoy=True, words="no healthy upstream") if after else ok("", "", 0)
        )

    first = live[0].holds
    pipeline.ask_canary = canaries = Canaries(broken)
    pay["edge"]["rollout"] = {"waves": ["50%", "100%"], "soak": "0s"}
    answer = await pipeline.apply(change(pay))
    assert (answer.outcome, answer.reverted_to) == ("refused", 1)
    [problem] = answer.problems
    assert problem.origin == "edge/pay.yml:7:5"
    assert "edge1: GET https://shop.example.com/pay was answered 503 by Envoy" in problem.message
    assert [node.holds for node in live] == [first, first]
    assert len(live[1].received) == 1, "the second wave never saw it"
    assert canaries.asked.count(("edge1", "/pay")) == 1 + rounds.TRIES


async def test_a_request_that_fails_once_is_made_again(pipeline, live, pay):
    def flaky(name, path, time):
        return pb.CanaryReply(failed="reset") if time == 2 else ok("", "", 0)

    pipeline.ask_canary = canaries = Canaries(flaky)
    answer = await pipeline.apply(change(pay))
    assert answer.outcome == "live"
    assert canaries.asked.count(("edge1", "/pay")) == 3


async def test_what_was_not_served_before_is_told_and_goes_on(pipeline, live, pay):
    pipeline.ask_canary = Canaries(lambda *_: pb.CanaryReply(status=503, by_envoy=True))
    answer = await pipeline.apply(change(pay))
    assert answer.outcome == "live"
    assert any("was not served before" in note for note in answer.notes)


async def test_a_node_that_does_not_answer_is_named_and_holds_nothing_up(pipeline, live, pay):
    pipeline.ask_canary = Canaries(lambda *_: None)
    answer = await pipeline.apply(change(pay))
    assert answer.outcome == "live"
    assert any(note.startswith("edge1 made no requests") for note in answer.notes)
