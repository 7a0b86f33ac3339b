"""The node agent's client side: staging, digests, closure, answers (traps 3, 5 and 8)."""

from __future__ import annotations

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from tests.support.xds_resources import (
    cluster,
    endpoints,
    extension,
    listener,
    routes,
    secret,
    shop,
    snapshot,
)
from xds_agent.protocol.assembly import Assembly, Complete
from xds_agent.protocol.refusal import read_refusal, write_refusal
from xds_agent.protocol.revision import Part, revision_resource
from xds_agent.protocol.wire import AGENT, ProtocolError, delta_response
from xds_agent.snapshot.diff import Diff
from xds_agent.snapshot.resource import CLUSTER, EMPTY, ENDPOINTS, REVISION, ROUTES, TYPES, Snapshot


def parse(data: bytes):
    return discovery_pb2.DeltaDiscoveryRequest.FromString(data)


def deliver(assembly: Assembly, old: Snapshot, new: Snapshot, *, lose: tuple[str, ...] = ()) -> list:
    """What control sends to go from `old` to `new`, parts first; `lose` names types that get lost."""
    steps, number = [], 0
    for type_url, change in Diff.between(old, new):
        if type_url in lose:
            continue
        number += 1
        raws = [new.of_type(type_url)[name].raw for name in change.updated]
        steps += assembly.on_response(delta_response(type_url, f"n{number}", raws, change.removed))
    frame = delta_response(REVISION, "rev", [revision_resource(new).raw])
    return steps + assembly.on_response(frame)


def last(steps: list) -> Complete:
    assert isinstance(steps[-1], Complete), parse(steps[-1])
    return steps[-1]


def words_of(step) -> str:
    request = parse(step)
    assert request.HasField("error_detail"), request
    return request.error_detail.message


def test_first_requests_say_what_is_held_and_the_revision_comes_last():
    held = snapshot(shop())
    requests = [parse(data) for data in Assembly(held, "edge1", "1.2").open()]
    assert [request.type_url for request in requests] == [*TYPES, REVISION]
    assert all(list(request.resource_names_subscribe) == ["*"] for request in requests)
    node = requests[0].node
    assert (node.id, node.user_agent_name, node.user_agent_version) == ("edge1", AGENT, "1.2")
    assert not any(request.HasField("node") for request in requests[1:])
    said = {request.type_url: dict(request.initial_resource_versions) for request in requests}
    assert said[CLUSTER] == {"shop": held.of_type(CLUSTER)["shop"].version}
    assert said[REVISION] == {"revision": held.revision}


def test_a_whole_revision_is_complete_and_every_part_was_answered():
    assembly, new = Assembly(EMPTY, "edge1"), snapshot(shop(), number=12)
    assembly.open()
    steps = deliver(assembly, EMPTY, new)
    complete = last(steps)
    assert [parse(step).response_nonce for step in steps[:-1]] == ["n1", "n2", "n3", "n4"]
    assert (complete.snapshot.revision, complete.snapshot.number) == (new.revision, 12)
    assert complete.snapshot.resources == new.resources
    assert {t: set(names) for t, names in complete.changed.items() if names} == {
        t: {"shop"} for t in TYPES if new.of_type(t)
    }
    ack = parse(assembly.accept(complete))
    assert (ack.type_url, ack.response_nonce, ack.HasField("error_detail")) == (REVISION, "rev", False)
    assert assembly.held is complete.snapshot


def test_types_that_did_not_move_share_their_maps():
    old, new = snapshot(shop()), snapshot(shop(port=1))
    assembly = Assembly(old, "edge1")
    assembly.open()
    complete = last(deliver(assembly, old, new))
    assert complete.snapshot.of_type(CLUSTER) is old.of_type(CLUSTER)
    assert complete.changed[ENDPOINTS] == {"shop"}
    assert not complete.changed[CLUSTER]


def test_a_refused_set_stays_staged_and_changed_counts_from_the_held_one():
    held, bad, good = snapshot(shop()), snapshot(shop(port=1, timeout_ms=2)), snapshot(shop(timeout_ms=2))
    assembly = Assembly(held, "edge1")
    assembly.open()
    complete = last(deliver(assembly, held, bad))
    refusal = parse(assembly.refuse(complete, "no", CLUSTER, ("shop",)))
    assert read_refusal(refusal.error_detail) == (CLUSTER, ("shop",), "no")
    assert assembly.held is held
    complete = last(deliver(assembly, bad, good))
    assert {t for t, names in complete.changed.items() if names} == {CLUSTER}
    assert assembly.accept(complete)


def test_trap_3_only_the_held_revision_is_claimed():
    held, bad = snapshot(shop()), snapshot(shop(port=1))
    assembly = Assembly(held, "edge1")
    assembly.open()
    complete = last(deliver(assembly, held, bad))
    # Staged but not held: the versions say it, the revision does not.
    requests = {parse(data).type_url: parse(data) for data in assembly.open()}
    assert not requests[REVISION].initial_resource_versions
    staged = bad.of_type(ENDPOINTS)["shop"].version
    assert dict(requests[ENDPOINTS].initial_resource_versions) == {"shop": staged}
    # Its stream is gone: there is nobody to answer, but the next stream says it.
    assert assembly.accept(complete) is None
    assert assembly.refuse(complete, "no") is None
    requests = {parse(data).type_url: parse(data) for data in assembly.open()}
    assert dict(requests[REVISION].initial_resource_versions) == {"revision": bad.revision}


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ([cluster("a")], "missing, though referred to: endpoints a"),
        ([cluster("a", secret="ca"), endpoints("a", 1)], "missing, though referred to: secret ca"),
        ([listener("l", "r")], "missing, though referred to: routes r"),
        ([routes("r", "a")], "referred to by nothing: routes r"),
        ([secret("s")], "referred to by nothing: secret s"),
        ([endpoints("a", 1)], "referred to by nothing: endpoints a"),
        ([extension("x")], "referred to by nothing: extension x"),
    ],
)
def test_trap_5_references_close_before_anything_is_applied(resources, words):
    assembly = Assembly(EMPTY, "edge1")
    assembly.open()
    steps = deliver(assembly, EMPTY, snapshot(resources))
    assert words in words_of(steps[-1])


