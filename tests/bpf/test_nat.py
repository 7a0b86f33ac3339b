"""Full NAT: both directions, the table of flows, errors, and what a flood cannot do."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tests.bpf.conftest import Loader
from tests.bpf.support.bench import (
    BACKENDS,
    BALANCE_SEED,
    GAME,
    NAT4,
    NAT_RINGS,
    SHOP,
    VIP4,
    VIP6,
    Backend,
    Bench,
)
from tests.bpf.support.hashing import flow_hash, slot
from tests.bpf.support.packets import (
    ACK,
    FIN,
    OUR_MAC,
    PEER_MAC,
    RST,
    SYN,
    UDP,
    Packet,
    error,
)
from xds_agent.datapath.drain import pinned_reals, pinned_slots
from xds_agent.datapath.limit import Rate
from xds_agent.datapath.program import Sizes
from xds_agent.datapath.services import Real, Service

pytestmark = pytest.mark.root

SHOP4 = Packet(destination=VIP4, dport=80, flags=SYN, payload=b"")
SHOP6 = Packet(source="2001:db8::7", destination=VIP6, dport=80, flags=SYN, payload=b"")
BOTH = pytest.mark.parametrize("opening", [SHOP4, SHOP6], ids=["IPv4", "IPv6"])
FIRST, PORTS = 20000, 4096


def sent_port(frame: bytes, version: int) -> int:
    """The port a frame left by (no tags, no options)."""
    at = 14 + (20 if version == 4 else 40)
    return int.from_bytes(frame[at : at + 2], "big")


def begin(bench: Bench, opening: Packet, service: int = SHOP) -> tuple[Packet, Backend]:
    """A flow's first packet: how it left, and for whom; every byte of it checked."""
    backend = bench.real_of(opening, NAT_RINGS[opening.version])
    assert backend
    verdict, frame = bench.run(opening)
    assert verdict == "TX"
    port = sent_port(frame, opening.version)
    assert FIRST <= port < FIRST + PORTS
    # Once more: the same flow, the same port.
    marked = opening.but(dscp_ecn=46 << 2 | opening.dscp_ecn & 3) if service == GAME else opening
    sent = bench.translated(marked, backend, port)
    assert frame == sent.bytes()
    bench.expect(opening, "send_nat", service=service, frame=sent.bytes())
    return sent, backend


def back(opening: Packet, answer: Packet) -> Packet:
    """An answer as the client must see it."""
    return answer.but(
        source=opening.destination,
        destination=opening.source,
        sport=opening.dport,
        dport=opening.sport,
        ttl=answer.ttl - 1,
        source_mac=OUR_MAC,
        destination_mac=PEER_MAC,
    )


def establish(bench: Bench, opening: Packet) -> Packet:
    """Three-way handshake; returns the first packet as it left."""
    sent, _ = begin(bench, opening)
    answer = bench.answer(sent, flags=SYN | ACK, seq=7000)
    bench.expect(answer, "send_answer", service=SHOP, frame=back(opening, answer).bytes())
    confirming = opening.but(flags=ACK, ack=7001)
    before = opened(bench)
    bench.expect(confirming, "send_nat", service=SHOP, frame=bytes_to(bench, confirming, sent))
    assert opened(bench) == before + 1
    return sent


def bytes_to(bench: Bench, packet: Packet, sent: Packet) -> bytes:
    """The packet as it must leave if its flow is that of `sent`."""
    backend = next(entry for entry in BACKENDS if entry.address == sent.destination)
    return bench.translated(packet, backend, sent.sport).bytes()


def opened(bench: Bench) -> int:
    found = bench.counters.service(SHOP).get("note_nat_open")
    return found.packets if found else 0


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
def test_flows_share_no_port_of_a_real(bench: Bench, opening: Packet) -> None:
    seen = set()
    for number in range(600):
        packet = opening.but(sport=1024 + number)
        frame = bench.run(packet)[1]
        backend = bench.real_of(packet, NAT_RINGS[packet.version])
        assert backend
        seen.add((backend.number, sent_port(frame, packet.version)))
    assert len(seen) == 600


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
def test_fragments_and_spent_packets(bench: Bench, opening: Packet) -> None:
    bench.expect(opening.but(fragment=(0, True)), "drop_nat_fragment", service=SHOP)
    bench.expect(opening.but(ttl=1), "drop_hop_limit", service=SHOP)
    sent, _ = begin(bench, opening)
    bench.expect(bench.answer(sent, ttl=1, flags=SYN | ACK), "drop_hop_limit", service=SHOP)


def test_a_real_of_the_other_version_is_no_way(bench: Bench) -> None:
    bench.ring(NAT_RINGS[4], [3] * 65537)
    bench.expect(SHOP4, "drop_other_version", service=SHOP)


