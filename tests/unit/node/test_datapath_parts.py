"""The pure parts of the node agent's datapath: what is wanted, numbers in maps, where a ring leads."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import golden
from xds_agent.datapath.maglev import SLOTS, Ring, populate
from xds_agent.node.datapath.numbers import MapFull, Numbers
from xds_agent.node.datapath.reading import wanted_of
from xds_agent.node.datapath.replay import frames_of, headers_of
from xds_agent.node.datapath.rings import RingFiles, RingMaker, eligible
from xds_agent.node.datapath.wanted import Front, RealKey, Wanted, WantedReal, WantedService
from xds_agent.proto import datapath_pb2 as pb
from xds_agent.snapshot.resource import ACCESS_LIST, DATAPATH_SERVICE, EMPTY, Resource, Snapshot

OWN, VIP = ip_address("10.0.0.1"), ip_address("203.0.114.1")


def real(number: int, *, weight: int = 1, priority: int = 0) -> WantedReal:
    return WantedReal(RealKey(ip_address(f"10.1.0.{number}"), 80), weight, priority)


def test_a_revision_becomes_what_this_host_does() -> None:
    snapshot = golden.case("datapath").compile().snapshots()["edge1"]
    wanted = wanted_of(snapshot, own=[OWN], vips=[VIP])
    assert wanted.services["db"].fronts == (Front(VIP, 5432, 6),)
    assert wanted.services["dns"].fronts == (Front(OWN, 5300, 17), Front(VIP, 5300, 17))
    assert wanted.services["ping"].fronts == (Front(VIP, 0, 1),)
    # Envoy listens on every address, and nothing is asked of XDP but to count.
    https = WantedService("envoy/https", "kernel", (Front(OWN, 443, 6), Front(VIP, 443, 6)), ())
    assert wanted.services["envoy/https"] == https
    db = wanted.services["db"]
    assert [(str(one.key), one.weight, one.priority) for one in db.reals] == [
        ("10.1.0.1:5432", 1, 0), ("10.2.0.1:5432", 1, 1), ("10.2.0.2:5432", 0, 1),
    ]  # fmt: skip
    # gue keeps the packet as it is, its port too, and may change the IP version around it.
    game = wanted.services["game"]
    assert game.reals_for(4) == game.reals and game.reals[0].key.port == 0
    assert len(wanted.checks()) == 3
    assert (ip_network("203.0.113.0/24"), "deny") in wanted.rules
    assert (ip_network("35.191.0.0/16"), "exempt") in wanted.rules
    assert (wanted.limits.ssh_packets, wanted.limits.source_bits) == (200, 10**9)


def test_a_vip_belongs_to_the_service_that_names_it() -> None:
    """Beside one that listens on every address of the host with the same port."""
    everywhere = pb.Service(name="a", protocol=pb.UDP, port=53, forward=pb.NAT)
    by_vip = pb.Service(name="b", protocol=pb.UDP, port=53, forward=pb.NAT, vip=True)
    made = [Resource.of(DATAPATH_SERVICE, one.name, one) for one in (by_vip, everywhere)]
    for order in (made, made[::-1]):
        snapshot = Snapshot.of(order, number=1)
        wanted = wanted_of(snapshot, own=[OWN], vips=[VIP])
        assert wanted.services["a"].fronts == (Front(OWN, 53, 17),)
        assert wanted.services["b"].fronts == (Front(VIP, 53, 17),)


def test_nothing_wanted_of_a_host_without_resources() -> None:
    """But which addresses are its own, vips too, it has to know: what else comes, it forwards."""
    assert wanted_of(EMPTY, own=[OWN], vips=[VIP]) == Wanted(own=frozenset({OWN, VIP}))


def test_what_is_exempt_stays_so_where_a_list_denies_the_very_same_network() -> None:
    """And what was denied by hand goes before: there it takes --force."""
    same = pb.AccessList(ipv4=ip_address("10.0.0.77").packed + bytes([32]))
    made = []
    for name in ("exempt", "deny"):
        same.name = name
        made.append(Resource.of(ACCESS_LIST, name, same))
    same.timed.add(network="10.0.0.77/32", until=100)
    for lists in (made, made[::-1]):
        rules = wanted_of(Snapshot.of(lists, number=1), own=[OWN], vips=[]).rules
        assert [kind for _, kind in rules] == ["deny", "exempt"]
    timed = wanted_of(Snapshot.of([Resource.of(ACCESS_LIST, "deny", same)], number=1), own=[OWN], vips=[])
    assert timed.denied_at(99.0) == (ip_network("10.0.0.77/32"),)


def test_what_is_denied_by_hand_ends_by_itself() -> None:
    wanted = Wanted(timed=((ip_network("192.0.2.0/24"), 100),))
    assert wanted.denied_at(99.0) == (ip_network("192.0.2.0/24"),)
    assert wanted.denied_at(100.0) == ()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12))))
def test_numbers_are_never_shared_and_kept_for_life(steps: list[tuple[bool, int]]) -> None:
    numbers: Numbers[int] = Numbers("services", 8, "raise xdp_services")
    held: dict[int, int] = {}
    for take, key in steps:
        if not take:
            assert numbers.give_back(key) == held.pop(key, None)
        elif key in held or len(held) < 7:
            assert held.setdefault(key, numbers.take(key)) == numbers[key]
        else:
            with pytest.raises(MapFull):
                numbers.take(key)
        assert len(set(held.values())) == len(held)
        assert all(0 < number < 8 for number in held.values())


def test_a_number_given_back_is_the_last_to_be_taken_again() -> None:
    numbers: Numbers[str] = Numbers("reals", 4, "raise xdp_reals", {"a": 1})
    numbers.give_back("a")
    assert [numbers.take(name) for name in "bcd"] == [2, 3, 1]
    with pytest.raises(MapFull, match="5 reals are wanted, the maps hold 3; raise xdp_reals"):
        numbers.check(set("bcdef"))


def test_the_first_priority_that_has_a_healthy_real_takes_everything() -> None:
    first, drained, second = real(1), real(2, weight=0), real(3, priority=1)
    reals = (first, drained, second)
    assert eligible(reals, lambda key: True) == (first,)
    assert eligible(reals, lambda key: key != first.key) == (second,)
    assert eligible(reals, lambda key: False) == ()
    maker = RingMaker()
    assert set(maker.table_of((), {}.__getitem__)) == {0}
    numbers = {first.key: 4, second.key: 5}
    assert set(maker.table_of((first, second), numbers.__getitem__)) == {4, 5}


def test_where_the_program_that_makes_rings_is_missing_the_agent_makes_the_same_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reals, numbers = (real(1), real(2), real(3)), {real(number).key: number for number in (1, 2, 3)}
    maker = RingMaker(tmp_path / "maglev.bpf.o")
    found = [maker.table_of(some, numbers.__getitem__) for some in (reals, reals[:2])]
    assert list(found[0]) == populate({number: (str(real(number).key), 1) for number in (1, 2, 3)})
    assert set(found[1]) == {1, 2}
    stepped, expected = maker.step(Ring(found[0]), found[1]), Ring(found[0])
    expected.step(found[1])
    assert stepped.words() == expected.words() and stepped.moving()
    assert caplog.text.count("rings are made by the agent itself") == 1
    assert maker.missing.startswith("rings are made by the agent itself, which takes longer: ")


def test_a_ring_is_read_back_as_it_was_moved_slots_too(tmp_path: Path) -> None:
    files, ring = RingFiles(tmp_path), Ring([1] * SLOTS)
    ring.step([2] * 10 + [1] * (SLOTS - 10))
    files.write(7, ring)
    found = files.read(7)
    assert found is not None and found.words() == ring.words()
    (tmp_path / "7").write_bytes(b"torn")
    assert files.read(7) is None
    assert files.read(8) is None


def test_captures_and_headers_are_read() -> None:
    frame = bytes.fromhex(
        "0200000000010200000000028100000508004500001c000100004011b6ae0a0000010a000002003500351234567800"
    )
    head = headers_of(frame)
    assert str(head) == "UDP from 10.0.0.1 port 53 to 10.0.0.2 port 53"
    assert headers_of(frame[:20]) is None
    file = b"\xd4\xc3\xb2\xa1" + bytes(16) + (1).to_bytes(4, "little")
    record = bytes(8) + len(frame).to_bytes(4, "little") * 2 + frame
    assert frames_of(file + record * 2) == [frame, frame]
    with pytest.raises(ValueError, match="neither a pcap file nor a pcapng file"):
        frames_of(b"something else")