def test_trap_5_closure_follows_changes():
    assembly, held = (
        Assembly(EMPTY, "edge1"),
        snapshot(shop(), secret("s"), listener("l", "shop", secret="s")),
    )
    assembly.open()
    assembly.accept(last(deliver(assembly, EMPTY, held)))
    broken = snapshot(shop(), secret("s"), listener("l", "shop"))
    assert "referred to by nothing: secret s" in words_of(deliver(assembly, held, broken)[-1])
    fixed = snapshot(shop(), listener("l", "shop"))
    assert last(deliver(assembly, broken, fixed)).snapshot.revision == fixed.revision


def test_trap_8_a_digest_that_does_not_agree_is_asked_for_again_with_versions():
    assembly, new = Assembly(EMPTY, "edge1"), snapshot(shop())
    assembly.open()
    requests = [parse(step) for step in deliver(assembly, EMPTY, new, lose=(ROUTES,))[-2:]]
    assert [request.type_url for request in requests] == [ROUTES, REVISION]
    assert not any(request.response_nonce for request in requests)
    complete = last(deliver(assembly, snapshot(shop()[:2], shop()[3]), new))
    assert complete.snapshot.revision == new.revision


def test_trap_8_a_second_disagreement_is_refused_in_words():
    assembly, new = Assembly(EMPTY, "edge1"), snapshot(shop())
    assembly.open()
    deliver(assembly, EMPTY, new, lose=(ROUTES,))
    words = words_of(deliver(assembly, new, new)[-1])
    assert words == "the revision is incomplete: routes: 0 received, 1 promised"


def test_trap_8_the_same_count_in_another_version_is_seen():
    assembly, new = Assembly(snapshot(shop()), "edge1"), snapshot(shop(port=5))
    assembly.open()
    first = deliver(assembly, new, new)
    assert [parse(step).type_url for step in first] == [ENDPOINTS, REVISION]
    assert "not all in the promised version" in words_of(deliver(assembly, new, new)[-1])


def test_parts_within_the_revision_are_as_those_before_it():
    old, new = snapshot(shop(port=1), cluster("gone")), snapshot(shop(port=2))
    one, other = Assembly(old, "edge1"), Assembly(old, "edge1")
    parts = [
        Part(t, tuple(new.of_type(t)[name].raw for name in change.updated), change.removed)
        for t, change in Diff.between(old, new)
    ]
    frame = delta_response(REVISION, "rev", [revision_resource(new, parts).raw])
    within, before = last(one.on_response(frame)), last(deliver(other, old, new))
    assert within.snapshot == before.snapshot == new
    assert (within.changed, within.nonce) == (before.changed, "rev")
    assert parse(one.accept(within)).response_nonce == "rev"


def test_parts_within_the_revision_that_do_not_add_up_are_asked_for_again():
    old, new = snapshot(shop(port=1)), snapshot(shop(port=2))
    assembly = Assembly(old, "edge1")
    frame = delta_response(REVISION, "rev", [revision_resource(new).raw])
    again = [parse(data) for data in assembly.on_response(frame)]
    assert [request.type_url for request in again] == [ENDPOINTS, REVISION]
    stranger = Part("type.googleapis.com/of.the.Future", (), ("a",))
    frame = delta_response(REVISION, "rev", [revision_resource(new, [stranger]).raw])
    [step] = Assembly(old, "edge1").on_response(frame)
    assert "knows no type.googleapis.com/of.the.Future" in words_of(step)


def test_an_unknown_type_is_refused_and_nonsense_raises():
    assembly = Assembly(EMPTY, "edge1")
    assembly.open()
    [step] = assembly.on_response(delta_response("type.googleapis.com/x.Y", "1", []))
    assert "knows no" in words_of(step)
    with pytest.raises(ProtocolError):
        assembly.on_response(b"\xff\xff\xff")


def test_control_and_assembly_settle_a_mismatch_between_them(control):
    """Both ends together, with a part lost on the way."""
    from tests.support.fake_envoy import FakeEnvoy, without_features
    from xds_agent.protocol.control import Acknowledged

    new = snapshot(shop())
    control.publish(new)
    assembly, completes = Assembly(EMPTY, "edge1"), []
    client = FakeEnvoy(control.wire, agent=AGENT)
    first, *others = assembly.open()
    for request in (without_features(first), *others):
        client.say(request)
    lost = True
    while client.inbox:
        response = client.take()
        if lost and response.type_url == ROUTES:
            lost = False
            continue
        for step in assembly.on_response(response.raw):
            if isinstance(step, Complete):
                completes.append(step)
            else:
                client.say(step)
    [complete] = completes
    client.say(assembly.accept(complete))
    assert control.heard(Acknowledged) == [Acknowledged("edge1", new.revision)]


def test_words_of_a_refusal_are_such_that_every_database_takes_them():
    status = discovery_pb2.DeltaDiscoveryRequest().error_detail
    write_refusal(status, "no\0" + "x" * 100_000)
    _, _, words = read_refusal(status)
    assert words.startswith("no\ufffdx")
    assert len(words) == 4096
