"""Rules about order on the agent's hop to its Envoy (knowledge: 13 to 19), and traps 1, 5, 6, 9."""

from __future__ import annotations

import pytest

from tests.support.fake_envoy import FakeEnvoy
from tests.support.xds_resources import (
    cluster,
    endpoints,
    listener,
    routes,
    secret,
    shop,
    snapshot,
    static_cluster,
)
from xds_agent.protocol.boundary import Method
from xds_agent.protocol.local import Active, PollRejected, Refused
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET


def test_rule_13_a_changed_cluster_is_followed_by_its_unchanged_endpoints(local_with):
    old, new = snapshot(shop()), snapshot(shop(timeout_ms=2000))
    local = local_with(old)
    envoy = local.up(old)
    local.target(new)
    envoy.expect(CLUSTER, "shop")
    clusters = envoy.last
    envoy.expect(ENDPOINTS, "shop").ack().expect_nothing()
    envoy.ack(clusters).expect_nothing()
    assert local.heard(Active) == [Active(new)]


@pytest.mark.parametrize("method", Method, ids=lambda method: method.name.lower())
def test_rule_13_for_plain_clients(control, method):
    control.publish(snapshot(shop()))
    envoy = FakeEnvoy(control.wire, method=method)
    envoy.request(CLUSTER).expect(CLUSTER, "shop").ack()
    envoy.request(ENDPOINTS, "shop").expect(ENDPOINTS, "shop").ack()
    control.publish(snapshot(shop(timeout_ms=2000)))
    envoy.expect(CLUSTER, "shop").expect(ENDPOINTS, "shop").expect_nothing()


def test_rule_13_a_cluster_without_eds_has_none(local):
    envoy = local.up()
    local.target(snapshot(static_cluster("fixed")))
    envoy.expect(CLUSTER, "fixed").expect_nothing().ack()
    assert local.heard(Active)


def test_rule_14_endpoints_do_not_wait_for_the_cluster_ack(local_with):
    """An Envoy that withholds the CDS ACK until the cluster is warm, as it does once it is initialised."""
    old = snapshot(shop())
    new = snapshot(shop(), cluster("b"), endpoints("b", 1))
    local = local_with(old)
    envoy = local.up(old)
    local.target(new)
    envoy.expect(CLUSTER, "b")
    clusters = envoy.last
    envoy.request(ENDPOINTS, "b")
    envoy.expect(ENDPOINTS, "b").ack()
    assert not local.heard(Active)
    envoy.ack(clusters)
    assert local.heard(Active)


def test_rule_15_listeners_and_routes_wait_for_clusters_and_endpoints(local_with):
    old = snapshot(shop())
    new = snapshot(
        cluster("shop"), endpoints("shop", 8080), cluster("b"), endpoints("b", 1), routes("shop", "b"),
        listener("shop", "shop", stat="new"),
    )  # fmt: skip
    local = local_with(old)
    envoy = local.up(old)
    local.target(new)
    envoy.expect(CLUSTER, "b")
    clusters = envoy.last
    envoy.expect(ENDPOINTS, "b").expect_nothing()
    endpoint_sets = envoy.last
    envoy.request(ENDPOINTS, "b").expect_nothing().ack(clusters).expect_nothing()
    envoy.ack(endpoint_sets).expect(LISTENER, "shop").expect_nothing()
    envoy.ack().expect(ROUTES, "shop").expect_nothing()
    envoy.ack()
    assert local.heard(Active) == [Active(new)]


def test_rule_16_clusters_go_only_after_the_routes_are_acknowledged(local_with):
    old = snapshot(shop(), cluster("old"), endpoints("old", 1))
    new = snapshot(cluster("shop"), endpoints("shop", 8080), routes("shop", "b"), listener("shop", "shop"))
    local = local_with(old)
    envoy = local.up(old)
    local.target(new)
    envoy.expect(ROUTES, "shop").expect_nothing()
    envoy.ack().expect_nothing()
    assert local.heard(Active) == [Active(new)]
    local.wire.wait(3)
    envoy.expect(CLUSTER, removed=["old"]).ack().expect_nothing()


