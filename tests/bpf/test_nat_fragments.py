"""Fragments through NAT: the later ones go where the first went, both ways, and what a flood cannot do."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from tests.bpf.support.bench import BACKENDS, GAME, NAMES, NAT_RINGS, SHOP, VIP4, VIP6, Bench
from tests.bpf.support.nat import BOTH, SHOP4, back, begin, establish
from tests.bpf.support.packets import ACK, UDP, Packet
from xds_agent.datapath.limit import Rate

pytestmark = pytest.mark.root

SIZE = 1480
DATA = bytes(range(256)) * 16


def fragments(whole: Packet, *, number: int = 7, size: int = SIZE) -> list[Packet]:
    """A datagram cut; addresses and hop limit of `whole`, whose checksum is over all of it."""
    body = whole.l4()
    return [
        whole.but(transport=body[at : at + size], fragment=(at, at + size < len(body)), fields={"id": number})
        for at in range(0, len(body), size)
    ]


def datagram(opening: Packet) -> Packet:
    return opening.but(protocol=UDP, dport=27015, payload=DATA, dscp_ecn=46 << 2)


def vips_of_nat(bench: Bench) -> None:
    """The vips are the host's, and no service hashed by addresses takes what nobody knows."""
    own = [ip_address(VIP4), ip_address(VIP6)]
    bench.tables.put_own(own, translated=own)
    for service in bench.services[NAMES]:
        bench.tables.delete_service(service)


@BOTH
@pytest.mark.parametrize("tags", [(), ((0x8100, 5),)], ids=["0", "1 tag"])
@pytest.mark.parametrize("protocol", [6, UDP], ids=["TCP", "UDP"])
def test_fragments_go_where_their_first_one_went(
    bench: Bench, opening: Packet, protocol: int, tags: tuple[tuple[int, int], ...]
) -> None:
    """Put together again they are the translated whole, its checksum right; so are the answer's."""
    service, whole = (GAME, datagram(opening)) if protocol == UDP else (SHOP, opening.but(payload=DATA))
    sent, _ = begin(bench, whole.but(payload=b""), service)
    translated = sent.but(payload=DATA, tags=tags)
    for cut, wanted in zip(fragments(whole.but(tags=tags)), fragments(translated), strict=True):
        bench.expect(cut, "send_nat", service=service, frame=wanted.bytes())
    answer = bench.answer(sent, payload=DATA[::-1], tags=tags, flags=ACK, dscp_ecn=whole.dscp_ecn)
    wanted_answer = fragments(back(whole, answer))
    for cut, wanted in zip(fragments(answer), wanted_answer, strict=True):
        bench.expect(cut, "send_answer", service=service, frame=wanted.bytes())


@BOTH
def test_later_ones_may_overtake_each_other_and_come_twice(bench: Bench, opening: Packet) -> None:
    cuts = fragments(datagram(opening))
    assert bench.run(cuts[0])[0] == "TX"
    for cut in (cuts[2], cuts[1], cuts[2], cuts[1]):
        assert bench.run(cut)[0] == "TX"


@BOTH
def test_a_later_fragment_is_nobodys_without_its_first(bench: Bench, opening: Packet) -> None:
    """Before it, of another datagram, by another source, to another address, or too long after it."""
    vips_of_nat(bench)
    first, later, *_ = fragments(datagram(opening))
    bench.expect(later, "drop_nat_fragment")
    bench.run(first)
    assert bench.run(later)[0] == "TX"
    six = opening.version == 6
    bench.expect(later.but(fields={"id": 8}), "drop_nat_fragment")
    bench.expect(later.but(source="2001:db8::8" if six else "198.51.100.8"), "drop_nat_fragment")
    elsewhere = later.but(destination="2001:db8:ffff::9" if six else "203.0.113.9")
    bench.expect(elsewhere, "pass_fragment")
    bench.configure(nat_fragment_s=0)
    age(bench, ticks=1)
    bench.expect(later, "drop_nat_fragment")


def age(bench: Bench, *, ticks: int) -> None:
    """All first fragments were seen so much earlier."""
    kept = bench.generation.maps["nat_fragments"]
    for row in range(4096):
        places = kept.get(row)["places"]
        if any(places):
            aged = [one & ~0xFFF | (one - ticks) & 0xFFF if one else 0 for one in places]
            kept.put(row, {"places": aged})


@BOTH
def test_what_the_kernel_gets_it_gets_whole(bench: Bench, opening: Packet) -> None:
    """The first fragment was no service's: the later ones are not either, on a service's address too."""
    vips_of_nat(bench)
    first, later, *_ = fragments(datagram(opening).but(dport=9))
    bench.expect(first, "pass_fragment")
    bench.expect(later, "pass_fragment")
    # Where the host itself speaks from, it gets what nobody knows.
    to_nat = later.but(destination="fd00:9::2" if opening.version == 6 else "10.9.0.2", fields={"id": 99})
    bench.expect(to_nat, "pass_fragment")


@BOTH
def test_monitor_mode_lets_a_fragment_pass_that_follows_none(bench: Bench, opening: Packet) -> None:
    vips_of_nat(bench)
    bench.configure(monitor=True)
    _, later, *_ = fragments(datagram(opening))
    bench.expect(later, "pass_fragment")
    assert bench.counters.monitored(0)["drop_nat_fragment"].packets == 1


@BOTH
def test_an_address_without_a_nat_service_gets_fragments_in_any_order(bench: Bench, opening: Packet) -> None:
    """Envoy's datagrams, or the host's own on its second card: a mark that is taken off ends it, too."""
    vips_of_nat(bench)
    _, later, *_ = fragments(datagram(opening).but(dport=9))
    bench.expect(later, "drop_nat_fragment")
    bench.tables.put_own([ip_address(VIP4), ip_address(VIP6)])
    bench.expect(later, "pass_fragment")


