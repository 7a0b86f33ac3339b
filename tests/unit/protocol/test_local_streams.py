"""Streams of the agent's hop: boot, readiness, reconnects, hot restart, stalls (traps 2 to 5)."""

from __future__ import annotations

import pytest

from tests.support.fake_envoy import FakeEnvoy
from tests.support.xds_resources import (
    cluster,
    endpoints,
    listener,
    routes,
    runtime,
    secret,
    shop,
    snapshot,
)
from xds_agent.protocol.boundary import Method
from xds_agent.protocol.local import (
    Active,
    Complained,
    EnvoyConnected,
    EnvoyGone,
    LocalCore,
    Refused,
)
from xds_agent.protocol.wire import DEADLINE_EXCEEDED, INVALID_ARGUMENT, UNAVAILABLE, UNIMPLEMENTED
from xds_agent.snapshot.resource import (
    CLUSTER,
    EMPTY,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    RUNTIME,
    SECRET,
    Snapshot,
)


def versions(held: Snapshot, kind: str) -> dict[str, str]:
    return {name: resource.version for name, resource in held.of_type(kind).items()}


def come_back(local, has: Snapshot) -> FakeEnvoy:
    """An Envoy that reconnects with `has`, its first requests back to back."""
    envoy = FakeEnvoy(local.wire)
    envoy.request(CLUSTER, versions=versions(has, CLUSTER))
    for kind in (ENDPOINTS, LISTENER, ROUTES, SECRET):
        held = versions(has, kind)
        if held or kind == LISTENER:
            envoy.request(kind, *(sorted(held) if kind != LISTENER else ()), versions=held)
    return envoy


def test_boot_serves_the_held_set_at_once(local_with):
    held = snapshot(shop(), secret("s"), runtime(a=1))
    local = local_with(held)
    envoy = FakeEnvoy(local.wire)
    envoy.request(RUNTIME, "runtime").expect(RUNTIME, "runtime").ack()
    local.wire.hang_up(envoy)
    local.up(held).expect_nothing()
    assert not local.heard(Active)


def test_a_big_subscription_in_pieces_is_answered_in_pieces(local_with):
    many = [item for n in range(40) for item in (cluster(f"c{n}"), endpoints(f"c{n}", n + 1))]
    local = local_with(snapshot(many))
    envoy = FakeEnvoy(local.wire).request(CLUSTER)
    assert len(envoy.take().resources) == 40
    for n in range(40):
        envoy.request(ENDPOINTS, f"c{n}").expect(ENDPOINTS, f"c{n}").ack()
    envoy.expect_nothing()
    assert local.core.resources_sent == 80


def test_trap_2_nothing_new_is_applied_before_envoy_is_live(local):
    envoy = FakeEnvoy(local.wire)
    local.target(snapshot(cluster("a"), endpoints("a", 1)))
    envoy.request(CLUSTER).expect(CLUSTER).ack().request(LISTENER).expect(LISTENER).ack()
    local.wire.do(local.core.rejected(0))
    local.wire.do(local.core.ready(False))
    envoy.expect_nothing()
    local.wire.do(local.core.ready(True))
    envoy.expect(CLUSTER, "a")
    assert not local.heard(Active)


def test_trap_2_live_counts_for_one_stream_only(local):
    envoy = local.up()
    assert local.core.live
    local.wire.hang_up(envoy)
    assert not local.core.live
    envoy = FakeEnvoy(local.wire)
    envoy.request(CLUSTER).expect(CLUSTER).ack()
    local.target(snapshot(cluster("a"), endpoints("a", 1)))
    envoy.expect_nothing()
    assert [told.stream for told in local.heard(EnvoyConnected)] == [1, 2]
    assert len(local.heard(EnvoyGone)) == 1


def test_trap_4_an_equal_envoy_is_sent_nothing_on_reconnect(local_with):
    held = snapshot(shop(), secret("s"))
    local = local_with(held)
    envoy = come_back(local, held)
    local.wire.wait(1)
    envoy.expect_nothing()
    local.live(envoy)
    target = snapshot(shop(port=7), secret("s"))
    local.target(target)
    envoy.expect(ENDPOINTS, "shop").ack()
    assert local.heard(Active) == [Active(target)]
    assert local.core.resources_sent == 1


def test_trap_4_a_reconnect_is_gathered_then_planned(local_with):
    """Envoy holds half of a revision that was never acknowledged: a new cluster in use by changed routes."""
    held = snapshot(shop(), cluster("lost"), endpoints("lost", 1))
    has = snapshot(
        cluster("shop"), endpoints("shop", 8080), cluster("half"), endpoints("half", 1),
        routes("shop", "half"), listener("shop", "shop"),
    )  # fmt: skip
    local = local_with(held)
    envoy = come_back(local, has).expect_nothing()
    local.wire.wait(0.1)
    envoy.expect(CLUSTER, "lost").expect(ENDPOINTS, "lost").expect_nothing()
    envoy.request(ENDPOINTS, "lost").ack()
    envoy.request(CLUSTER, nonce="1").expect(ROUTES, "shop").expect_nothing()
    envoy.ack().expect_nothing()
    local.wire.wait(3)
    envoy.expect(CLUSTER, removed=["half"]).ack().expect_nothing()
    target = snapshot(shop(), cluster("lost"), endpoints("lost", 2))
    local.live(envoy)
    local.target(target)
    envoy.expect(ENDPOINTS, "lost").ack()
    assert local.heard(Active) == [Active(target)]


