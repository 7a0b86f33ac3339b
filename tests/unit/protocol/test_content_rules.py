"""Rules about what responses hold: full sets, reconnects, bytes, TTL (knowledge: 8, 12, 20 to 26)."""

from __future__ import annotations

import hashlib
import random

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2

from tests.support.fake_envoy import FakeEnvoy
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
)
from xds_agent.protocol.boundary import Method
from xds_agent.snapshot.resource import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    ROUTES,
    RUNTIME,
    SECRET,
    Resource,
)


@pytest.mark.parametrize("kind", [CLUSTER, LISTENER], ids=["cluster", "listener"])
def test_rule_08_full_types_carry_the_full_set(control, kind):
    make = {CLUSTER: cluster, LISTENER: lambda name: listener(name, "r")}[kind]
    client = FakeEnvoy(control.wire, method=Method.SOTW).request(kind)
    # Nothing was compiled yet: an empty answer now would delete everything the client runs on.
    client.expect_nothing()
    control.publish(snapshot(make("a"), make("b")))
    client.expect(kind, "a", "b").ack()
    control.publish(snapshot(make("a"), make("b"), make("c")))
    client.expect(kind, "a", "b", "c").ack()
    control.publish(snapshot(make("c")))
    client.expect(kind, "c").ack()
    control.publish(snapshot())
    client.expect(kind).ack().expect_nothing()


def test_rule_08_other_types_carry_what_changed(control):
    control.publish(snapshot(endpoints("a", 1), endpoints("b", 1)))
    client = FakeEnvoy(control.wire, method=Method.SOTW).request(ENDPOINTS, "a", "b")
    client.expect(ENDPOINTS, "a", "b").ack()
    control.publish(snapshot(endpoints("a", 2), endpoints("b", 1)))
    client.expect(ENDPOINTS, "a").ack()
    control.publish(snapshot(endpoints("b", 1)))
    client.expect_nothing()


def test_rule_12_no_duplicate_names(control):
    with pytest.raises(ValueError, match="two cluster resources are named 'a'"):
        snapshot(cluster("a"), cluster("a", timeout_ms=5))
    # FakeEnvoy asserts it of every response; one that asks twice in one request gets one.
    control.publish(snapshot(endpoints("a", 1)))
    for method in Method:
        FakeEnvoy(control.wire, method=method).request(ENDPOINTS, "a", "a").expect(ENDPOINTS, "a")


def test_rule_20_a_reconnect_resends_nothing_that_is_known(control):
    held = snapshot(shop(), cluster("gone"))
    now = snapshot(shop(port=9), cluster("new"))
    control.publish(now)
    envoy = FakeEnvoy(control.wire)
    versions = {name: resource.version for name, resource in held.of_type(CLUSTER).items()}
    envoy.request(CLUSTER, versions=versions).expect(CLUSTER, "new", removed=["gone"]).ack()
    same = {name: resource.version for name, resource in now.of_type(ROUTES).items()}
    envoy.request(ROUTES, "shop", versions=same).expect_nothing()
    old = {name: resource.version for name, resource in held.of_type(ENDPOINTS).items()}
    envoy.request(ENDPOINTS, "shop", versions=old).expect(ENDPOINTS, "shop").ack().expect_nothing()


@pytest.mark.parametrize("kind", [ENDPOINTS, ROUTES, SECRET], ids=["endpoints", "routes", "secret"])
def test_rule_21_sotw_reconnect_is_answered_at_an_equal_version(control, kind):
    resource = {ENDPOINTS: endpoints("a", 1), ROUTES: routes("a", "c"), SECRET: secret("a")}[kind]
    control.publish(snapshot(resource))
    first = FakeEnvoy(control.wire, method=Method.SOTW).request(kind, "a").expect(kind, "a")
    second = FakeEnvoy(control.wire, method=Method.SOTW)
    second.request(kind, "a", version=first.last.version).expect(kind, "a")
    assert second.last.version == first.last.version


def test_rule_21_equal_full_sets_are_not_repeated(control):
    control.publish(snapshot(cluster("a")))
    first = FakeEnvoy(control.wire, method=Method.SOTW).request(CLUSTER).expect(CLUSTER, "a")
    second = FakeEnvoy(control.wire, method=Method.SOTW)
    second.request(CLUSTER, version=first.last.version).expect_nothing()
    control.publish(snapshot(cluster("b")))
    second.expect(CLUSTER, "b")


