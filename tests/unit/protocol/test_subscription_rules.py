"""Rules about what a client asks for: who it is, names, wildcards, missing names (knowledge: 1 to 11)."""

from __future__ import annotations

import pytest

from tests.support.fake_envoy import FakeEnvoy
from tests.support.xds_resources import cluster, endpoints, listener, routes, secret, snapshot
from xds_agent.protocol.boundary import Method
from xds_agent.protocol.subscription import Subscription
from xds_agent.protocol.wire import INVALID_ARGUMENT
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, ENVOY_TYPES, LISTENER, ROUTES, SECRET

MAKERS = {
    CLUSTER: lambda name, n=1: cluster(name, timeout_ms=1000 + n),
    ENDPOINTS: lambda name, n=1: endpoints(name, 8000 + n),
    LISTENER: lambda name, n=1: listener(name, "r", port=9000 + n),
    ROUTES: lambda name, n=1: routes(name, f"c{n}"),
    SECRET: lambda name, n=1: secret(name, f"s{n}"),
}
each_type = pytest.mark.parametrize("kind", MAKERS, ids=lambda kind: kind.rpartition(".")[2])
each_method = pytest.mark.parametrize("method", Method, ids=lambda method: method.name.lower())


@each_method
def test_rule_01_node_and_type_are_remembered(control, method):
    control.publish(snapshot(cluster("a")), node="edge7")
    envoy = FakeEnvoy(control.wire, method=method, node="edge7").request(CLUSTER).expect(CLUSTER, "a").ack()
    # FakeEnvoy introduces itself once: this request has no node.
    envoy.request(LISTENER)
    control.publish(snapshot(cluster("a"), cluster("b")), node="edge7")
    while envoy.inbox and envoy.take().type_url != CLUSTER:
        pass
    assert "b" in envoy.last.resources


@each_method
def test_rule_01_a_first_request_without_a_node_is_refused(control, method):
    control.publish(snapshot(cluster("a")))
    FakeEnvoy(control.wire, method=method, node="").request(CLUSTER).expect_closed(INVALID_ARGUMENT)


def test_rule_02_only_error_detail_makes_a_nack(control):
    """The trace of envoy PR#14841: a client that has no version of EDS yet acknowledges with an empty one."""
    control.publish(snapshot(endpoints("a", 1), endpoints("b", 1)))
    client = FakeEnvoy(control.wire, method=Method.SOTW).request(ENDPOINTS, "a").expect(ENDPOINTS, "a")
    client.request(ENDPOINTS, "a", nonce=client.last.nonce, version="").expect_nothing()
    client.request(ENDPOINTS, "a", "b", nonce=client.last.nonce, version="").expect(ENDPOINTS, "b")
    client.request(ENDPOINTS, "a", "b", nonce=client.last.nonce, version="another").expect_nothing()
    session = next(iter(control.core._sessions.values()))
    assert session.last_error == ""
    control.publish(snapshot(endpoints("a", 2), endpoints("b", 1)))
    client.expect(ENDPOINTS, "a").nack("no port")
    assert session.last_error == "no port"


@each_type
@each_method
def test_rule_03_a_nack_may_subscribe(control, kind, method):
    make = MAKERS[kind]
    control.publish(snapshot(make("a"), make("b")))
    envoy = FakeEnvoy(control.wire, method=method).request(kind, "a").expect(kind, "a")
    if method is Method.DELTA:
        envoy.request(kind, "b", nonce=envoy.last.nonce, nack="bad").expect(kind, "b")
    else:
        envoy.request(kind, "a", "b", nonce=envoy.last.nonce, nack="bad")
        assert "b" in envoy.take().resources


@each_type
@each_method
def test_rule_04_a_nack_is_not_answered_with_the_same(control, kind, method):
    make = MAKERS[kind]
    bad = snapshot(make("a", 1))
    control.publish(bad)
    envoy = FakeEnvoy(control.wire, method=method).request(kind, "a").expect(kind, "a")
    envoy.nack("bad").expect_nothing()
    control.publish(bad)
    envoy.expect_nothing()
    control.wire.wait(60)
    envoy.expect_nothing()
    control.publish(snapshot(make("a", 2)))
    envoy.expect(kind, "a").ack().expect_nothing()


@each_type
@each_method
def test_rule_05_a_stale_nonce_is_no_ack_but_its_names_count(control, kind, method):
    make = MAKERS[kind]
    control.publish(snapshot(make("a"), make("b")))
    envoy = FakeEnvoy(control.wire, method=method).request(kind, "a").expect(kind, "a")
    first = envoy.last
    control.publish(snapshot(make("a", 2), make("b")))
    envoy.expect(kind, "a")
    newer = envoy.last
    names = ("b",) if method is Method.DELTA else ("a", "b")
    envoy.ack(first).expect_nothing()
    envoy.request(kind, *names, nonce="stale")
    assert "b" in envoy.take().resources
    envoy.ack(newer).expect_nothing()


@each_method
def test_rule_06_nonces_are_per_response_and_versions_outlive_streams(control, method):
    control.publish(snapshot(endpoints("a", 1)))
    envoy = FakeEnvoy(control.wire, method=method).request(ENDPOINTS, "a").expect(ENDPOINTS, "a").ack()
    first = envoy.last
    if method is Method.DELTA:
        envoy.request(ENDPOINTS, "a")
    else:
        envoy.request(ENDPOINTS, nonce=first.nonce).request(ENDPOINTS, "a")
    envoy.expect(ENDPOINTS, "a")
    assert envoy.last.nonce != first.nonce
    assert envoy.last.resources == first.resources
    other = FakeEnvoy(control.wire, method=method).request(ENDPOINTS, "a").expect(ENDPOINTS, "a")
    assert other.last.resources == first.resources


