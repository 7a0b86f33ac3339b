"""The control hop: identity, orphans, whole revisions, coalescing, fan-out, buckets and stalls."""

from __future__ import annotations

import pytest

from tests.support.fake_agent import agent
from tests.support.fake_envoy import FakeEnvoy, Wire
from tests.support.xds_resources import cluster, endpoints, shop, snapshot
from xds_agent.protocol.assembly import Assembly, Complete
from xds_agent.protocol.boundary import Method
from xds_agent.protocol.control import (
    Acknowledged,
    Connected,
    ControlCore,
    Disconnected,
    Orphan,
    Refused,
)
from xds_agent.protocol.wire import (
    ABORTED,
    AGENT,
    DEADLINE_EXCEEDED,
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
)
from xds_agent.snapshot.resource import (
    CLUSTER,
    EMPTY,
    ENDPOINTS,
    REVISION,
    TYPES,
)


def test_nothing_is_answered_before_the_first_publish(control):
    """Pain 15: empty endpoints after a deploy of the control plane."""
    clients = [FakeEnvoy(control.wire, method=method).request(CLUSTER) for method in Method]
    clients.append(agent(control.wire))
    control.wire.wait(60)
    for client in clients:
        client.expect_nothing()
    control.publish(snapshot(cluster("a")))
    for client in clients:
        client.expect(CLUSTER, "a")


def test_a_revision_comes_last_and_its_ack_is_the_nodes(control):
    current = snapshot(shop(), number=7)
    control.publish(current)
    client = agent(control.wire)
    kinds = []
    while client.inbox:
        kinds.append(client.take().type_url)
    assert kinds == [t for t in TYPES if current.of_type(t)] + [REVISION]
    assert client.last.resources == {"revision": current.revision}
    state = control.core.nodes()["edge1"]
    assert (state.connected, state.wanted, state.active, state.in_flight) == (
        True, current.revision, "", current.revision,
    )  # fmt: skip
    client.ack()
    assert control.heard(Acknowledged) == [Acknowledged("edge1", current.revision)]
    state = control.core.nodes()["edge1"]
    assert (state.active, state.in_flight, state.pending_since) == (current.revision, "", None)
    client.expect_nothing()


def test_only_what_differs_is_sent(control):
    control.publish(snapshot(shop()))
    client = agent(control.wire, snapshot(shop(port=1), cluster("gone")))
    client.expect(CLUSTER, removed=["gone"]).expect(ENDPOINTS, "shop").expect(REVISION, "revision")
    client.expect_nothing()


def test_trap_3_naming_the_current_revision_is_the_ack(control):
    held = snapshot(shop())
    control.publish(held)
    client = agent(control.wire, held).expect_nothing()
    assert control.heard(Acknowledged) == [Acknowledged("edge1", held.revision)]
    newer = snapshot(shop(port=2))
    control.publish(newer)
    client.expect(ENDPOINTS, "shop").expect(REVISION, "revision")


def test_one_revision_is_in_flight_and_the_newest_follows(control):
    revisions = [snapshot(shop(port=n)) for n in range(1, 5)]
    control.publish(revisions[0])
    client = agent(control.wire)
    while client.inbox:
        client.take()
    for later in revisions[1:]:
        control.publish(later)
    client.expect_nothing().ack()
    client.expect(ENDPOINTS, "shop").expect(REVISION, "revision")
    assert client.last.resources["revision"] == revisions[3].revision
    client.ack().expect_nothing()
    acknowledged = [told.revision for told in control.heard(Acknowledged)]
    assert acknowledged == [revisions[0].revision, revisions[3].revision]


def test_a_blocked_stream_holds_one_frame_and_then_gets_the_newest(control):
    control.publish(snapshot(shop(port=1)))
    client = FakeEnvoy(control.wire).request(ENDPOINTS, "shop").expect(ENDPOINTS, "shop").ack()
    control.wire.stick(client)
    for port in range(2, 50):
        control.publish(snapshot(shop(port=port)))
    client.expect(ENDPOINTS, "shop").expect_nothing()
    control.wire.unstick(client)
    client.expect(ENDPOINTS, "shop").expect_nothing()
    assert client.last.resources["shop"] == endpoints("shop", 49).version