@BOTH
@pytest.mark.parametrize("quote", [8, 20, 200])
@pytest.mark.parametrize("kind", ["unreachable", "too big", "expired"])
def test_errors_from_the_clients_side_reach_the_real(
    bench: Bench, opening: Packet, kind: str, quote: int
) -> None:
    """They quote an answer as the client got it; the real must find its own packet in the quotation."""
    number = {"unreachable": (3, 1), "too big": (3, 2), "expired": (11, 3)}[kind][opening.version == 6]
    sent, backend = begin(bench, opening)
    answer = bench.answer(sent, flags=ACK, payload=bytes(range(100)))
    reporter = "192.0.2.99" if opening.version == 4 else "2001:db8:77::1"
    before = error(back(opening, answer), kind=number, code=4, rest=1300, reporter=reporter, quote=quote)
    # TTL of the quoted packet is what the reporter saw.
    wanted = error(answer.but(ttl=answer.ttl - 1), kind=number, code=4, rest=1300, reporter=NAT4, quote=quote)
    wanted = wanted.but(
        source=sent.source,
        destination=backend.address,
        ttl=before.ttl - 1,
        source_mac=OUR_MAC,
        destination_mac=backend.mac,
    )
    bench.expect(before, "send_nat", service=SHOP, frame=wanted.bytes())


@BOTH
@pytest.mark.parametrize("protocol", [6, UDP])
@pytest.mark.parametrize("quote", [8, 200])
def test_errors_from_the_reals_side_reach_the_client(
    bench: Bench, opening: Packet, protocol: int, quote: int
) -> None:
    service = GAME if protocol == UDP else SHOP
    if protocol == UDP:
        opening = opening.but(protocol=UDP, dport=27015, payload=bytes(range(99)), dscp_ecn=46 << 2)
    sent, _ = begin(bench, opening, service)
    reporter = "10.77.0.1" if opening.version == 4 else "fd00:77::1"
    kind, code = (3, 4) if opening.version == 4 else (2, 0)
    before = error(sent, kind=kind, code=code, rest=1280, reporter=reporter, quote=quote)
    seen = opening.but(ttl=sent.ttl)
    wanted = error(seen, kind=kind, code=code, rest=1280, reporter=opening.destination, quote=quote)
    wanted = wanted.but(ttl=before.ttl - 1, source_mac=OUR_MAC, destination_mac=PEER_MAC)
    bench.expect(before, "send_answer", service=service, frame=wanted.bytes())


@BOTH
def test_answers_follow_the_client_to_another_gateway(bench: Bench, opening: Packet) -> None:
    sent = establish(bench, opening)
    moved = opening.but(flags=ACK, source_mac=b"\x02\0\0\0\0\x99")
    bench.run(moved)
    answer = bench.answer(sent, flags=ACK)
    wanted = back(opening, answer).but(destination_mac=moved.source_mac)
    bench.expect(answer, "send_answer", service=SHOP, frame=wanted.bytes())


@BOTH
def test_a_flow_stays_while_the_ring_moves(bench: Bench, opening: Packet) -> None:
    """Fail, failback and finalise of the other slots: an established flow keeps real and port."""
    ring = bench.ring(NAT_RINGS[opening.version], [1 if opening.version == 4 else 3] * 65537)
    first, second = (1, 2) if opening.version == 4 else (3, 4)
    ring.step([second] * 65537)
    bench.tables.put_ring(NAT_RINGS[opening.version], ring)
    opening = opening.but(sport=3333)
    sent_frame = bench.run(opening)[1]
    backend = BACKENDS[second - 1]
    sent = bench.translated(opening, backend, sent_port(sent_frame, opening.version))
    assert sent_frame == sent.bytes()
    ring.step([first] * 65537)
    bench.tables.put_ring(NAT_RINGS[opening.version], ring)
    onward = opening.but(flags=ACK)
    bench.expect(onward, "send_nat", service=SHOP, frame=bytes_to(bench, onward, sent))
    answer = bench.answer(sent, flags=ACK)
    bench.expect(answer, "send_answer", service=SHOP, frame=back(opening, answer).bytes())


