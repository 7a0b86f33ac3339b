"""The backend's program: what edges encapsulate comes out as it was; nothing else is touched."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.bpf.support.packets import UDP, Packet, difference, gue
from xds_agent.datapath.decap import Decap, load_decap
from xds_agent.datapath.libbpf import Unavailable
from xds_agent.datapath.program import DROP, PASS

pytestmark = pytest.mark.root

INNER = {
    4: Packet(dport=443, payload=bytes(range(200))),
    6: Packet(source="2001:db8::7", destination="2001:db8:ffff::1", dport=443, payload=bytes(range(200))),
}
EDGES = {4: ("10.9.0.1", "10.1.0.1"), 6: ("fd00:9::1", "fd00:1::3")}
TAGS = [(), ((0x8100, 5),), ((0x88A8, 5), (0x8100, 6))]
MAC = bytes.fromhex("020000000101")


@pytest.fixture
def decap(program: Path) -> Iterator[Decap]:
    try:
        loaded = load_decap(
            program.parent / "decap.bpf.o", accept=[ip_network("10.9.0.1/32"), ip_network("fd00:9::/64")]
        )
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield loaded
    loaded.close()


def wrapped(inner: Packet, outer: int, *, source: str | None = None, port: int = 6080) -> bytes:
    edge, real = EDGES[outer]
    return gue(inner, source=source or edge, real=real, mac=MAC, port=port, sport=50000)


@pytest.mark.parametrize("tags", TAGS, ids=["untagged", "tagged", "two tags"])
@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
def test_the_inner_packet_comes_out(
    decap: Decap, inner: int, outer: int, tags: tuple[tuple[int, int], ...]
) -> None:
    packet = INNER[inner].but(tags=tags)
    wanted = packet.but(source_mac=packet.destination_mac, destination_mac=MAC).bytes()
    verdict, received = decap.run(wrapped(packet, outer))
    assert (verdict, received) == (PASS, wanted), difference(wanted, received)
    assert decap.counts()["pass_decapsulated"].packets == 1


@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize(("ecn", "wanted"), [(0, 0), (1, 3), (2, 3), (3, 3)])
def test_congestion_on_the_way_is_handed_on(decap: Decap, inner: int, ecn: int, wanted: int) -> None:
    """RFC 6040: CE outside, and the inner packet's sender understands ECN."""
    packet = INNER[inner].but(dscp_ecn=0xB8 | ecn)
    frame = bytearray(wrapped(packet, 6))
    frame[14:16] = bytes([0x6B, 0xB0])  # traffic class 0xBB: CE
    expected = packet.but(
        dscp_ecn=0xB8 | wanted, source_mac=packet.destination_mac, destination_mac=MAC
    ).bytes()
    assert decap.run(bytes(frame)) == (PASS, expected)


def test_only_edges_and_only_the_tunnels_port(decap: Decap) -> None:
    assert decap.run(wrapped(INNER[4], 4, source="10.9.0.2"))[0] == DROP
    assert decap.run(wrapped(INNER[4], 6, source="fd00:8::1"))[0] == DROP
    other = wrapped(INNER[4], 4, port=6081)
    assert decap.run(other) == (PASS, other)
    plain = Packet(protocol=UDP, dport=443).bytes()
    assert decap.run(plain) == (PASS, plain)
    empty = Packet(source="10.9.0.1", protocol=UDP, dport=6080, payload=b"").bytes()
    assert decap.run(empty)[0] == DROP
    garbage = Packet(source="10.9.0.1", protocol=UDP, dport=6080, payload=bytes(40)).bytes()
    assert decap.run(garbage)[0] == DROP
    assert {name: count.packets for name, count in decap.counts().items()} == {
        "drop_tunnel_peer": 2,
        "drop_truncated": 1,
        "drop_bad_header": 1,
        "pass_kernel": 2,
    }
