"""Diff, Plan and references: pure functions of two sets."""

from __future__ import annotations

import pytest

from tests.support.xds_resources import (
    cluster,
    endpoints,
    extension,
    listener,
    routes,
    runtime,
    secret,
    shop,
    snapshot,
    static_cluster,
)
from xds_agent.snapshot.diff import Change, Diff
from xds_agent.snapshot.plan import Plan
from xds_agent.snapshot.references import endpoints_of, references
from xds_agent.snapshot.resource import (
    CLUSTER,
    EMPTY,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    ROUTES,
    RUNTIME,
    SECRET,
)


def plan(old, new):
    return Plan.of(Diff.between(old, new), new.resources)


def pushes(stages):
    return [(s.name, [(p.type_url, p.update, p.remove) for p in s.pushes]) for s in stages]


def test_diff_names_what_differs_sorted():
    old = snapshot(cluster("b"), cluster("a"), cluster("z"))
    new = snapshot(cluster("a"), cluster("z", timeout_ms=1), cluster("y"), cluster("c"))
    diff = Diff.between(old, new)
    assert diff.of(CLUSTER) == Change(added=("c", "y"), changed=("z",), removed=("b",))
    assert diff.of(ROUTES) == Change()
    assert diff.names() == {CLUSTER: {"b", "c", "y", "z"}}
    assert dict(diff) == {CLUSTER: diff.of(CLUSTER)}


def test_equal_sets_have_no_diff_whatever_their_objects():
    assert not Diff.between(snapshot(shop()), snapshot(shop()))
    assert not Diff.between(EMPTY, EMPTY)


def test_diff_can_be_told_where_to_look():
    old, new = snapshot(cluster("a"), cluster("b")), snapshot(cluster("a", timeout_ms=1), cluster("c"))
    assert Diff.between(old, new, {CLUSTER: ["a"]}).of(CLUSTER) == Change(changed=("a",))
    assert not Diff.between(old, new, {})


def test_plan_makes_then_turns_then_removes():
    old = snapshot(shop(name="old"), secret("gone"), runtime("gone", a=1.0))
    new = snapshot(
        shop(name="new"), secret("s"), extension("x"), runtime(b=2.0), cluster("quiet"), endpoints("quiet", 1)
    )
    made = plan(old, new)
    stages = made.stages
    assert pushes(stages) == [
        (
            "clusters",
            [(SECRET, ("s",), ()), (CLUSTER, ("new", "quiet"), ()), (ENDPOINTS, ("new", "quiet"), ())],
        ),
        (
            "listeners",
            [(EXTENSION, ("x",), ()), (RUNTIME, ("runtime",), ()), (LISTENER, ("new",), ())],
        ),
        ("routes", [(ROUTES, ("new",), ())]),
        ("removals", [(LISTENER, (), ("old",)), (RUNTIME, (), ("gone",))]),
    ]
    assert pushes([made.later]) == [("clusters go", [(CLUSTER, (), ("old",))])]
    assert [p.type_url for p in stages[2].awaits] == [SECRET, EXTENSION]
    assert {p.type_url: p.remove for p in stages[3].forget} == {ROUTES: ("old",)}
    assert {p.type_url: p.remove for p in made.later.forget} == {ENDPOINTS: ("old",), SECRET: ("gone",)}


def test_a_touched_cluster_takes_its_unchanged_endpoints_along():
    [stage] = plan(snapshot(shop()), snapshot(shop(timeout_ms=5))).stages
    assert pushes([stage]) == [("clusters", [(CLUSTER, ("shop",), ()), (ENDPOINTS, ("shop",), ())])]
    assert stage.new_clusters == ()


def test_an_endpoint_change_touches_nothing_else():
    assert pushes(plan(snapshot(shop()), snapshot(shop(port=5))).stages) == [
        ("clusters", [(ENDPOINTS, ("shop",), ())])
    ]


def test_nothing_to_do_is_an_empty_plan():
    assert not plan(snapshot(shop()), snapshot(shop()))


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (cluster("a"), {(ENDPOINTS, "a")}),
        (cluster("a", secret="ca"), {(ENDPOINTS, "a"), (SECRET, "ca")}),
        (static_cluster("a"), set()),
        (listener("l", "r"), {(ROUTES, "r")}),
        (
            listener("l", "r", secret="cert", extension="x"),
            {(ROUTES, "r"), (SECRET, "cert"), (EXTENSION, "x")},
        ),
        (endpoints("a", 1), set()),
        (routes("r", "a"), set()),
        (secret("s"), set()),
        (extension("x"), set()),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_references_are_what_envoy_will_ask_for(resource, expected):
    assert references(resource) == expected


def test_endpoints_of_follows_the_service_name():
    from envoy.config.cluster.v3 import cluster_pb2

    from xds_agent.snapshot.resource import Resource

    message = cluster_pb2.Cluster(name="a", type=cluster_pb2.Cluster.EDS)
    message.eds_cluster_config.service_name = "elsewhere"
    assert endpoints_of(Resource.of(CLUSTER, "a", message)) == "elsewhere"
    assert endpoints_of(static_cluster("b")) is None