def test_rule_16_clusters_linger_for_the_requests_that_are_on_their_way(local_with):
    """A request whose route is chosen, but not yet its cluster, is answered 503 without it."""
    sets = [snapshot(*shop(), cluster(f"c{n}"), endpoints(f"c{n}", 1)) for n in range(4)]
    local = local_with(sets[0])
    envoy = local.up(sets[0])
    for number in (1, 2):
        local.target(sets[number])
        envoy.expect(CLUSTER, f"c{number}")
        clusters = envoy.last
        envoy.expect(ENDPOINTS, f"c{number}").request(ENDPOINTS, f"c{number}").ack().ack(clusters)
        local.wire.wait(0.9)
        envoy.expect_nothing()
    # One more change, told by its names alone, takes one of them back; the other's time is up first.
    local.wire.do(local.core.set_target(sets[1], {CLUSTER: ["c1", "c2"], ENDPOINTS: ["c1", "c2"]}))
    envoy.expect_nothing()
    assert local.heard(Active)[-1] == Active(sets[1])
    local.wire.wait(1)
    envoy.expect(CLUSTER, removed=["c0"]).ack()
    local.wire.wait(1)
    envoy.expect(CLUSTER, removed=["c2"]).ack()
    local.wire.wait(10)
    envoy.expect_nothing()


def test_rule_16_where_no_request_is_on_its_way_clusters_go_before_the_set_is_active(local_with):
    old, new = snapshot(shop(), cluster("old"), endpoints("old", 1)), snapshot(shop())
    local = local_with(old, linger_s=0)
    envoy = local.up(old)
    local.target(new)
    envoy.expect(CLUSTER, removed=["old"])
    assert not local.heard(Active)
    envoy.ack().expect_nothing()
    assert local.heard(Active) == [Active(new)]


def test_rule_16_what_lingers_ends_though_changes_never_pause(local_with):
    local = local_with(snapshot(shop(), cluster("old"), endpoints("old", 1)))
    envoy = local.up(local.core.held)
    gone_after = []
    for number in range(1, 20):
        local.target(snapshot(shop(port=number)))
        while envoy.inbox:
            gone_after += [number] * (envoy.take().removed == ("old",))
            envoy.ack()
        local.wire.wait(0.3)
    [change] = gone_after
    assert 4 <= change <= 9


def test_rule_17_after_a_cluster_nack_new_ones_are_removed_and_live_ones_restored_with_endpoints(local_with):
    old = snapshot(shop())
    new = snapshot(shop(timeout_ms=5000), cluster("bad", bad_ring=True), endpoints("bad", 1))
    local = local_with(old)
    envoy = local.up(old)
    local.target(new)
    envoy.expect(CLUSTER, "bad", "shop")
    pushed = envoy.last
    envoy.expect(ENDPOINTS, "bad", "shop")
    envoy.nack("Error adding/updating cluster(s) bad: minimum_ring_size", pushed)
    envoy.expect(CLUSTER, "shop", removed=["bad"])
    assert envoy.last.resources["shop"] == old.of_type(CLUSTER)["shop"].version
    clean_up = envoy.last
    envoy.expect(ENDPOINTS, "shop").expect_nothing()
    assert not local.heard(Refused)
    envoy.ack().ack(clean_up).expect_nothing()
    [refused] = local.heard(Refused)
    assert (refused.snapshot, refused.type_url, refused.names) == (new, CLUSTER, ("bad",))
    # And then a good update goes through.
    good = snapshot(shop(timeout_ms=7000))
    local.wire.do(local.core.rejected(1))
    local.target(good)
    envoy.expect(CLUSTER, "shop")
    clusters = envoy.last
    envoy.expect(ENDPOINTS, "shop").ack().ack(clusters)
    assert local.heard(Active) == [Active(good)]


def test_rule_17_routes_and_listeners_come_back_before_clusters(local_with):
    old = snapshot(shop())
    new = snapshot(
        cluster("shop", timeout_ms=9), endpoints("shop", 8080), cluster("b"), endpoints("b", 1),
        routes("shop", "b"), listener("shop", "shop", stat="new"),
    )  # fmt: skip
    local = local_with(old)
    envoy = local.up(old)
    local.target(new)
    envoy.expect(CLUSTER, "b", "shop")
    clusters = envoy.last
    envoy.expect(ENDPOINTS, "b", "shop").request(ENDPOINTS, "b").ack().ack(clusters)
    envoy.expect(LISTENER, "shop").ack().expect(ROUTES, "shop").nack("route: unknown cluster 'b'")
    envoy.expect(LISTENER, "shop").ack().expect(ROUTES, "shop").expect_nothing().ack()
    envoy.expect(CLUSTER, "shop")
    clean_up = envoy.last
    envoy.expect(ENDPOINTS, "shop").ack().ack(clean_up).expect_nothing()
    [refused] = local.heard(Refused)
    assert (refused.type_url, refused.names) == (ROUTES, ("shop",))
    # All clusters were acknowledged, so none wedges; requests may be on their way to the new one.
    local.wire.wait(3)
    envoy.expect(CLUSTER, removed=["b"])


