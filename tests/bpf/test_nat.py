"""Full NAT: what becomes of packets, both ways."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tests.bpf.support.bench import BACKENDS, GAME, NAT_RINGS, SHOP, VIP4, Bench
from tests.bpf.support.nat import BOTH, FIRST, PORTS, SHOP4, back, begin, establish, sent_port
from tests.bpf.support.packets import ACK, FIN, RST, SYN, UDP, Packet
from xds_agent.datapath.limit import Rate
from xds_agent.datapath.services import Real, Service

pytestmark = pytest.mark.root


@BOTH
@pytest.mark.parametrize("tags", [(), ((0x8100, 5),), ((0x88A8, 5), (0x8100, 6))], ids=["0", "1", "2 tags"])
def test_a_connection_is_translated_both_ways(
    bench: Bench, opening: Packet, tags: tuple[tuple[int, int], ...]
) -> None:
    opening = opening.but(tags=tags)
    backend = bench.real_of(opening, NAT_RINGS[opening.version])
    assert backend
    frame = bench.run(opening)[1]
    port = sent_port(frame[len(tags) * 4 :], opening.version)
    sent = bench.translated(opening, backend, port)
    assert frame == sent.bytes()
    for payload in (b"", b"x", bytes(range(256)) * 5):
        answer = bench.answer(sent, flags=SYN | ACK, payload=payload, dscp_ecn=3)
        bench.expect(answer, "send_answer", service=SHOP, frame=back(opening, answer).bytes())
        onward = opening.but(flags=ACK, payload=payload, dscp_ecn=2)
        bench.expect(onward, "send_nat", service=SHOP, frame=bench.translated(onward, backend, port).bytes())


@BOTH
def test_udp_and_its_marks(bench: Bench, opening: Packet) -> None:
    """DSCP is set on the way to the real and back; ECN stays."""
    first = opening.but(protocol=UDP, dport=27015, payload=b"hello", dscp_ecn=0b101)
    sent, _ = begin(bench, first, GAME)
    assert sent.dscp_ecn == 46 << 2 | 1
    answer = bench.answer(sent, dscp_ecn=2, payload=b"good day")
    wanted = back(first, answer).but(dscp_ecn=46 << 2 | 2)
    bench.expect(answer, "send_answer", service=GAME, frame=wanted.bytes())


def test_udp_without_a_checksum_keeps_none(bench: Bench) -> None:
    first = Packet(destination=VIP4, dport=27015, protocol=UDP, dscp_ecn=46 << 2)
    bare = first.but(transport=first.l4()[:6] + b"\0\0" + first.l4()[8:])
    frame = bench.run(bare)[1]
    assert frame[14 + 20 + 6 : 14 + 20 + 8] == b"\0\0"


@BOTH
def test_the_middle_of_an_unknown_connection_is_dropped(bench: Bench, opening: Packet) -> None:
    for flags in (ACK, FIN | ACK, RST, SYN | ACK):
        bench.expect(opening.but(flags=flags), "drop_nat_unknown", service=SHOP)


@BOTH
def test_answers_of_strangers_are_the_hosts(bench: Bench, opening: Packet) -> None:
    """A port of ours answered by another address, another port, or with another protocol."""
    sent, backend = begin(bench, opening)
    other = BACKENDS[(backend.number - 1) ^ 1]
    answer = bench.answer(sent, flags=SYN | ACK)
    for stranger in (
        answer.but(source=other.address),
        answer.but(sport=answer.sport ^ 1),
        answer.but(dport=FIRST + PORTS),
        answer.but(dport=FIRST - 1),
        answer.but(protocol=UDP),
    ):
        bench.expect(stranger, "pass_kernel")


@BOTH
def test_spent_packets(bench: Bench, opening: Packet) -> None:
    bench.expect(opening.but(ttl=1), "drop_hop_limit", service=SHOP)
    sent, _ = begin(bench, opening)
    bench.expect(bench.answer(sent, ttl=1, flags=SYN | ACK), "drop_hop_limit", service=SHOP)


def test_a_real_of_the_other_version_is_no_way(bench: Bench) -> None:
    bench.ring(NAT_RINGS[4], [3] * 65537)
    bench.expect(SHOP4, "drop_other_version", service=SHOP)


@BOTH
def test_answers_follow_the_client_to_another_gateway(bench: Bench, opening: Packet) -> None:
    sent = establish(bench, opening)
    moved = opening.but(flags=ACK, source_mac=b"\x02\0\0\0\0\x99")
    bench.run(moved)
    answer = bench.answer(sent, flags=ACK)
    wanted = back(opening, answer).but(destination_mac=moved.source_mac)
    bench.expect(answer, "send_answer", service=SHOP, frame=wanted.bytes())


def test_what_a_service_may_send_and_be_sent_in_bytes(bench: Bench) -> None:
    """Bursts of 3,000 bytes: frames pass while the bucket is not full before them."""
    burst = Rate(per_second=0.001, burst=3000)
    bench.tables.put_service(
        Service(SHOP, ip_address(VIP4), 80, 6, "nat", NAT_RINGS[4], bytes=burst, answer_bytes=burst)
    )
    sent, _ = begin(bench, SHOP4)
    big = SHOP4.but(flags=ACK, payload=bytes(1400))
    answer = bench.answer(sent, flags=ACK, payload=bytes(1400))
    for packet, passed, reason in (
        (big, "send_nat", "drop_service_bytes"),
        (answer, "send_answer", "drop_answer_bytes"),
    ):
        fates = []
        for _ in range(6):
            before = bench.counters.service(SHOP)
            bench.run(packet)
            after = bench.counters.service(SHOP)
            fates += [name for name in (passed, reason) if after.get(name) != before.get(name)]
        assert 2 <= fates.count(passed) <= 3
        assert fates == sorted(fates, key=[passed, reason].index) and reason in fates


def test_services_that_cannot_be(bench: Bench) -> None:
    with pytest.raises(ValueError, match="nat translates ports"):
        bench.tables.put_service(Service(9, ip_address(VIP4), 1, 6, "nat", hash_addresses=True))
    with pytest.raises(ValueError, match="dscp 64"):
        bench.tables.put_service(Service(9, ip_address(VIP4), 1, 6, dscp=64))


def test_a_removed_real_takes_nothing(bench: Bench) -> None:
    bench.ring(NAT_RINGS[4], [1] * 65537)
    begin(bench, SHOP4)
    bench.tables.delete_real(1)
    bench.expect(SHOP4, "drop_internal", service=SHOP)
    bench.tables.put_real(1, Real(ip_address("10.1.0.1"), BACKENDS[0].mac))
    begin(bench, SHOP4)