@BOTH
@pytest.mark.parametrize("left", ["another real", "none"])
def test_a_flow_that_sends_while_its_real_is_down_is_its_reals_after_failback(
    bench: Bench, opening: Packet, left: str
) -> None:
    """TCP cannot go on elsewhere: what it sends pins it to nobody else, and its real has it again at once."""
    number, (first, second) = NAT_RINGS[opening.version], (1, 2) if opening.version == 4 else (3, 4)
    ring = bench.ring(number, [first] * 65537)
    sent = establish(bench, opening)
    onward = opening.but(flags=ACK, payload=b"are you there?")
    bench.real(BACKENDS[first - 1], "down")
    ring.step([second if left == "another real" else 0] * 65537)
    bench.tables.put_ring(number, ring)
    for _ in range(3):
        bench.expect(onward, "send_nat", service=SHOP, frame=bytes_to(bench, onward, sent))
    newcomer = opening.but(sport=opening.sport + 1)
    if left == "none":
        bench.expect(newcomer, "drop_no_real", service=SHOP)
    else:
        assert bench.run(newcomer)[0] == "TX"
    bench.real(BACKENDS[first - 1], "up")
    ring.step([first] * 65537)
    bench.tables.put_ring(number, ring)
    bench.expect(onward, "send_nat", service=SHOP, frame=bytes_to(bench, onward, sent))
    answer = bench.answer(sent, flags=ACK)
    bench.expect(answer, "send_answer", service=SHOP, frame=back(opening, answer).bytes())


@BOTH
def test_what_nat_does_not_know_pins_nothing(bench: Bench, opening: Packet) -> None:
    """A flood of acknowledgements to a moved slot writes no flow table."""
    number, (first, second) = NAT_RINGS[opening.version], (1, 2) if opening.version == 4 else (3, 4)
    ring = bench.ring(number, [first] * 65537)
    ring.step([second] * 65537)
    bench.tables.put_ring(number, ring)
    for port in range(2000, 2050):
        bench.expect(opening.but(sport=port, flags=ACK), "drop_nat_unknown", service=SHOP)
    bench.expect(opening.but(ttl=1), "drop_hop_limit", service=SHOP)
    assert all(not list(bench.generation.maps[name].keys()) for name in ("flows", "flows_new"))
    begin(bench, opening)
    assert len(list(bench.generation.maps["flows_new"].keys())) == 1


@BOTH
def test_datagrams_leave_a_real_that_is_down(bench: Bench, opening: Packet) -> None:
    """Without connections nothing is lost elsewhere; and what is new goes where new flows go."""
    number, (first, second) = NAT_RINGS[opening.version], (1, 2) if opening.version == 4 else (3, 4)
    ring = bench.ring(number, [first] * 65537)
    old = opening.but(protocol=UDP, dport=27015, payload=b"hello", dscp_ecn=46 << 2)
    sent, _ = begin(bench, old, GAME)
    ring.step([second] * 65537)
    bench.tables.put_ring(number, ring)
    bench.expect(old, "send_nat", service=GAME, frame=bytes_to(bench, old, sent))
    new, elsewhere = begin(bench, old.but(sport=4444), GAME)
    assert elsewhere.number == second and new.destination != sent.destination
    bench.real(BACKENDS[first - 1], "down")
    assert begin(bench, old, GAME)[1].number == second


@BOTH
def test_a_silent_connection_keeps_its_slot_from_being_finalised(bench: Bench, opening: Packet) -> None:
    """Nothing was sent since the ring moved, and the flow is known all the same; until it ends."""
    number, (first, second) = NAT_RINGS[opening.version], (1, 2) if opening.version == 4 else (3, 4)
    ring = bench.ring(number, [first] * 65537)
    sent = establish(bench, opening)
    assert pinned_slots(bench.generation) == {}
    ring.step([second] * 65537)
    bench.tables.put_ring(number, ring)
    here = slot(flow_hash(opening.source, opening.sport, opening.dport, BALANCE_SEED))
    assert pinned_slots(bench.generation) == {number: {here}}
    assert pinned_reals(bench.generation) == {first}
    ring.finalise(sorted(ring.moved_slots() - {here}))
    bench.tables.put_ring(number, ring)
    onward = opening.but(flags=ACK)
    bench.expect(onward, "send_nat", service=SHOP, frame=bytes_to(bench, onward, sent))
    bench.run(opening.but(flags=RST))
    for table in (bench.generation.maps[name] for name in ("flows", "flows_new")):
        for key in list(table.keys()):
            table.delete(key)
    assert pinned_slots(bench.generation) == {} and pinned_reals(bench.generation) == set()


TIGHT = Sizes(services=64, reals=64, limit_blocks=1024, flows=4096, nat_ports=64, nat_banks=1)


