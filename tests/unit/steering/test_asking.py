"""Who measures what: bounded, stable, never for another tenant, and within the budget or refused."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from xds_agent.model import Site, load_site
from xds_agent.steering import Region
from xds_agent.steering.asking import PER_PAIR, Ask, Pace, assign, over_budget
from xds_agent.steering.site import scene_of

NODES = st.lists(st.sampled_from([f"edge{n}" for n in range(12)]), unique=True, min_size=1)
ASKS = st.lists(st.builds(Ask, st.sampled_from(["tcp", "http"]), st.sampled_from(["10.0.0.1", "10.0.0.2"]),
                          st.integers(1, 9)), min_size=1, unique=True)  # fmt: skip


@given(NODES, ASKS)
def test_a_question_is_asked_by_a_bounded_number_of_nodes_whatever_the_fleet(
    nodes: list[str], asks: list[Ask]
) -> None:
    found = assign([(ask, Pace(), tuple(sorted(nodes))) for ask in asks])
    for ask in asks:
        assert len([node for node in found if ask in found[node]]) == min(PER_PAIR, len(nodes))


@given(NODES, ASKS)
def test_a_node_that_leaves_moves_only_what_it_had(nodes: list[str], asks: list[Ask]) -> None:
    before = assign([(ask, Pace(), tuple(sorted(nodes))) for ask in asks])
    gone, left = nodes[0], tuple(sorted(nodes[1:]))
    after = assign([(ask, Pace(), left) for ask in asks]) if left else {}
    for node in left:
        assert before.get(node, {}).keys() <= after.get(node, {}).keys()
        more = after.get(node, {}).keys() - before.get(node, {}).keys()
        assert more <= before.get(gone, {}).keys()


@given(ASKS, st.floats(0.1, 50.0))
def test_the_way_out_that_a_refusal_names_is_one(asks: list[Ask], limit: float) -> None:
    pace = Pace(interval_s=1.0)
    found = assign([(ask, pace, ("edge1",)) for ask in asks])
    problems = over_budget(found, limit)
    assert bool(problems) is (len(asks) > limit * 1.000001)
    for one in problems:
        assert one.path == "limits.probes_per_second"
        factor = float(one.fix.split(" times")[0].rsplit(" ", 1)[1])
        slower = {node: {ask: Pace(factor * 1.01) for ask in own} for node, own in found.items()}
        assert over_budget(slower, limit) == []


def site(*, tenants: list[str] | None = None, **service: Any) -> Site:
    places = ({"cloud": "aws", "region": "us-east-1"}, {"cloud": "gcp", "region": "us-central1"})
    endpoints = [{"address": f"10.{n}.0.1", "port": 80, **place} for n, place in enumerate(places, 1)]
    hosts = {"edge1": {"address": "10.9.0.1", "groups": ["ingress"], **places[0]}}
    if tenants is not None:
        hosts["edge1"]["tenants"] = tenants  # type: ignore[assignment]
    edge = {
        "tenants": [{"name": "red"}, {"name": "blue"}],
        "services": [
            {"name": "s", "tenant": "red", "endpoints": endpoints, "steering": {"order": ["aws"]}, **service}
        ],
    }
    return load_site({"schema": 1, "edge": edge, "hosts": hosts, "origins": {}})


def test_no_node_is_asked_about_a_tenant_it_does_not_carry() -> None:
    assert scene_of(site(tenants=["blue"])).assignments == {}
    assert set(scene_of(site(tenants=["red"])).assignments) == {"edge1"}


def test_a_backend_is_asked_as_its_health_check_asks_where_a_probe_can() -> None:
    def kinds(**service: Any) -> set[tuple[str, int]]:
        return {(ask.kind, ask.port) for ask in scene_of(site(**service)).assignments["edge1"]}

    assert kinds() == {("tcp", 80)}
    assert kinds(health={"path": "/h", "port": 81}) == {("http", 81)}
    assert kinds(health={"type": "grpc"}, protocol="grpc") == {("grpc", 80)}
    assert kinds(health={"path": "/h"}, upstream_tls={"sni": "s.internal"}) == {("tcp", 80)}
    assert kinds(protocol="udp", listen={"port": 53}, steering={"weights": {"aws": 2}}) == {("icmp", 0)}


def test_what_is_not_steered_is_not_measured() -> None:
    plain = site()
    service = plain.edge.services[0].model_copy(update={"endpoints": plain.edge.services[0].endpoints[:1]})
    assert scene_of(plain).services["s"].groups.keys() == {
        Region("aws", "us-east-1"),
        Region("gcp", "us-central1"),
    }
    alone = Site(plain.edge.model_copy(update={"services": (service,)}), plain.hosts)
    assert scene_of(alone).services == {}