def test_trap_4_a_new_target_waits_for_the_resync(local_with):
    held = snapshot(shop())
    local = local_with(held)
    local.target(snapshot(shop(port=1)))
    envoy = come_back(local, snapshot(shop(timeout_ms=77)))
    local.live(envoy)
    envoy.expect_nothing()
    local.wire.wait(0.1)
    envoy.expect(CLUSTER, "shop")
    assert envoy.last.resources == versions(held, CLUSTER)
    clusters = envoy.last
    envoy.expect(ENDPOINTS, "shop")
    assert envoy.last.resources == versions(held, ENDPOINTS)
    envoy.ack().expect_nothing().ack(clusters)
    envoy.expect(ENDPOINTS, "shop")
    assert envoy.last.resources != versions(held, ENDPOINTS)


def test_trap_4_an_envoy_in_the_middle_of_warming_gets_what_it_asks_for(local_with):
    held = snapshot(shop(), secret("s"))
    local = local_with(held)
    envoy = FakeEnvoy(local.wire)
    envoy.request(CLUSTER, versions=versions(held, CLUSTER)).request(ENDPOINTS, "shop", "none")
    envoy.request(SECRET, "s").expect_nothing()
    local.wire.wait(2.1)
    envoy.expect(SECRET, "s").expect(ENDPOINTS, "shop", removed=["none"]).expect_nothing()


def test_trap_4_an_envoy_that_initialises_is_answered_after_the_resync_though_there_is_nothing(local_with):
    local = local_with(snapshot(cluster("a"), endpoints("a", 1)))
    has = snapshot(cluster("a"), endpoints("a", 1))
    envoy = come_back(local, has).expect_nothing()
    local.wire.wait(0.1)
    envoy.expect(LISTENER).ack().expect_nothing()


def test_a_resync_that_is_refused_starts_over_once_and_does_not_stop_what_follows(local_with):
    held = snapshot(shop())
    local = local_with(held)
    for attempt in range(2):
        envoy = come_back(local, snapshot(shop(timeout_ms=77)))
        local.wire.wait(0.1)
        envoy.expect(CLUSTER, "shop").nack("no")
        assert local.heard(Complained)[attempt].words == "no"
        if not attempt:
            envoy.expect_closed(UNAVAILABLE)
    envoy.expect(ENDPOINTS, "shop").ack()
    local.live(envoy)
    target = snapshot(shop(timeout_ms=5))
    local.target(target)
    envoy.expect(CLUSTER, "shop")
    clusters = envoy.last
    envoy.expect(ENDPOINTS, "shop").ack().ack(clusters)
    assert local.heard(Active) == [Active(target)]


def test_a_stream_that_breaks_under_an_apply_leaves_the_target_waiting(local_with):
    held, target = snapshot(shop()), snapshot(shop(port=1))
    local = local_with(held)
    envoy = local.up(held)
    local.target(target)
    envoy.expect(ENDPOINTS, "shop")
    local.wire.hang_up(envoy)
    assert local.core.applying is target
    envoy = come_back(local, target)
    local.live(envoy)
    local.wire.wait(0.1)
    # First back to the set that is held, then on.
    envoy.expect(ENDPOINTS, "shop").ack().expect(ENDPOINTS, "shop").ack()
    assert local.heard(Active) == [Active(target)]


def test_a_target_under_which_envoy_dies_again_and_again_is_refused(local):
    target = snapshot(cluster("poison"), endpoints("poison", 1))
    envoy = local.up()
    local.target(target)
    for _ in range(3):
        assert not local.heard(Refused)
        envoy.expect(CLUSTER, "poison")
        local.wire.hang_up(envoy, "killed")
        envoy = local.up()
    envoy.expect_nothing()
    [refused] = local.heard(Refused)
    assert "Envoy went away 3 times" in refused.words


def test_a_stream_that_breaks_under_a_revert_ends_it_with_the_reason(local_with):
    held = snapshot(shop())
    local = local_with(held)
    envoy = local.up(held)
    local.target(snapshot(shop(timeout_ms=5)))
    envoy.expect(CLUSTER, "shop").nack("because")
    local.wire.hang_up(envoy, "reset")
    [refused] = local.heard(Refused)
    assert "because" in refused.words
    assert "reset" in refused.words
    assert local.core.applying is None


def test_a_revert_that_stalls_starts_over_on_a_new_stream_once(local_with):
    held = snapshot(shop())
    local = local_with(held)
    envoy = local.up(held)
    local.target(snapshot(shop(timeout_ms=5)))
    envoy.expect(CLUSTER, "shop").nack("because")
    local.wire.wait(25)
    envoy.expect_closed(UNAVAILABLE)
    [refused] = local.heard(Refused)
    assert "taking Envoy back failed too" in refused.words
    envoy = come_back(local, snapshot(shop(timeout_ms=5)))
    local.wire.wait(0.1)
    envoy.expect(CLUSTER, "shop")
    assert envoy.last.resources == versions(held, CLUSTER)


