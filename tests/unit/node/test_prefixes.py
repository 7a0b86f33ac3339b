"""Access lists by the million: packed as they came, painted as the longest prefix decides."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xds_agent.datapath.acl import NETWORKS, packed, paint
from xds_agent.datapath.prefixes import Prefixes
from xds_agent.node.datapath.reading import Reader, wanted_of
from xds_agent.node.datapath.wanted import Wanted, apart, differing
from xds_agent.proto import datapath_pb2 as pb
from xds_agent.snapshot.resource import (
    ACCESS_LIST,
    DATAPATH_SERVICE,
    PROTECTION,
    REALS,
    Resource,
    Snapshot,
)

ASK = 3
CLASSES = bytearray(NETWORKS)
# Of two /16, so that prefixes meet.
networks4 = st.builds(
    lambda address, length: IPv4Network((0x0A000000 | address << 3, length), strict=False),
    st.integers(0, 0x3FFF), st.sampled_from([0, 8, 15, 16, 20, 23, 24, 25, 29, 32]),
)  # fmt: skip
lists4 = st.lists(st.tuples(st.lists(networks4, max_size=6), st.sampled_from([1, 2])), max_size=3)


def test_networks_come_back_as_they_were() -> None:
    given_ = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"), ip_network("192.0.2.1/32")]
    packed = Prefixes.of(given_)
    assert set(packed) == set(given_) and (len(packed), packed.count(6)) == (3, 1)
    assert packed.keys(4)[:8] == struct.pack("=I", 8) + bytes([10, 0, 0, 0])
    assert packed.keys(6) == struct.pack("=I", 32) + IPv6Network("2001:db8::/32").network_address.packed


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (Prefixes(b"1234"), "4 bytes are no list of networks of IPv4"),
        (Prefixes(b"1234" + bytes([33])), "longer than /32"),
        (Prefixes(b"", bytes(16) + bytes([129])), "longer than /128"),
    ],
)
def test_what_is_no_list_is_said(packed: Prefixes, words: str) -> None:
    assert words in packed.problem


@settings(max_examples=15, deadline=None)
@given(lists4, st.lists(st.integers(0, 0x1FFFF), min_size=1, max_size=20))
def test_the_longest_prefix_decides_and_of_equal_ones_the_last(
    lists: list[tuple[list[IPv4Network], int]], asked: list[int]
) -> None:
    # In place of a fresh 16 MiB for each example.
    CLASSES[:] = bytes(NETWORKS)
    keys, numbers = paint([(Prefixes.of(nets), number) for nets, number in lists], CLASSES, ask=ASK)
    trie = {}
    for at, number in enumerate(numbers):
        length, address = struct.unpack_from("=I", keys, at * 8)[0], keys[at * 8 + 4 : at * 8 + 8]
        trie[IPv4Network((address, length), strict=False)] = number
    said: dict[IPv4Network, int] = {net: number for nets, number in lists for net in nets}
    for address in (IPv4Address(0x0A000000 + offset) for offset in asked):
        found: int = CLASSES[int(address) >> 8]
        if found == ASK:
            found = _longest(trie, address)
        assert found == _longest(said, address)


@given(st.lists(st.tuples(*[st.integers(0, ASK)] * 4), min_size=1))
def test_packed_classes_are_two_bits_each_the_first_in_the_lowest(rows: list[tuple[int, ...]]) -> None:
    found = packed(bytearray(number for row in rows for number in row))
    assert [tuple(four >> 2 * at & 3 for at in range(4)) for four in found] == rows


def _longest(rules: dict[IPv4Network, int], address: IPv4Address) -> int:
    holding = [net for net in rules if address in net]
    return rules[max(holding, key=lambda net: net.prefixlen)] if holding else 0


OWN, VIP, OTHER = (IPv4Address(text) for text in ("10.0.0.1", "203.0.114.1", "10.0.0.9"))

HEALTH = pb.HealthCheck(
    type="tcp", port=9, interval_ms=500, timeout_ms=500, unhealthy_after=2, healthy_after=1
)


def _resources(drawn: dict[str, tuple[bool, int, int]], denied: int, monitor: bool) -> list[Resource]:
    found = [
        Resource.of(PROTECTION, "protection", pb.Protection(monitor=monitor)),
        Resource.of(ACCESS_LIST, "deny", pb.AccessList(name="deny", ipv4=bytes([192, 0, 2, denied, 32]))),
    ]
    for name, (vip, port, reals) in drawn.items():
        forward = pb.DSR if reals == 1 else pb.NAT
        service = pb.Service(name=name, protocol=pb.UDP, port=port, forward=forward, vip=vip)
        if port == 54:
            service.health.MergeFrom(HEALTH)
        message = pb.Reals(service=name)
        for number in range(reals):
            message.reals.add(address=bytes([10, 1, 0, number]), port=53, weight=1)
        found += [Resource.of(DATAPATH_SERVICE, name, service), Resource.of(REALS, name, message)]
    return found


drawn_services = st.dictionaries(
    st.sampled_from("abcd"), st.tuples(st.booleans(), st.sampled_from([53, 54]), st.integers(0, 2))
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(drawn_services, st.integers(1, 2), st.booleans(), st.booleans()), max_size=5))
def test_reading_one_revision_after_another_gives_what_each_gives_alone(
    edits: list[tuple[dict[str, tuple[bool, int, int]], int, bool, bool]],
) -> None:
    reader, before = Reader(), Wanted()
    for number, (services, denied, monitor, moved) in enumerate(edits):
        snapshot = Snapshot.of(_resources(services, denied, monitor), number=number)
        own = [OTHER if moved else OWN]
        wanted = reader.read(snapshot, own=own, vips=[VIP])
        assert wanted == wanted_of(snapshot, own=own, vips=[VIP])
        # What it says was edited is what a walk over all of them finds.
        assert differing(before.services, wanted.services) == differing(
            before.services, dict(wanted.services)
        )
        assert apart(wanted.services) == apart(dict(wanted.services))
        before = wanted


def test_what_an_edit_leaves_alone_is_the_very_object_it_was() -> None:
    """By which the writer knows what to write, and that a million prefixes are the same."""
    reader, services = Reader(), {"a": (True, 53, 1), "b": (False, 54, 2)}
    before = reader.read(Snapshot.of(_resources(services, 1, monitor=False)), own=[OWN], vips=[VIP])
    services["a"] = (True, 53, 2)
    after = reader.read(Snapshot.of(_resources(services, 1, monitor=True)), own=[OWN], vips=[VIP])
    assert after.services["b"] is before.services["b"] and after.services["a"] != before.services["a"]
    assert after.lists is before.lists and after.limits.monitor


def test_a_revision_that_cannot_be_read_leaves_nothing_behind() -> None:
    reader = Reader()
    good = Snapshot.of(_resources({"a": (True, 53, 1)}, 1, monitor=False))
    bad = Snapshot.of([Resource.of(ACCESS_LIST, "deny", pb.AccessList(name="deny", ipv4=b"123"))])
    reader.read(good, own=[OWN], vips=[VIP])
    with pytest.raises(ValueError, match="access list deny: 3 bytes are no list"):
        reader.read(bad, own=[OWN], vips=[VIP])
    assert reader.read(good, own=[OWN], vips=[VIP]) == wanted_of(good, own=[OWN], vips=[VIP])
    # One of two services: the other has lost its vip to it by then, or given it back.
    services = _resources({"b": (True, 53, 1)}, 1, monitor=False)
    unknown = Resource.of(DATAPATH_SERVICE, "c", pb.Service(name="c", forward=99))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="this agent knows no forward 99"):
        reader.read(Snapshot.of([*services, unknown]), own=[OWN], vips=[VIP])
    for after in (services, _resources({"a": (False, 53, 1)}, 1, monitor=False)):
        snapshot = Snapshot.of(after)
        assert reader.read(snapshot, own=[OWN], vips=[VIP]) == wanted_of(snapshot, own=[OWN], vips=[VIP])