def test_a_flood_takes_no_port_of_a_confirmed_flow(loaded: Loader) -> None:
    """64 ports, a third of them confirmed; 5,000 SYNs that reals answer and nobody acknowledges take none.

    A blind acknowledgement (wrong number) confirms nothing.
    """
    bench = Bench(loaded(sizes=TIGHT))
    live = [
        (SHOP4.but(sport=2000 + number), establish(bench, SHOP4.but(sport=2000 + number)))
        for number in range(20)
    ]
    before = opened(bench)
    for number in range(5000):
        spoofed = SHOP4.but(source=str(ip_address(0x0B000000 + number)))
        verdict, frame = bench.run(spoofed)
        if verdict != "TX":
            continue
        backend = bench.real_of(spoofed, NAT_RINGS[4])
        assert backend
        sent = bench.translated(spoofed, backend, sent_port(frame, 4))
        bench.run(bench.answer(sent, flags=SYN | ACK, seq=number << 16))
        bench.run(spoofed.but(flags=ACK, ack=(number << 16) + 0x20000))
    assert opened(bench) == before
    for opening, sent in live:
        onward = opening.but(flags=ACK)
        bench.expect(onward, "send_nat", service=SHOP, frame=bytes_to(bench, onward, sent))
        answer = bench.answer(sent, flags=ACK)
        bench.expect(answer, "send_answer", service=SHOP, frame=back(opening, answer).bytes())


def test_ports_that_are_all_open_are_refused_not_taken(loaded: Loader) -> None:
    bench = Bench(
        loaded(sizes=Sizes(services=64, reals=64, limit_blocks=1024, flows=64, nat_ports=8, nat_banks=1))
    )
    live = [SHOP4.but(sport=2000 + number) for number in range(8)]
    sent = [establish(bench, opening) for opening in live]
    assert len({packet.sport for packet in sent}) == 8
    bench.expect(SHOP4.but(sport=3000), "drop_nat_full", service=SHOP)
    for opening, was in zip(live, sent, strict=True):
        onward = opening.but(flags=ACK)
        bench.expect(onward, "send_nat", service=SHOP, frame=bytes_to(bench, onward, was))


@pytest.mark.parametrize(
    ("ends", "free"),
    [
        (["client RST"], True),
        (["real RST"], True),
        (["client FIN", "real FIN"], True),
        (["client FIN"], False),
        (["real FIN"], False),
        ([], False),
    ],
)
def test_ended_connections_give_their_ports_back_sooner(loaded: Loader, ends: list[str], free: bool) -> None:
    """With no patience for closed flows, the eighth port is free at the next second, or is not."""
    bench = Bench(
        loaded(sizes=Sizes(services=64, reals=64, limit_blocks=1024, flows=64, nat_ports=8, nat_banks=1))
    )
    bench.configure(nat_closing_s=0, nat_tcp_s=65535)
    live = [SHOP4.but(sport=2000 + number) for number in range(8)]
    sent = [establish(bench, opening) for opening in live]
    for end in ends:
        flags = RST if end.endswith("RST") else FIN | ACK
        if end.startswith("client"):
            bench.run(live[3].but(flags=flags))
        else:
            bench.run(bench.answer(sent[3], flags=flags))
    age(bench, seconds=5)
    newcomer = SHOP4.but(sport=3000)
    if not free:
        bench.expect(newcomer, "drop_nat_full", service=SHOP)
        return
    assert begin(bench, newcomer)[0].sport == sent[3].sport


def age(bench: Bench, *, seconds: int) -> None:
    """All flows were last seen so much earlier."""
    table = bench.generation.maps["nat_sets"]
    for row in range(1):
        tags = table.get(row)["tags"]
        table.put(row, {"tags": [tag - (seconds << 8) for tag in tags]})


def test_the_same_ports_after_the_end_are_a_new_flow(bench: Bench) -> None:
    sent = establish(bench, SHOP4)
    bench.run(bench.answer(sent, flags=RST))
    assert begin(bench, SHOP4)[0].sport == sent.sport
    bench.expect(
        SHOP4.but(flags=ACK, ack=9),
        "send_nat",
        service=SHOP,
        frame=bytes_to(bench, SHOP4.but(flags=ACK, ack=9), sent),
    )


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


def test_a_table_of_another_meaning_starts_empty(bench: Bench, loaded: Loader) -> None:
    """Same size, another first port: a row would be another flow's."""
    sizes = Sizes(
        services=64,
        reals=64,
        limit_blocks=1024,
        flows=4096,
        nat_ports=4096,
        nat_banks=4,
        nat_first_port=24096,
    )
    following = loaded(predecessor=bench.generation, sizes=sizes)
    assert set(following.fresh) == {"nat_sets", "nat_flows", "nat_geometry"}


def test_a_removed_real_takes_nothing(bench: Bench) -> None:
    bench.ring(NAT_RINGS[4], [1] * 65537)
    begin(bench, SHOP4)
    bench.tables.delete_real(1)
    bench.expect(SHOP4, "drop_internal", service=SHOP)
    bench.tables.put_real(1, Real(ip_address("10.1.0.1"), BACKENDS[0].mac))
    begin(bench, SHOP4)
