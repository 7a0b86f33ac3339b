"""Rates of steered services: the sum of what proxies tell, and no more than is usual from each."""

import pytest

from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.rollout.loads import STALE_S, TRUST, Loads
from xds_agent.steering.world import Region

AWS, GCP = Region("aws", "us-east-1"), Region("gcp", "us-central1")
PLACES = {AWS: ("a1", "a2", "a3", "a4"), GCP: ("g1",)}


def rates(told, places=PLACES):
    """Of requests a second as each node's counters tell them, ten seconds apart."""
    loads = Loads()
    for at in (0.0, 10.0):
        for node, rps in told.items():
            said = pb.ServiceLoad(service="shop", cloud="aws", region="us-east-1", requests=int(rps * at))
            loads.heard(node, [said], at)
    return loads.rates(10.0, places)


def test_what_proxies_tell_is_added_up():
    assert rates({"a1": 100, "a2": 120, "a3": 80, "a4": 300, "g1": 60}) == {"shop": 660.0}


def test_one_proxy_alone_cannot_fill_a_capacity():
    honest = {"a1": 100, "a2": 100, "a3": 100}
    assert rates(honest | {"a4": 1e9}) == {"shop": 300 + TRUST * 100}
    # One that stands alone in its place is measured by those of the others.
    assert rates(honest | {"g1": 1e9}) == {"shop": 300 + TRUST * 100}


def test_a_proxy_that_carries_nothing_takes_no_part():
    """Most may be idle beside the few that clients have found."""
    assert rates({"a1": 0, "a2": 0, "a3": 0, "a4": 500}) == {"shop": 500.0}


@pytest.mark.parametrize("told", [{"a1": 1000}, {"a1": 1000, "g1": 1}])
def test_of_two_nobody_knows_which_is_right(told):
    assert rates(told) == {"shop": float(sum(told.values()))}


def test_what_hosts_and_services_told_that_are_gone_is_forgotten():
    loads = Loads()
    loads.heard("gone", [pb.ServiceLoad(service="old", cloud="aws", region="us-east-1", requests=1)], 0.0)
    loads.heard("a1", [pb.ServiceLoad(service="shop", cloud="aws", region="us-east-1", requests=1)], STALE_S)
    loads.rates(STALE_S, PLACES)
    assert {node for node, _, _ in loads.flows} == {"gone", "a1"}
    loads.rates(STALE_S + 1.0, PLACES)
    assert {node for node, _, _ in loads.flows} == {"a1"}