def test_a_hot_restart_moves_to_the_new_epoch_and_back_if_it_dies(local_with):
    held, target = snapshot(shop()), snapshot(shop(port=1))
    local = local_with(held)
    parent = local.up(held)
    child = local.up(held)
    local.target(target)
    child.expect(ENDPOINTS, "shop")
    parent.expect_nothing()
    # The parent is served while it drains: it may ask.
    parent.request(ENDPOINTS, "shop").expect(ENDPOINTS, "shop").ack()
    local.wire.hang_up(child, "crashed")
    assert local.core.connected
    local.wire.wait(0.1)
    while parent.inbox:
        parent.take()
        parent.ack()
    local.live(parent)
    while parent.inbox:
        parent.take()
        parent.ack()
    assert local.heard(Active) == [Active(target)]
    parent.expect_nothing()


def test_only_the_newest_of_waiting_targets_is_applied(local_with):
    held = snapshot(shop())
    local = local_with(held)
    envoy = local.up(held)
    first, second, third = (snapshot(shop(port=n)) for n in (1, 2, 3))
    local.target(first)
    local.target(second)
    local.target(third)
    envoy.expect(ENDPOINTS, "shop").ack()
    assert local.heard(Active) == [Active(first)]
    envoy.expect(ENDPOINTS, "shop").ack()
    assert local.heard(Active) == [Active(first), Active(third)]
    envoy.expect_nothing()


def test_names_that_differ_from_an_older_held_set_are_not_believed(local_with):
    """A target that came while another was applied names what differs from the set before both."""
    held, first = snapshot(shop()), snapshot(shop(timeout_ms=5))
    second = snapshot(shop(port=9))
    local = local_with(held)
    envoy = local.up(held)
    local.wire.do(local.core.set_target(first, {CLUSTER: ["shop"]}))
    local.wire.do(local.core.set_target(second, {ENDPOINTS: ["shop"]}))
    envoy.expect(CLUSTER, "shop")
    clusters = envoy.last
    envoy.expect(ENDPOINTS, "shop").ack().ack(clusters)
    envoy.expect(CLUSTER, "shop")
    assert envoy.last.resources == versions(held, CLUSTER)
    clusters = envoy.last
    envoy.expect(ENDPOINTS, "shop").ack().ack(clusters)
    assert local.heard(Active) == [Active(first), Active(second)]


def test_a_target_equal_to_the_held_set_is_active_at_once(local_with):
    held = snapshot(shop())
    local = local_with(held)
    envoy = local.up(held)
    local.target(snapshot(shop(), number=9))
    envoy.expect_nothing()
    assert local.heard(Active)[0].snapshot.number == 9


def test_a_nack_of_the_held_set_is_told(local_with):
    local = local_with(snapshot(shop()))
    envoy = FakeEnvoy(local.wire).request(CLUSTER).expect(CLUSTER, "shop").nack("shop: no").expect_nothing()
    assert local.heard(Complained) == [Complained(CLUSTER, ("shop",), "shop: no")]
    envoy.request(LISTENER).expect(LISTENER, "shop")


def test_a_stalled_write_ends_that_stream_only(local_with):
    held = snapshot(shop())
    local = local_with(held)
    parent = local.up(held)
    child = local.up(held)
    local.wire.stick(child)
    child.request(ENDPOINTS, "shop").expect(ENDPOINTS, "shop").request(ENDPOINTS, "shop").expect_nothing()
    local.wire.wait(61)
    child.expect_closed(DEADLINE_EXCEEDED)
    assert parent.closed is None


def test_state_of_the_world_and_nonsense_are_refused(local):
    FakeEnvoy(local.wire, method=Method.SOTW).expect_closed(UNIMPLEMENTED)
    FakeEnvoy(local.wire).say(b"\xff\xff\xff").expect_closed(INVALID_ARGUMENT)


def test_a_type_that_nobody_serves_is_answered_as_missing(local):
    envoy = local.up()
    kind = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
    envoy.request(kind, "x")
    assert envoy.take().removed == ("x",)


@pytest.mark.parametrize("stall_s", [1.0, 20.0])
def test_the_patience_is_configurable(stall_s):
    from tests.support.fake_envoy import Wire

    told = []
    core = LocalCore(EMPTY, told.append, stall_s=stall_s)
    wire = Wire(core)
    envoy = FakeEnvoy(wire).request(CLUSTER).expect(CLUSTER).ack().request(LISTENER).expect(LISTENER).ack()
    wire.do(core.rejected(0))
    wire.do(core.ready(True))
    wire.do(core.set_target(snapshot(cluster("a"), endpoints("a", 1))))
    envoy.expect(CLUSTER, "a").expect(ENDPOINTS, "a")
    wire.wait(stall_s * 0.9)
    assert envoy.expect_nothing()
    wire.wait(stall_s * 0.3)
    envoy.expect(CLUSTER, removed=["a"])