def test_a_refusal_carries_words_type_and_names_and_is_not_repeated(control):
    control.publish(snapshot(shop()))
    assembly = Assembly(EMPTY, "edge1")
    client = FakeEnvoy(control.wire, agent=AGENT)
    for request in assembly.open():
        client.say(request)
    complete = None
    while client.inbox:
        for step in assembly.on_response(client.take().raw):
            if isinstance(step, Complete):
                complete = step
            else:
                client.say(step)
    answer = assembly.refuse(complete, "shop: ring too big", CLUSTER, ("shop",))
    client.say(answer)
    revision = snapshot(shop()).revision
    assert control.heard(Refused) == [Refused("edge1", revision, CLUSTER, ("shop",), "shop: ring too big")]
    control.publish(snapshot(shop()))
    control.wire.wait(100)
    client.expect_nothing()
    assert control.core.nodes()["edge1"].last_error == "shop: ring too big"
    control.publish(snapshot(shop(port=9)))
    client.expect(REVISION, "revision").ack()
    assert control.core.nodes()["edge1"].last_error == ""


def test_a_refused_part_refuses_the_revision(control):
    control.publish(snapshot(shop()))
    client = agent(control.wire).expect(CLUSTER, "shop").nack("cannot read shop")
    [refused] = control.heard(Refused)
    assert (refused.type_url, refused.words) == (CLUSTER, "cannot read shop")
    while client.inbox:
        client.take()
    control.publish(snapshot(shop()))
    client.expect_nothing()


@pytest.mark.parametrize("as_agent", [True, False])
def test_a_name_the_revision_does_not_hold_is_refused(control, as_agent):
    control.publish(snapshot(shop()))
    if as_agent:
        client = agent(control.wire, node="stranger")
    else:
        client = FakeEnvoy(control.wire, node="stranger").request(CLUSTER)
    client.expect_closed(PERMISSION_DENIED)
    assert control.heard(Orphan)[0].node == "stranger"
    assert not control.wire.sends


def test_a_name_that_leaves_the_revision_is_closed(control):
    control.publish(snapshot(shop()), "edge2")
    one, two = agent(control.wire), agent(control.wire, node="edge2")
    control.publish(snapshot(shop()))
    two.expect_closed(PERMISSION_DENIED)
    assert one.closed is None
    assert set(control.core.nodes()) == {"edge1"}
    assert control.heard(Orphan)[0].node == "edge2"


def test_the_certificate_wins_over_the_node_message(control):
    control.wire.do(
        control.core.publish({"edge1": snapshot(cluster("mine")), "edge2": snapshot(cluster("theirs"))})
    )
    client = FakeEnvoy(control.wire, node="edge2", identity="edge1").request(CLUSTER)
    client.expect(CLUSTER, "mine")
    liar = FakeEnvoy(control.wire, node="edge1", identity="nobody").request(CLUSTER)
    liar.expect_closed(PERMISSION_DENIED)
    assert control.heard(Orphan)[0].node == "nobody"


def test_revoked_certificates_end_their_streams_and_come_no_more(control):
    control.publish(snapshot(shop()), "edge2")
    one = agent(control.wire, identity="edge1", serial="01")
    silent = FakeEnvoy(control.wire, identity="edge1", serial="01")
    two = agent(control.wire, node="edge2", identity="edge2", serial="02")
    control.wire.do(control.core.revoke({"01"}))
    one.expect_closed(PERMISSION_DENIED)
    silent.expect_closed(PERMISSION_DENIED)
    assert two.closed is None
    FakeEnvoy(control.wire, identity="edge1", serial="01").expect_closed(PERMISSION_DENIED)
    assert [told.node for told in control.heard(Disconnected)] == ["edge1"]


def test_equal_responses_are_encoded_once_and_sent_as_one(control):
    nodes = [f"edge{n}" for n in range(20)]
    first, second = snapshot(shop(port=1)), snapshot(shop(port=2))
    control.publish(first, *nodes)
    agents = [agent(control.wire, first, node=node) for node in nodes]
    control.wire.sends.clear()
    control.publish(second, *nodes)
    parts = [send for send in control.wire.sends if len(send.streams) > 1]
    assert [len(send.streams) for send in parts] == [20]
    frames = {id(send.data) for send in control.wire.sends}
    assert len(frames) == 2
    for client in agents:
        client.expect(ENDPOINTS, "shop").expect(REVISION, "revision").ack()
    assert len(control.heard(Acknowledged)) == 40


