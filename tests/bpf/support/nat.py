"""Flows of NAT as tests speak of them: how they begin, what is answered, what the client must see."""

from __future__ import annotations

import pytest

from tests.bpf.support.bench import BACKENDS, GAME, NAT_RINGS, SHOP, VIP4, VIP6, Backend, Bench
from tests.bpf.support.packets import ACK, OUR_MAC, PEER_MAC, SYN, Packet

SHOP4 = Packet(destination=VIP4, dport=80, flags=SYN, payload=b"")
SHOP6 = Packet(source="2001:db8::7", destination=VIP6, dport=80, flags=SYN, payload=b"")
BOTH = pytest.mark.parametrize("opening", [SHOP4, SHOP6], ids=["IPv4", "IPv6"])
FIRST, PORTS = 20000, 4096  # of the range; SMALL has as many


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
