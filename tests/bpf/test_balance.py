"""Where packets go: rings, moved slots, ICMP errors, sizes that do not fit, echo."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from tests.bpf.support.bench import BACKENDS, BALANCE_SEED, EDGE, PING, VIP4, VIP6, VOICE, WEB, Bench
from tests.bpf.support.hashing import flow_hash, slot
from tests.bpf.support.packets import (
    ACK,
    ICMP,
    ICMPV6,
    OUR_MAC,
    PEER_MAC,
    SYN,
    UDP,
    Packet,
    error,
)
from xds_agent.datapath.services import Real, Service

pytestmark = pytest.mark.root

WEB4 = Packet(destination=VIP4, dport=443)
WEB6 = Packet(source="2001:db8::7", destination=VIP6, dport=443)
BOTH = pytest.mark.parametrize("base", [WEB4, WEB6], ids=["IPv4", "IPv6"])


@BOTH
def test_flows_spread_over_all_reals_of_both_versions(bench: Bench, base: Packet) -> None:
    seen = set()
    for port in range(1024, 1064):
        packet = base.but(sport=port, dscp_ecn=0xBA if port % 2 else 0)
        backend = bench.real_of(packet, 1)
        assert backend
        bench.expect(packet, "send_gue", service=WEB, frame=bench.encapsulated(packet, backend))
        seen.add(backend.number)
    assert seen == {1, 2, 3, 4}
    for backend in BACKENDS:
        assert bench.counters.real(backend.number).packets > 0


@BOTH
def test_on_link_reals_get_the_frame_as_it_is(bench: Bench, base: Packet) -> None:
    packet = base.but(protocol=UDP, dport=5060)
    backend = bench.real_of(packet, 1)
    assert backend
    wanted = packet.but(source_mac=OUR_MAC, destination_mac=backend.mac).bytes()
    bench.expect(packet, "send_dsr", service=VOICE, frame=wanted)


def test_no_healthy_real(bench: Bench) -> None:
    packet = WEB4.but(dport=7000)
    bench.expect(packet, "drop_no_real", service=EDGE)
    bench.tables.put_service(Service(EDGE, ip_address(VIP4), 7000, 6, "gue", 3, pass_without_real=True))
    bench.expect(packet, "pass_no_real", service=EDGE)


def moved_ring(bench: Bench, base: Packet) -> None:
    """Every slot from real 1 to real 2."""
    ring = bench.ring(1, [1] * 65537)
    assert ring.step([2] * 65537) == 65537
    bench.tables.put_ring(1, ring)


@BOTH
def test_a_moved_slot_keeps_old_flows_and_moves_new_ones(bench: Bench, base: Packet) -> None:
    moved_ring(bench, base)
    old, new = base.but(sport=1111), base.but(sport=2222)
    first, second = BACKENDS[0], BACKENDS[1]
    bench.expect(old, "send_gue", service=WEB, frame=bench.encapsulated(old, first))
    opening = new.but(flags=SYN)
    bench.expect(opening, "send_gue", service=WEB, frame=bench.encapsulated(opening, second))
    bench.expect(new, "send_gue", service=WEB, frame=bench.encapsulated(new, second))
    bench.expect(old, "send_gue", service=WEB, frame=bench.encapsulated(old, first))


@BOTH
def test_a_flow_survives_fail_and_return_of_its_real_and_the_end_of_the_move(
    bench: Bench, base: Packet
) -> None:
    """A fails, a flow starts on B, A returns, the move is finalised everywhere else: the flow stays on B."""
    a, b = BACKENDS[0], BACKENDS[1]
    ring = bench.ring(1, [1] * 65537)
    ring.step([2] * 65537)
    bench.tables.put_ring(1, ring)
    opening = base.but(sport=3333, flags=SYN)
    bench.expect(opening, "send_gue", service=WEB, frame=bench.encapsulated(opening, b))
    ring.step([1] * 65537)
    bench.tables.put_ring(1, ring)
    flow = base.but(sport=3333)
    bench.expect(flow, "send_gue", service=WEB, frame=bench.encapsulated(flow, b))
    here = slot(flow_hash(flow.source, flow.sport, flow.dport, BALANCE_SEED))
    ring.finalise([number for number in range(65537) if number != here])
    bench.tables.put_ring(1, ring)
    bench.expect(flow, "send_gue", service=WEB, frame=bench.encapsulated(flow, b))
    fresh = flow.but(flags=SYN)
    bench.expect(fresh, "send_gue", service=WEB, frame=bench.encapsulated(fresh, a))


@BOTH
def test_flows_of_a_dead_real_move_and_are_counted(bench: Bench, base: Packet) -> None:
    moved_ring(bench, base)
    flow = base.but(sport=4444)
    bench.expect(flow, "send_gue", service=WEB, frame=bench.encapsulated(flow, BACKENDS[0]))
    bench.tables.put_real(1, Real(ip_address(BACKENDS[0].address), BACKENDS[0].mac, "down"))
    bench.expect(flow, "send_gue", service=WEB, frame=bench.encapsulated(flow, BACKENDS[1]))
    assert bench.counters.service(WEB)["note_flow_remapped"].packets == 1


def test_a_draining_real_keeps_its_flows(bench: Bench) -> None:
    moved_ring(bench, WEB4)
    bench.tables.put_real(1, Real(ip_address(BACKENDS[0].address), BACKENDS[0].mac, "draining"))
    bench.expect(WEB4, "send_gue", service=WEB, frame=bench.encapsulated(WEB4, BACKENDS[0]))


def test_unmoved_slots_write_no_flow(bench: Bench) -> None:
    for port in range(1024, 1124):
        bench.run(WEB4.but(sport=port, flags=SYN if port % 2 else ACK))
    assert list(bench.generation.maps["flows"].keys()) == []
    assert list(bench.generation.maps["flows_new"].keys()) == []


def test_a_syn_flood_evicts_no_live_flow(bench: Bench) -> None:
    """Flows that came back live in a table of their own: 20,000 SYNs through tables of 4,096 lose none."""
    moved_ring(bench, WEB4)
    live = [WEB4.but(source=f"10.7.{number // 200}.{number % 200}") for number in range(1000)]
    for packet in live:
        bench.run(packet.but(flags=SYN))
        bench.run(packet)
    for number in range(20_000):
        packet = WEB4.but(source=str(ip_address(0x0B000000 + number)), flags=SYN, payload=b"")
        bench.run(packet)
    lost = 0
    for packet in live:
        lost += bench.run(packet)[1] != bench.encapsulated(packet, BACKENDS[1])
    assert lost == 0


@BOTH
@pytest.mark.parametrize("kind", ["unreachable", "too big", "expired"])
def test_icmp_errors_reach_the_real_of_their_flow(bench: Bench, base: Packet, kind: str) -> None:
    """The client, or a router on the way to it, answers what a real sent in the service's name."""
    number = {"unreachable": (3, 1), "too big": (3, 2), "expired": (11, 3)}[kind][base.version == 6]
    from_real = Packet(
        source=base.destination,
        destination=base.source,
        sport=base.dport,
        dport=base.sport,
        payload=bytes(64),
    )
    reporter = "192.0.2.99" if base.version == 4 else "2001:db8:77::1"
    packet = error(from_real, kind=number, rest=1300, reporter=reporter)
    backend = bench.real_of(base, 1)
    assert backend
    bench.expect(packet, "send_gue", service=WEB, frame=bench.encapsulated(packet, backend, flow=base))