def test_rule_18_ack_nack_and_stalled_are_three_states(local_with):
    old = snapshot(shop())
    new = snapshot(shop(), cluster("slow"), endpoints("slow", 1))
    local = local_with(old)
    envoy = local.up(old)
    local.target(new)
    envoy.expect(CLUSTER, "slow").request(ENDPOINTS, "slow").expect(ENDPOINTS, "slow").ack()
    local.wire.wait(5)
    envoy.expect_nothing()
    assert not local.heard(Refused)
    local.wire.wait(8)
    envoy.expect(CLUSTER, removed=["slow"]).ack()
    [refused] = local.heard(Refused)
    assert (refused.type_url, refused.names) == (CLUSTER, ("slow",))
    assert "did not acknowledge within 10 s" in refused.words
    assert local.core.held is old


def test_rule_18_progress_restarts_the_stall_timer(local):
    made = [item for n in range(3) for item in (cluster(f"c{n}"), endpoints(f"c{n}", 1))]
    envoy = local.up()
    local.target(snapshot(made))
    envoy.take()
    clusters = envoy.last
    envoy.request(ENDPOINTS, "c0", "c1", "c2").take()
    local.wire.wait(9)
    envoy.ack()
    local.wire.wait(9)
    assert not local.heard(Refused)
    envoy.ack(clusters)
    assert local.heard(Active)


def test_rule_19_secrets_go_first_and_active_waits_for_them(local):
    """A TLS listener is acknowledged with its secret missing and its port closed: that is not active."""
    target = snapshot(
        cluster("shop", secret="ca"), endpoints("shop", 1), routes("r", "shop"),
        listener("l", "r", secret="cert"), secret("cert"), secret("ca"),
    )  # fmt: skip
    envoy = local.up()
    local.target(target)
    envoy.expect(CLUSTER, "shop")
    clusters = envoy.last
    envoy.expect(ENDPOINTS, "shop")
    sets = envoy.last
    envoy.request(ENDPOINTS, "shop").request(SECRET, "ca").expect(SECRET, "ca").ack().ack(sets).ack(clusters)
    envoy.expect(LISTENER, "l").ack()
    envoy.request(ROUTES, "r").expect(ROUTES, "r").ack()
    assert not local.heard(Active)
    envoy.request(SECRET, "cert").expect(SECRET, "cert")
    assert not local.heard(Active)
    envoy.ack().expect_nothing()
    assert local.heard(Active) == [Active(target)]


def test_rule_19_a_rotated_secret_is_sent_before_all_else_and_never_removed(local_with):
    old = snapshot(shop(), secret("cert", "old"), secret("spare"))
    new = snapshot(shop(timeout_ms=5), secret("cert", "new"))
    local = local_with(old)
    envoy = local.up(old)
    local.target(new)
    envoy.expect(SECRET, "cert").ack()
    envoy.expect(CLUSTER, "shop")
    clusters = envoy.last
    envoy.expect(ENDPOINTS, "shop").ack().ack(clusters).expect_nothing()
    assert local.heard(Active) == [Active(new)]


def test_trap_1_a_withheld_nack_shows_in_envoys_own_counter(local_with):
    old = snapshot(shop())
    new = snapshot(
        shop(), cluster("bad", bad_ring=True), endpoints("bad", 1), cluster("ok"), endpoints("ok", 1)
    )
    local = local_with(old)
    envoy = local.up(old)
    local.target(new)
    envoy.expect(CLUSTER, "bad", "ok")
    pushed = envoy.last
    envoy.expect(ENDPOINTS, "bad", "ok")
    assert not local.heard(PollRejected)
    local.wire.wait(0.1)
    assert local.heard(PollRejected)
    local.wire.do(local.core.rejected(0))
    envoy.expect_nothing()
    local.wire.do(local.core.rejected(1))
    envoy.expect(CLUSTER, removed=["bad", "ok"])
    clean_up = envoy.last
    # The clean-up releases the NACK, with the old nonce: only the late reason.
    envoy.nack("Error adding/updating cluster(s) bad: minimum_ring_size", pushed)
    assert not local.heard(Refused)
    envoy.ack(clean_up)
    [refused] = local.heard(Refused)
    assert refused.names == ("bad",)
    assert "minimum_ring_size" in refused.words
    # The next target is not judged by the old count.
    polls = len(local.heard(PollRejected))
    local.target(snapshot(shop(timeout_ms=3)))
    envoy.expect_nothing()
    assert polls
    local.wire.do(local.core.rejected(1))
    envoy.expect(CLUSTER, "shop")
    local.wire.wait(0.1)
    local.wire.do(local.core.rejected(1))
    assert len(local.heard(Refused)) == 1


