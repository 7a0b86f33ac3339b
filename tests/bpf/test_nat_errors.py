"""ICMP errors through NAT, both ways: each end finds a packet of its own in what they quote."""

from __future__ import annotations

import pytest

from tests.bpf.support.bench import GAME, NAT4, SHOP, Bench
from tests.bpf.support.nat import BOTH, back, begin
from tests.bpf.support.packets import ACK, OUR_MAC, PEER_MAC, UDP, Packet, error

pytestmark = pytest.mark.root


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
@pytest.mark.parametrize("said", ["too big", "expired", "port unreachable"])
def test_errors_from_the_reals_side_reach_the_client(
    bench: Bench, opening: Packet, protocol: int, quote: int, said: str
) -> None:
    """From the real, or a router on the way to it: what traceroute lives by."""
    service = GAME if protocol == UDP else SHOP
    if protocol == UDP:
        opening = opening.but(protocol=UDP, dport=27015, payload=bytes(range(99)), dscp_ecn=46 << 2)
    sent, _ = begin(bench, opening, service)
    reporter = "10.77.0.1" if opening.version == 4 else "fd00:77::1"
    numbers = {
        "too big": ((3, 4), (2, 0)),
        "expired": ((11, 0), (3, 0)),
        "port unreachable": ((3, 3), (1, 4)),
    }
    kind, code = numbers[said][opening.version == 6]
    before = error(sent, kind=kind, code=code, rest=1280, reporter=reporter, quote=quote)
    seen = opening.but(ttl=sent.ttl)
    wanted = error(seen, kind=kind, code=code, rest=1280, reporter=opening.destination, quote=quote)
    wanted = wanted.but(ttl=before.ttl - 1, source_mac=OUR_MAC, destination_mac=PEER_MAC)
    bench.expect(before, "send_answer", service=service, frame=wanted.bytes())
