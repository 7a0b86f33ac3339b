"""The control hop: a small change comes within the Revision, to whoever takes it so."""

from __future__ import annotations

from envoy.service.discovery.v3 import discovery_pb2

from tests.support.fake_agent import agent
from tests.support.fake_envoy import FakeEnvoy, without_features
from tests.support.xds_resources import cluster, endpoints, shop, snapshot
from xds_agent.proto import datapath_pb2
from xds_agent.protocol.assembly import Assembly, Complete
from xds_agent.protocol.control import (
    Acknowledged,
)
from xds_agent.protocol.revision import parse_revision
from xds_agent.protocol.wire import (
    AGENT,
)
from xds_agent.snapshot.resource import (
    CLUSTER,
    DATAPATH_SERVICE,
    EMPTY,
    ENDPOINTS,
    REVISION,
    SHORT,
    Resource,
    Snapshot,
)


def within(client: FakeEnvoy) -> dict[str, tuple[list[str], list[str]]]:
    """What the Revision that came last brings: short type -> names sent, names removed."""
    response = discovery_pb2.DeltaDiscoveryResponse.FromString(client.last.raw)
    revision = parse_revision(response.resources[0].resource.value)
    return {
        SHORT[part.type_url]: ([Resource.decode(raw).name for raw in part.resources], list(part.removed))
        for part in revision.parts
    }


def test_a_small_change_comes_within_the_revision_to_whoever_takes_it_so(control):
    old, new = snapshot(shop(port=1), cluster("gone")), snapshot(shop(port=2))
    control.publish(old, "edge2")
    now, before = agent(control.wire, old, inline=True), agent(control.wire, old, node="edge2")
    control.wire.sends.clear()
    control.publish(new, "edge2")
    now.expect(REVISION, "revision").expect_nothing()
    assert within(now) == {"cluster": ([], ["gone"]), "endpoints": (["shop"], [])}
    before.expect(CLUSTER, removed=["gone"]).expect(ENDPOINTS, "shop").expect(REVISION, "revision")
    assert within(before) == {}
    for client in (now, before):
        client.ack().expect_nothing()
    assert [one.node for one in control.heard(Acknowledged)][-2:] == ["edge1", "edge2"]
    # It holds all of it now: back again is as small a step.
    control.publish(old, "edge2")
    now.expect(REVISION, "revision")
    assert within(now) == {"cluster": (["gone"], []), "endpoints": (["shop"], [])}


def marked(name: str, forward: int) -> Resource:
    message = datapath_pb2.Service(name=name, protocol=datapath_pb2.TCP, port=80, forward=forward)
    return Resource.of(DATAPATH_SERVICE, name, message)


def test_an_agent_of_before_is_spared_what_ends_it_and_gets_it_once_it_is_upgraded(control):
    """The version before meets a KeyError at Forward.KERNEL, after its Envoy took the new set."""
    whole = snapshot(cluster("a"), marked("db", datapath_pb2.NAT), marked("shop", datapath_pb2.KERNEL))
    control.publish(whole, "edge2")
    older, newer = (agent(control.wire, node=node, inline=node == "edge2") for node in ("edge1", "edge2"))
    older.expect(CLUSTER, "a").expect(DATAPATH_SERVICE, "db")
    older.expect(REVISION, "revision").ack().expect_nothing()
    newer.expect(REVISION, "revision").ack().expect_nothing()
    assert within(newer)["datapath service"] == (["db", "shop"], [])
    # Both are of the same revision, and nobody waits for either.
    assert {node: state.active for node, state in control.core.nodes().items()} == dict.fromkeys(
        ("edge1", "edge2"), whole.revision
    )
    less = snapshot(cluster("a"), marked("db", datapath_pb2.NAT))
    held = Snapshot(less.resources, whole.revision, whole.number, less.digests)
    agent(control.wire, held).expect_nothing()
    upgraded = agent(control.wire, held, inline=True).expect(REVISION, "revision")
    assert within(upgraded) == {"datapath service": (["shop"], [])}


def test_what_an_agent_of_before_gets_adds_up_for_it(control):
    """Its own digests must agree, or it would ask again and then refuse."""
    whole = snapshot(shop(), marked("shop", datapath_pb2.KERNEL))
    control.publish(whole)
    assembly = Assembly(EMPTY, "edge1")
    client = FakeEnvoy(control.wire, agent=AGENT)
    first, *others = assembly.open()
    for request in (without_features(first), *others):
        client.say(request)
    taken = []
    while client.inbox:
        taken += assembly.on_response(client.take().raw)
    (complete,) = [item for item in taken if isinstance(item, Complete)]
    assert (complete.snapshot.revision, dict(complete.snapshot.of_type(DATAPATH_SERVICE))) == (
        whole.revision, {},
    )  # fmt: skip
    client.say(assembly.accept(complete))
    assert control.core.nodes()["edge1"].active == whole.revision


def test_what_is_large_comes_before_the_revision_as_ever(control):
    old = snapshot(cluster("shop"), endpoints("shop", 1))
    large = snapshot(cluster("shop"), endpoints("shop", *range(1, 5000)))
    control.publish(old)
    client = agent(control.wire, old, inline=True)
    control.publish(large)
    client.expect(ENDPOINTS, "shop").ack().expect(REVISION, "revision").ack()
    assert within(client) == {}
    assert control.core.nodes()["edge1"].active == large.revision


def test_a_step_within_the_revision_is_encoded_once_for_all_streams(control):
    nodes = [f"edge{n}" for n in range(20)]
    first, second = snapshot(shop(port=1)), snapshot(shop(port=2))
    control.publish(first, *nodes)
    agents = [agent(control.wire, first, node=node, inline=True) for node in nodes]
    control.wire.sends.clear()
    control.publish(second, *nodes)
    assert [len(send.streams) for send in control.wire.sends] == [20]
    for client in agents:
        client.expect(REVISION, "revision").ack().expect_nothing()
    assert len(control.heard(Acknowledged)) == 40


def test_types_never_share_a_step_because_both_hold_nothing(control):
    """What a stream holds of two types may be one and the same empty mapping."""
    both = snapshot(cluster("shop"), endpoints("shop", 1))
    control.publish(both, "edge2")
    lacking = {"cluster": snapshot(endpoints("shop", 1)), "endpoints": snapshot(cluster("shop"))}
    for node, (missing, held) in zip(("edge1", "edge2"), lacking.items(), strict=True):
        client = agent(control.wire, held, node=node, inline=True).expect(REVISION, "revision")
        assert list(within(client)) == [missing]


def test_an_acknowledgement_in_other_bytes_is_one_too(control):
    """Fields in another order, or unknown ones behind: only the usual bytes are known without parsing."""
    control.publish(snapshot(shop()))
    client = agent(control.wire, inline=True).expect(REVISION, "revision")
    nonce = client.last.nonce
    request = discovery_pb2.DeltaDiscoveryRequest(response_nonce=nonce).SerializeToString()
    request += discovery_pb2.DeltaDiscoveryRequest(type_url=REVISION).SerializeToString()
    client.say(request)
    assert [one.node for one in control.heard(Acknowledged)] == ["edge1"]