def test_icmp_errors_about_others_are_the_hosts(bench: Bench) -> None:
    about = Packet(source=VIP4, destination="198.51.100.7", sport=9999, dport=40000)
    bench.expect(error(about, kind=3, code=4, reporter="192.0.2.99"), "pass_kernel", service=PING)


def test_icmp_errors_with_less_than_eight_quoted_bytes_are_the_hosts(bench: Bench) -> None:
    about = Packet(source=VIP4, destination="198.51.100.7", sport=443, dport=40000)
    bench.expect(error(about, kind=3, code=4, reporter="192.0.2.99", quote=3), "pass_kernel", service=PING)


@pytest.mark.parametrize("tags", [(), ((0x8100, 5),)], ids=["untagged", "tagged"])
def test_a_packet_that_does_not_fit_is_answered_with_the_size_that_does(
    bench: Bench, tags: tuple[tuple[int, int], ...]
) -> None:
    packet = WEB4.but(payload=bytes(range(256)) * 5 + bytes(180), tags=tags)
    assert len(packet.l3()) == 1500
    reply = Packet(
        source=VIP4,
        destination=packet.source,
        protocol=ICMP,
        icmp=(3, 4, 1400),
        payload=packet.l3()[:128],
        ttl=64,
        tags=tags,
        source_mac=OUR_MAC,
        destination_mac=PEER_MAC,
    )
    bench.expect(packet, "send_too_big", service=WEB, frame=reply.bytes())


def test_and_so_in_ipv6(bench: Bench) -> None:
    packet = WEB6.but(payload=bytes(range(256)) * 5 + bytes(160))
    assert len(packet.l3()) == 1500
    reply = Packet(
        source=VIP6,
        destination=packet.source,
        protocol=ICMPV6,
        icmp=(2, 0, 1400),
        payload=packet.l3()[:128],
        ttl=64,
        source_mac=OUR_MAC,
        destination_mac=PEER_MAC,
    )
    bench.expect(packet, "send_too_big", service=WEB, frame=reply.bytes())


def test_what_may_be_cut_elsewhere_is_not_answered(bench: Bench) -> None:
    bench.expect(WEB4.but(payload=bytes(1460), dont_fragment=False), "drop_too_big", service=WEB)


def test_what_just_fits_is_sent(bench: Bench) -> None:
    packet = WEB4.but(payload=bytes(1400 - 40))
    backend = bench.real_of(packet, 1)
    assert backend
    bench.expect(packet, "send_gue", service=WEB, frame=bench.encapsulated(packet, backend))


@pytest.mark.parametrize(
    ("source", "vip", "protocol", "ask", "answer"),
    [("198.51.100.7", VIP4, ICMP, 8, 0), ("2001:db8::7", VIP6, ICMPV6, 128, 129)],
)
def test_ping_is_answered(bench: Bench, source: str, vip: str, protocol: int, ask: int, answer: int) -> None:
    rest = struct.unpack(">I", struct.pack(">HH", 0xABCD, 7))[0]
    packet = Packet(source=source, destination=vip, protocol=protocol, icmp=(ask, 0, rest), payload=b"x" * 56)
    reply = packet.but(
        source=vip,
        destination=source,
        icmp=(answer, 0, rest),
        ttl=64,
        source_mac=OUR_MAC,
        destination_mac=PEER_MAC,
    )
    bench.expect(packet, "send_echo", service=PING, frame=reply.bytes())
    bench.expect(packet.but(icmp=(13, 0, 0)), "pass_kernel", service=PING)


@BOTH
def test_an_error_that_does_not_fit_is_never_answered(bench: Bench, base: Packet) -> None:
    from_real = base.but(
        source=base.destination,
        destination=base.source,
        sport=base.dport,
        dport=base.sport,
        payload=bytes(1440),
    )
    reporter = "192.0.2.99" if base.version == 4 else "2001:db8:77::1"
    packet = error(from_real, kind=3, reporter=reporter, quote=1400)
    bench.expect(packet, "drop_too_big", service=WEB)