def test_rule_22_the_good_part_of_a_refused_delta_is_not_sent_again(control):
    control.publish(snapshot(cluster("bad", bad_ring=True), cluster("good")))
    envoy = FakeEnvoy(control.wire).request(CLUSTER).expect(CLUSTER, "bad", "good").nack("bad: ring")
    envoy.expect_nothing()
    control.publish(snapshot(cluster("bad"), cluster("good")))
    envoy.expect(CLUSTER, "bad").ack()
    control.publish(snapshot(cluster("bad")))
    envoy.expect(CLUSTER, removed=["good"]).ack().expect_nothing()


def test_rule_23_a_thousand_rebuilds_have_one_hash():
    """Map fields are where bytes differ from run to run; insertion order must not show."""
    rng = random.Random(23)
    names = [f"key{n}" for n in range(50)]
    hashes, revisions = set(), set()
    for _ in range(1000):
        rng.shuffle(names)
        message = route_pb2.RouteConfiguration(name="r")
        host = message.virtual_hosts.add(name="h", domains=["*"])
        for name in names:
            host.typed_per_filter_config[name].type_url = name
        made = Resource.of(ROUTES, "r", message)
        hashes.add(hashlib.blake2b(made.raw).hexdigest())
        rest = [endpoints(f"e{n}", n + 1) for n in range(5)]
        rng.shuffle(rest)
        revisions.add(snapshot(made, rest).revision)
    assert len(hashes) == 1
    assert len(revisions) == 1


def test_rule_24_no_ttl_is_ever_sent(control):
    """No client of ours announces the feature, so no response may carry a TTL."""
    control.publish(snapshot(shop(), secret("s"), runtime(a=1.0)))
    envoy = FakeEnvoy(control.wire)
    for kind in (CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, RUNTIME):
        envoy.request(kind, "*").take()
        response = discovery_pb2.DeltaDiscoveryResponse.FromString(envoy.last.raw)
        assert response.resources
        assert not any(resource.HasField("ttl") for resource in response.resources)
    control.wire.wait(3600)
    envoy.expect_nothing()


def test_rule_25_grpc_clients_walk_by_explicit_names(control):
    """The conversation of grpcio's `xds:///` client, state of the world."""
    control.publish(snapshot(shop(), shop(name="other")))
    client = FakeEnvoy(control.wire, method=Method.SOTW, agent="gRPC Python")
    client.request(LISTENER, "shop").expect(LISTENER, "shop").ack()
    client.request(ROUTES, "shop").expect(ROUTES, "shop").ack()
    client.request(CLUSTER, "shop").expect(CLUSTER, "shop").ack()
    client.request(ENDPOINTS, "shop").expect(ENDPOINTS, "shop").ack().expect_nothing()
    # Another channel of the process adds its names; both full types are answered with all that is asked for.
    client.request(LISTENER, "shop", "other", nonce="").expect(LISTENER, "other", "shop").ack()
    client.request(CLUSTER, "shop", "none").expect(CLUSTER, "shop").ack().expect_nothing()


def test_rule_26_extensions_are_never_removed(control, local_with):
    both = snapshot(cluster("a"), extension("wasm"))
    control.publish(both)
    envoy = FakeEnvoy(control.wire).request(EXTENSION, "wasm").expect(EXTENSION, "wasm").ack()
    envoy.request(EXTENSION, "none").expect_nothing()
    control.publish(snapshot(cluster("a")))
    envoy.expect_nothing()

    local = local_with(both)
    envoy = local.up(snapshot(cluster("a")))
    envoy.request(EXTENSION, "wasm", "none").expect(EXTENSION, "wasm").ack()
    local.target(snapshot(cluster("a")))
    envoy.expect_nothing()
    assert local.told[-1].snapshot == snapshot(cluster("a"))


def test_the_envelope_is_what_envoy_reads(control):
    """Frames are glued from encoded parts; an independent parse must give the resources back."""
    made = cluster("a" * 300)
    control.publish(snapshot(made))
    envoy = FakeEnvoy(control.wire).request(CLUSTER).expect(CLUSTER, "a" * 300)
    [wrapped] = discovery_pb2.DeltaDiscoveryResponse.FromString(envoy.last.raw).resources
    assert wrapped.version == made.version
    assert cluster_pb2.Cluster.FromString(wrapped.resource.value).name == "a" * 300