def test_trap_1_the_fence_names_a_cluster_that_was_never_asked_about(local_with):
    old = snapshot(shop())
    new = snapshot(
        shop(), cluster("bad", bad_ring=True), endpoints("bad", 1), cluster("ok"), endpoints("ok", 1)
    )
    local = local_with(old)
    envoy = local.up(old)
    local.target(new)
    envoy.expect(CLUSTER, "bad", "ok").expect(ENDPOINTS, "bad", "ok").request(ENDPOINTS, "ok").ack()
    envoy.expect(CLUSTER, removed=["bad", "ok"]).ack()
    assert local.heard(Refused)[0].names == ("bad",)


def test_trap_1_the_fence_spares_what_was_asked_for_together_with_the_ack(local_with):
    old = snapshot(shop())
    new = snapshot(shop(), cluster("ok"), endpoints("ok", 1))
    local = local_with(old)
    envoy = local.up(old)
    local.target(new)
    envoy.expect(CLUSTER, "ok")
    clusters = envoy.last
    envoy.expect(ENDPOINTS, "ok").request(ENDPOINTS, "ok", nonce=envoy.last.nonce).expect_nothing()
    envoy.ack(clusters)
    assert local.heard(Active) == [Active(new)]


def test_trap_1_an_admin_that_does_not_answer_delays_nothing_for_long(local_with):
    old, new = snapshot(shop()), snapshot(shop(port=1))
    local = local_with(old)
    envoy = FakeEnvoy(local.wire)
    envoy.request(CLUSTER).expect(CLUSTER, "shop").ack()
    envoy.request(ENDPOINTS, "shop").expect(ENDPOINTS, "shop").ack()
    envoy.request(LISTENER).expect(LISTENER, "shop").ack()
    local.wire.do(local.core.ready(True))
    local.target(new)
    envoy.expect_nothing()
    local.wire.wait(3)
    envoy.expect(ENDPOINTS, "shop").ack()
    assert local.heard(Active) == [Active(new)]


def test_trap_6_nothing_else_follows_until_the_bad_part_is_withdrawn(local_with):
    old = snapshot(shop())
    bad = snapshot(shop(), cluster("bad", bad_ring=True), endpoints("bad", 1))
    next_ = snapshot(shop(port=99))
    local = local_with(old)
    envoy = local.up(old)
    local.target(bad)
    envoy.expect(CLUSTER, "bad")
    pushed = envoy.last
    envoy.expect(ENDPOINTS, "bad")
    local.target(next_)
    envoy.expect_nothing().nack("bad", pushed).expect(CLUSTER, removed=["bad"]).expect_nothing()
    envoy.ack()
    assert [type(told) for told in local.told[-2:]] == [Refused, PollRejected]
    local.wire.do(local.core.rejected(1))
    envoy.expect(ENDPOINTS, "shop").ack()
    assert local.heard(Active) == [Active(next_)]


def test_trap_9_during_initialisation_only_subscriptions_are_answered(local_with):
    local = local_with(snapshot(shop()))
    envoy = FakeEnvoy(local.wire).request(CLUSTER).expect(CLUSTER, "shop").expect_nothing()
    envoy.request(ENDPOINTS, "shop").expect(ENDPOINTS, "shop").expect_nothing()


def test_trap_9_what_was_sent_ahead_is_not_sent_twice_but_asking_again_is_answered(local):
    envoy = local.up()
    local.target(snapshot(cluster("a"), endpoints("a", 1)))
    envoy.expect(CLUSTER, "a")
    clusters = envoy.last
    envoy.expect(ENDPOINTS, "a").request(ENDPOINTS, "a").expect_nothing().ack().ack(clusters)
    assert local.heard(Active)
    envoy.request(ENDPOINTS, "a").expect(ENDPOINTS, "a")
