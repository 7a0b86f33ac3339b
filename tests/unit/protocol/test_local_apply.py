"""How the agent takes its Envoy to a new set, and back when Envoy refuses."""

from __future__ import annotations

from tests.support.xds_resources import cluster, endpoints, listener, routes, shop, snapshot
from xds_agent.protocol.local import Active, PollRejected, Refused
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES


def test_a_first_set_is_applied_in_phases(local):
    target = snapshot(shop())
    envoy = local.up()
    local.target(target)

    envoy.expect(CLUSTER, "shop")
    clusters = envoy.last
    envoy.expect(ENDPOINTS, "shop")
    envoy.expect_nothing()
    envoy.request(ENDPOINTS, "shop").expect_nothing()
    envoy.ack().ack(clusters)
    envoy.expect(LISTENER, "shop")
    listeners = envoy.last
    envoy.request(ROUTES, "shop").expect(ROUTES, "shop").ack()
    assert not local.heard(Active)
    envoy.ack(listeners)
    assert local.heard(Active) == [Active(target)]
    assert local.core.held is target
    envoy.expect_nothing()


def test_a_swap_makes_before_it_breaks(local_with):
    old = snapshot(cluster("a"), endpoints("a", 1), routes("r", "a"), listener("l", "r"))
    new = snapshot(cluster("b"), endpoints("b", 2), routes("r", "b"), listener("l", "r"))
    local = local_with(old)
    envoy = local.up(old)
    local.target(new)
    envoy.expect(CLUSTER, "b")
    clusters = envoy.last
    envoy.expect(ENDPOINTS, "b").request(ENDPOINTS, "b").expect_nothing()
    envoy.ack().ack(clusters).expect(ROUTES, "r").expect_nothing()
    assert not local.heard(Active)
    envoy.ack().expect_nothing()
    assert local.heard(Active) == [Active(new)]
    local.wire.wait(3)
    envoy.expect(CLUSTER, removed=["a"]).expect_nothing()
    envoy.ack().request(ENDPOINTS, unsubscribe=["a"]).expect_nothing()


def test_a_refused_cluster_is_withdrawn_and_named(local_with):
    old = snapshot(shop())
    new = snapshot(shop(), cluster("bad", bad_ring=True), endpoints("bad", 1))
    local = local_with(old)
    envoy = local.up(old)
    local.target(new)
    envoy.expect(CLUSTER, "bad")
    bad = envoy.last
    envoy.expect(ENDPOINTS, "bad")
    envoy.nack("Error adding/updating cluster(s) bad: ring", bad)
    assert not local.heard(Refused)
    envoy.expect(CLUSTER, removed=["bad"]).ack()
    [refused] = local.heard(Refused)
    assert (refused.type_url, refused.names) == (CLUSTER, ("bad",))
    assert "ring" in refused.words
    assert local.core.held is old
    assert local.heard(PollRejected)