@each_type
def test_rule_07_wildcard_trace_of_the_specification_sotw(control, kind):
    make = MAKERS[kind]
    control.publish(snapshot(make("a"), make("b")))
    client = FakeEnvoy(control.wire, method=Method.SOTW)
    client.request(kind).expect(kind, "a", "b")
    client.ack(names=("*", "a"))
    while client.inbox:
        client.take()
    control.publish(snapshot(make("a"), make("b", 2)))
    assert "b" in client.take().resources
    client.ack(names=("a",))
    while client.inbox:
        client.take()
    control.publish(snapshot(make("a"), make("b", 3)))
    client.expect_nothing()
    client.ack(names=())
    while client.inbox:
        client.take()
    control.publish(snapshot(make("a", 3), make("b", 3)))
    client.expect_nothing()


@each_type
def test_rule_07_wildcard_trace_of_the_specification_delta(control, kind):
    make = MAKERS[kind]
    control.publish(snapshot(make("a"), make("b")))
    envoy = FakeEnvoy(control.wire).request(kind).expect(kind, "a", "b").ack()
    envoy.request(kind, "a").expect(kind, "a").ack()
    control.publish(snapshot(make("a"), make("b", 2)))
    envoy.expect(kind, "b").ack()
    envoy.request(kind, unsubscribe=["*"])
    control.publish(snapshot(make("a", 2), make("b", 3)))
    envoy.expect(kind, "a").ack()
    envoy.request(kind, unsubscribe=["a"])
    control.publish(snapshot(make("a", 4), make("b", 4)))
    envoy.expect_nothing()


@pytest.mark.parametrize("explicit", [True, False], ids=["star", "empty"])
def test_rule_07_an_envoy_asking_for_no_endpoints_gets_none(local_with, explicit):
    """On the agent's hop only clusters and listeners have the legacy wildcard: an Envoy that reconnects with
    no endpoint subscription left sends an empty list."""
    local = local_with(snapshot(cluster("a"), endpoints("a", 1)))
    envoy = FakeEnvoy(local.wire)
    envoy.request(ENDPOINTS, *(["*"] if explicit else []))
    if explicit:
        envoy.expect(ENDPOINTS, "a")
    envoy.expect_nothing()


@each_type
@each_method
def test_rule_09_a_subscribed_name_is_sent_even_if_unchanged(control, kind, method):
    make = MAKERS[kind]
    control.publish(snapshot(make("a"), make("b")))
    envoy = FakeEnvoy(control.wire, method=method).request(kind, "a", "b").expect(kind, "a", "b").ack()
    if method is Method.DELTA:
        envoy.request(kind, "a").expect(kind, "a").ack()
        envoy.request(kind, unsubscribe=["b"]).expect_nothing()
        envoy.request(kind, "b").expect(kind, "b").ack().expect_nothing()
    else:
        envoy.ack(names=("a",)).expect_nothing()
        envoy.ack(names=("a", "b"))
        assert "b" in envoy.take().resources


@each_type
def test_rule_10_unsubscribing_a_name_under_a_wildcard_is_answered(control, kind):
    make = MAKERS[kind]
    control.publish(snapshot(make("a")))
    envoy = FakeEnvoy(control.wire).request(kind, "*", "gone").expect(kind, "a", removed=["gone"]).ack()
    envoy.request(kind, unsubscribe=["a"]).expect(kind, "a").ack()
    envoy.request(kind, unsubscribe=["gone"]).expect(kind, removed=["gone"]).ack().expect_nothing()


@each_type
def test_rule_11_a_missing_name_is_answered_at_once_and_stays_subscribed(control, kind):
    make = MAKERS[kind]
    control.publish(snapshot())
    envoy = FakeEnvoy(control.wire).request(kind, "a").expect(kind, removed=["a"]).ack()
    control.publish(snapshot(make("other")))
    envoy.expect_nothing()
    control.publish(snapshot(make("a")))
    envoy.expect(kind, "a").ack()
    control.publish(snapshot())
    envoy.expect(kind, removed=["a"]).ack().expect_nothing()


def test_rule_11_on_the_hop_to_envoy(local):
    envoy = local.up()
    for kind in (ENDPOINTS, ROUTES, SECRET):
        envoy.request(kind, "none").expect(kind, removed=["none"]).ack()
    envoy.expect_nothing()


@each_type
def test_every_type_has_an_explicit_wildcard(control, kind):
    make = MAKERS[kind]
    control.publish(snapshot(make("a"), make("b")))
    for method in Method:
        FakeEnvoy(control.wire, method=method).request(kind, "*").expect(kind, "a", "b")


def test_an_empty_first_set_is_answered_since_the_client_waits_for_it(control):
    control.publish(snapshot())
    for method in Method:
        envoy = FakeEnvoy(control.wire, method=method)
        for kind in (CLUSTER, LISTENER):
            envoy.request(kind).expect(kind).ack().expect_nothing()


def test_subscription_drops_to_nothing_only_after_a_name_was_given():
    legacy = Subscription()
    assert legacy.replace([]).everything
    assert not legacy.replace([])
    assert legacy.wildcard
    named = Subscription()
    assert named.replace(["a"]).names == {"a"}
    assert named.replace([]).dropped == {"a"}
    assert not named.wildcard
    assert not named.wants("a")
    assert len(ENVOY_TYPES) == 7
