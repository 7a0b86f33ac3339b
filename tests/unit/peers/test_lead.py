"""Leader and follower: what one does not read does not fill the other's memory."""

import asyncio

import grpc

from xds_agent.peers import follow, lead
from xds_agent.peers.follow import Follow
from xds_agent.peers.lead import Lead
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.protocol.outcomes import Connected
from xds_agent.rollout.publisher import Publisher


def test_what_one_node_says_costs_no_control_host_its_stream():
    """A certificate that ends in the year 30000 cut off the follower, and all its nodes with it."""
    taken = []

    def report(name, said):
        taken.append(name)
        raise ValueError("year 30000 is out of range")

    async def answer(request):
        raise AssertionError("nobody asks")

    leader = Lead(Publisher(), ["control2"], answer, report, lambda: 1)
    for name in ("edge1", "edge2"):
        leader._hear("control2", pb.FollowerSaid(report=pb.NodeReport(node=name)))
    assert taken == ["edge1", "edge2"]


async def test_a_follower_that_does_not_read_costs_no_memory(monkeypatch):
    monkeypatch.setattr(lead, "_WAITING_MOST", 10)

    async def answer(request):
        raise AssertionError("nobody asks")

    publisher = Publisher()
    leader = Lead(publisher, ["control2"], answer, lambda name, report: None, lambda: 1)
    stuck = leader._followers["control2"] = lead._Follower("control2", None)
    publisher.heard_from("control2", Connected("edge1", 0))
    for _ in range(50):
        leader.tell({"edge1"}, pb.ReportResponse(heartbeat_s=10))
    assert len(stuck.tells) == 10


async def test_a_leader_that_does_not_read_costs_no_memory(monkeypatch):
    monkeypatch.setattr(follow, "_WAITING_MOST", 10)
    follower = Follow(
        Publisher(), grpc.ssl_channel_credentials, lambda names, said: None, lambda number: None
    )
    follower._news = asyncio.Queue()
    assert all(follower.reported("edge1", pb.Heartbeat()) for _ in range(50))
    assert follower._news.qsize() == 10