def test_a_storm_of_reconnects_shares_bytes_too(control):
    old, new = snapshot(shop(port=1)), snapshot(shop(port=2))
    nodes = [f"edge{n}" for n in range(20)]
    control.publish(new, *nodes)
    for node in nodes:
        agent(control.wire, old, node=node)
    assert len({id(send.data) for send in control.wire.sends}) == 2


def test_plain_clients_share_bytes_of_one_publish(control):
    nodes = [f"edge{n}" for n in range(10)]
    control.publish(snapshot(shop(port=1)), *nodes)
    clients = [FakeEnvoy(control.wire, node=node).request(ENDPOINTS, "shop") for node in nodes]
    control.wire.sends.clear()
    control.publish(snapshot(shop(port=2)), *nodes)
    assert [len(send.streams) for send in control.wire.sends] == [10]
    for client in clients:
        client.expect(ENDPOINTS, "shop").ack().expect(ENDPOINTS, "shop").ack().expect_nothing()


def test_initial_syncs_are_rationed_and_pushes_are_not():
    told = []
    core = ControlCore(told.append, initial_syncs_per_s=10, initial_burst=3)
    wire = Wire(core)
    nodes = [f"edge{n}" for n in range(30)]
    held, new = snapshot(shop(port=1)), snapshot(shop(port=2))
    wire.do(core.publish(dict.fromkeys(nodes, held)))
    settled = agent(wire, held, node="edge0")
    newcomers = [agent(wire, node=node) for node in nodes[1:]]
    assert sum(bool(client.inbox) for client in newcomers) == 3
    wire.do(core.publish(dict.fromkeys(nodes, new)))
    # It had everything, so it took no token at the start; it takes one now, when there is something to send.
    assert sum(bool(client.inbox) for client in newcomers) == 3
    wire.wait(1.05)
    assert 10 <= sum(bool(client.inbox) for client in newcomers) <= 14
    wire.wait(5)
    assert all(client.inbox for client in newcomers)
    while settled.inbox:
        settled.take()
    settled.ack()
    wire.do(core.publish(dict.fromkeys(nodes, held)))
    settled.expect(ENDPOINTS, "shop")


def test_a_stalled_write_closes_that_stream_only(control):
    control.publish(snapshot(shop(port=1)), "edge2")
    stuck, fine = agent(control.wire), agent(control.wire, node="edge2")
    for client in (stuck, fine):
        while client.inbox:
            client.take()
        client.ack()
    control.wire.stick(stuck)
    control.publish(snapshot(shop(port=2)), "edge2")
    fine.expect(ENDPOINTS, "shop").expect(REVISION, "revision").ack()
    control.wire.wait(25)
    assert stuck.closed is None
    control.wire.wait(30)
    stuck.expect_closed(DEADLINE_EXCEEDED)
    assert fine.closed is None
    assert not control.core.nodes()["edge1"].connected


def test_a_newer_stream_of_a_node_replaces_the_older(control):
    control.publish(snapshot(shop()))
    old = agent(control.wire)
    new = agent(control.wire)
    old.expect_closed(ABORTED)
    assert new.closed is None
    assert control.core.nodes()["edge1"].connected
    assert len(control.heard(Connected)) == 2
    control.wire.hang_up(new)
    assert not control.core.nodes()["edge1"].connected


def test_pending_since_is_when_it_was_published(control):
    control.wire.now = 5000.0
    control.publish(snapshot(shop()))
    control.wire.wait(0.0)
    state = control.core.nodes()["edge1"]
    assert state.pending_since == 5000.0
    control.wire.wait(10)
    control.publish(snapshot(shop(port=2)))
    control.wire.wait(0.0)
    assert control.core.nodes()["edge1"].pending_since == 5000.0


def test_nonsense_ends_the_stream(control):
    control.publish(snapshot(shop()))
    for method in Method:
        FakeEnvoy(control.wire, method=method).say(b"\xff\xff\xff").expect_closed(INVALID_ARGUMENT)
    client = agent(control.wire)
    client.say(b"\xff\xff\xff").expect_closed(INVALID_ARGUMENT)
