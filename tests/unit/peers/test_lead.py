"""The leader's side towards the control hosts that follow it."""

from xds_agent.peers.lead import Lead
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.rollout.publisher import Publisher


def test_what_one_node_says_costs_no_control_host_its_stream():
    """A certificate that ends in the year 30000 cut off the follower, and all its nodes with it."""
    taken = []

    def report(name, said):
        taken.append(name)
        raise ValueError("year 30000 is out of range")

    async def answer(request):
        raise AssertionError("nobody asks")

    lead = Lead(Publisher(), ["control2"], answer, report, lambda: 1)
    for name in ("edge1", "edge2"):
        lead._hear("control2", pb.FollowerSaid(report=pb.NodeReport(node=name)))
    assert taken == ["edge1", "edge2"]