@BOTH
def test_what_passes_for_want_of_a_real_passes_whole(bench: Bench, opening: Packet) -> None:
    vips_of_nat(bench)
    service = next(one for one in bench.services[GAME] if one.address.version == opening.version)
    bench.tables.put_service(replace(service, pass_without_real=True))
    bench.ring(NAT_RINGS[opening.version], [0] * 65537)
    first, later, *_ = fragments(datagram(opening))
    bench.expect(first, "pass_no_real", service=GAME)
    bench.expect(later, "pass_fragment")


def test_a_datagram_without_a_checksum_is_not_carried_in_fragments(bench: Bench) -> None:
    """Nothing would tell where two senders' identifications are alike. Whole, it goes as ever."""
    vips_of_nat(bench)
    whole = datagram(SHOP4)
    bare = whole.but(transport=whole.l4()[:6] + b"\0\0" + whole.l4()[8:])
    first, later, *_ = fragments(bare)
    bench.expect(first, "drop_nat_fragment", service=GAME)
    bench.expect(later, "drop_nat_fragment")
    short = datagram(SHOP4).but(payload=b"short")
    short = short.but(transport=short.l4()[:6] + b"\0\0" + short.l4()[8:])
    assert bench.run(short)[0] == "TX"
    bench.configure(monitor=True)
    assert [bench.run(one)[0] for one in (first, later)] == ["TX", "TX"]
    assert bench.counters.monitored(GAME)["drop_nat_fragment"].packets == 1


@BOTH
def test_later_fragments_stay_while_the_ring_moves(bench: Bench, opening: Packet) -> None:
    number, second = NAT_RINGS[opening.version], 2 if opening.version == 4 else 4
    ring = bench.ring(number, [second - 1] * 65537)
    first, later, *_ = fragments(datagram(opening))
    assert bench.run(first)[1][:6] == BACKENDS[second - 2].mac
    ring.step([second] * 65537)
    bench.tables.put_ring(number, ring)
    assert bench.run(later)[1][:6] == BACKENDS[second - 2].mac


@BOTH
def test_fragments_are_denied_and_limited_like_other_packets(bench: Bench, opening: Packet) -> None:
    """Of their source, and of the service whose they are."""
    first, later, *_ = fragments(datagram(opening))
    bench.configure(source_packets=Rate(per_second=0.001, burst=2))
    assert [bench.run(one)[0] for one in (first, later)] == ["TX", "TX"]
    bench.expect(later, "drop_source_rate", service=GAME)
    bench.configure(source_packets=None)
    service = next(one for one in bench.services[GAME] if one.address.version == opening.version)
    bench.tables.put_service(replace(service, packets=Rate(per_second=0.001, burst=1)))
    assert bench.run(later)[0] == "TX"
    bench.expect(later, "drop_service_rate", service=GAME)
    bench.lists_of(deny=["0.0.0.0/0", "::/0"])
    bench.expect(later, "drop_denied", service=GAME)
    bench.expect(first, "drop_denied", service=GAME)


@BOTH
def test_answers_in_fragments_are_limited_in_bytes(bench: Bench, opening: Packet) -> None:
    first, *_ = fragments(datagram(opening))
    sent, _ = begin(bench, datagram(opening).but(payload=b""), GAME)
    service = next(one for one in bench.services[GAME] if one.address.version == opening.version)
    answer, later, *_ = fragments(bench.answer(sent, payload=DATA))
    assert bench.run(answer)[0] == bench.run(later)[0] == "TX"
    bench.tables.put_service(replace(service, answer_bytes=Rate(per_second=0.001, burst=1)))
    bench.run(later)
    bench.expect(later, "drop_answer_bytes", service=GAME)
    bench.expect(first.but(ttl=1), "drop_hop_limit", service=GAME)
    bench.expect(later.but(ttl=1), "drop_hop_limit", service=GAME)


def test_a_flood_takes_no_place_of_a_confirmed_flow(bench: Bench) -> None:
    """More spoofed datagrams than the table has places: a client that was answered sends on in fragments,
    and so does nobody who spoofs its address, with its very identification."""
    live = [SHOP4.but(sport=2000 + number, source=f"192.0.2.{number}") for number in range(1, 21)]
    flows = [(one, establish(bench, one)) for one in live]
    for one in live:
        assert bench.run(carrying(one)[0])[0] == "TX"
    spoofed = fragments(datagram(SHOP4))[0]
    frame = bytearray(spoofed.bytes())
    for number in range(40_000):
        frame[26:30] = (0x0B000000 + number % 50).to_bytes(4, "big")
        frame[18:20] = (number // 50).to_bytes(2, "big")
        bench.generation.run(bytes(frame))
    held = [place for _, row in bench.generation.maps["nat_fragments"].entries() for place in _places(row)]
    assert sum(1 for place in held if place) > 20_000
    for one, sent in flows:
        stranger = fragments(one.but(sport=999, payload=DATA))[0]
        bench.expect(stranger, "drop_fragments_full", service=SHOP)
        for cut, after in list(zip(carrying(one), carrying(sent), strict=True))[1:]:
            bench.expect(cut, "send_nat", service=SHOP, frame=after.bytes())


def carrying(opening: Packet) -> list[Packet]:
    return fragments(opening.but(flags=ACK, ack=7001, payload=DATA))


def _places(row: bytes) -> list[int]:
    return [int.from_bytes(row[at : at + 8], "little") for at in range(0, len(row), 8)]
