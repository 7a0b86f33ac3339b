"""Decisions in resources: each place gets its own shares, nobody else's, and nothing else changes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from hypothesis import given
from hypothesis import strategies as st

from tests.support.golden import words_for_keys
from xds_agent.compile import Compiler
from xds_agent.compile.endpoints import load_assignment
from xds_agent.model import ResolvedEndpoint, Service, Site, load_site
from xds_agent.proto import datapath_pb2 as pb
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, LISTENER, REALS, ROUTES, Snapshot
from xds_agent.steering import Region
from xds_agent.steering.asking import Ask
from xds_agent.steering.deciding import UNDECIDED, Decisions, Known, decide_all
from xds_agent.steering.site import scene_of

AWS, GCP, AZURE = Region("aws", "us-east-1"), Region("gcp", "us-central1"), Region("azure", "eastus")
NOW = dt.datetime(2026, 12, 1, 5, tzinfo=dt.UTC)


def endpoint(address: str, region: Region, **more: Any) -> dict[str, Any]:
    return {"address": address, "port": 8080, "cloud": region.cloud, "region": region.region, **more}


def site(**steering: Any) -> Site:
    edge = {
        "services": [
            {
                "name": "shop",
                "endpoints": [
                    endpoint("10.1.0.1", AWS, zone="a"), endpoint("10.1.0.2", AWS, zone="b"),
                    endpoint("10.2.0.1", GCP), endpoint("10.3.0.1", AZURE),
                ],
                "steering": steering,
            },
            {"name": "plain", "endpoints": [endpoint("10.1.0.9", AWS), endpoint("10.2.0.9", GCP)]},
        ]
    }  # fmt: skip
    hosts = {
        f"edge-{one.cloud}1": {"address": f"10.0.0.{at}", "groups": ["ingress"], **one._asdict()}
        for at, one in enumerate((AWS, GCP), start=1)
    }
    return load_site({"schema": 1, "edge": edge, "hosts": hosts, "origins": {}})


def sets(snapshot: Snapshot, name: str = "shop") -> dict[str, tuple[int, int]]:
    """region -> (priority, weight over its zones)"""
    message = endpoint_pb2.ClusterLoadAssignment.FromString(snapshot.of_type(ENDPOINTS)[name].body.value)
    found: dict[str, tuple[int, int]] = {}
    for one in message.endpoints:
        _, weight = found.get(one.locality.region, (0, 0))
        found[one.locality.region] = (one.priority, weight + one.load_balancing_weight.value)
    return found


def decided(made: Site, known: Known | None = None, before: Decisions | None = None) -> Decisions:
    return decide_all(scene_of(made), before or UNDECIDED, known or Known(), 0.0)


Compile = Callable[[Site, Decisions], dict[str, Snapshot]]


@pytest.fixture
def compiled() -> Compile:
    compiler = Compiler()

    def run(made: Site, decisions: Decisions) -> dict[str, Snapshot]:
        return compiler.compile(made, words_for_keys(made), now=NOW, decisions=decisions).snapshots()

    return run


def test_reals_of_xdp_follow_the_same_decision_as_endpoints_of_envoy(compiled: Compile) -> None:
    """Priority and share of each backend, on hosts that have no Envoy too."""
    steering = {"algorithm": "geo", "order": ["aws", "gcp"], "mode": "active-passive"}
    service = {
        "name": "db", "protocol": "tcp", "tier": "l4", "listen": {"address": "vip", "port": 5432},
        "endpoints": [endpoint("10.1.0.1", AWS), endpoint("10.2.0.1", GCP)],
    }  # fmt: skip
    hosts = {
        f"edge-{one.cloud}1": {
            "address": f"10.0.0.{at}", "groups": ["l4"], "interfaces": ["eth0"], "vip": f"203.0.114.{at}",
            **one._asdict(),
        }
        for at, one in enumerate((AWS, GCP), start=1)
    }  # fmt: skip
    edge = {"services": [{**service, "steering": steering}]}
    made = load_site({"schema": 1, "edge": edge, "hosts": hosts, "origins": {}})
    everywhere = compiled(made, UNDECIDED)
    assert len({str(reals(one)) for one in everywhere.values()}) == 1
    found = compiled(made, decided(made))
    first = {host: min(reals(one), key=lambda at: at[1])[0] for host, one in found.items()}
    assert first == {"edge-aws1": "10.1.0.1", "edge-gcp1": "10.2.0.1"}
    assert {address for address, _ in reals(found["edge-gcp1"])} == {"10.1.0.1", "10.2.0.1"}


def reals(snapshot: Snapshot) -> list[tuple[str, int]]:
    """(address, priority) of each real of db"""
    said = pb.Reals.FromString(snapshot.of_type(REALS)["db"].body.value)
    return [(str(ip_address(one.address)), one.priority) for one in said.reals]


def test_each_place_gets_what_was_decided_for_it(compiled: Compile) -> None:
    made = site(algorithm="geo", mode="active-passive", order=["aws", "gcp", "azure"])
    found = compiled(made, decided(made))
    # Azure's eastus is nearer to us-east-1 than us-central1 is; each place has its own region first.
    assert sets(found["edge-aws1"])["aws/us-east-1"] == (0, 10_000)
    assert sets(found["edge-gcp1"])["gcp/us-central1"] == (0, 10_000)
    assert sets(found["edge-aws1"])["azure/eastus"][0] == 1
    for kind in (CLUSTER, LISTENER, ROUTES):
        assert found["edge-aws1"].of_type(kind) == found["edge-gcp1"].of_type(kind)
    assert sets(found["edge-aws1"], "plain") == sets(found["edge-gcp1"], "plain")


def test_a_cloud_lost_from_one_place_changes_only_what_proxies_there_see(compiled: Compile) -> None:
    made = site(order=["aws", "gcp", "azure"])
    before = decided(made)
    first = compiled(made, before)
    lost = Known(health={(GCP, Ask("tcp", address, 8080)): False for address in ("10.1.0.1", "10.1.0.2")})
    then = compiled(made, decided(made, lost, before))
    assert then["edge-aws1"] is first["edge-aws1"]
    assert then["edge-gcp1"].revision != first["edge-gcp1"].revision
    assert sets(then["edge-gcp1"]) == {"gcp/us-central1": (0, 10_000), "azure/eastus": (1, 10_000),
                                       "aws/us-east-1": (2, 10_000)}  # fmt: skip
    changed = {kind for kind in then["edge-gcp1"].resources
               if then["edge-gcp1"].of_type(kind) != first["edge-gcp1"].of_type(kind)}  # fmt: skip
    assert changed == {ENDPOINTS}


def test_equal_decisions_are_equal_bytes_whatever_was_compiled_before(compiled: Compile) -> None:
    made = site(algorithm="latency", order=["gcp", "aws"])
    decisions = decided(made)
    compiled(site(order=["azure"]), decided(site(order=["azure"])))
    first = compiled(made, decisions)
    again = Compiler().compile(made, words_for_keys(made), now=NOW, decisions=decisions).snapshots()
    assert {name: one.revision for name, one in first.items()} == {
        n: one.revision for n, one in again.items()
    }


def test_what_the_order_does_not_name_is_not_even_sent(compiled: Compile) -> None:
    made = site(order=["aws", "gcp"])
    dead = Known(
        health={(AWS, Ask("tcp", a, 8080)): False for a in ("10.1.0.1", "10.1.0.2", "10.2.0.1", "10.3.0.1")}
    )
    found = compiled(made, decided(made, dead, decided(made)))
    assert set(sets(found["edge-aws1"])) == {"aws/us-east-1", "gcp/us-central1"}


@given(
    weights=st.lists(st.integers(0, 1000), min_size=4, max_size=4), priorities=st.permutations([0, 1, 2]),
    shares=st.lists(st.integers(0, 10_000), min_size=3, max_size=3),
)  # fmt: skip
def test_envoy_can_add_up_what_was_decided(
    weights: list[int], priorities: list[int], shares: list[int]
) -> None:
    places = [(AWS, "a"), (AWS, "b"), (GCP, ""), (AZURE, "")]
    resolved = [
        ResolvedEndpoint(f"10.0.0.{at}", 80, *place, zone, weight, False, "")
        for at, ((place, zone), weight) in enumerate(zip(places, weights, strict=True))
    ]
    wanted = [(r, p, s) for r, p, s in zip((AWS, GCP, AZURE), priorities, shares, strict=True)]
    message = load_assignment(Service.model_validate({"name": "s"}), resolved, (), wanted)
    assert {one.priority for one in message.endpoints} == {0, 1, 2}
    assert sum(len(one.lb_endpoints) for one in message.endpoints) == 4
    for one in message.endpoints:
        assert one.load_balancing_weight.value >= 1
