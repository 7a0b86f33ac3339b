"""What the parser makes of link headers, options, extension headers, fragments, and of what is broken."""

from __future__ import annotations

import pytest

from tests.bpf.support.bench import LOCAL, NAMES, VIP4, VIP6, WEB, Bench
from tests.bpf.support.packets import (
    AH,
    DSTOPTS,
    FRAGMENT,
    HOPOPTS,
    QINQ,
    ROUTING,
    SYN,
    TCP,
    UDP,
    VLAN,
    Packet,
)

pytestmark = pytest.mark.root

WEB4 = Packet(destination=VIP4, dport=443)
WEB6 = Packet(source="2001:db8::7", destination=VIP6, dport=443)
TAGS = [(), ((VLAN, 7),), ((QINQ, 0x2007), (VLAN, 9))]


@pytest.mark.parametrize("tags", TAGS, ids=["untagged", "one tag", "two tags"])
@pytest.mark.parametrize("packet", [WEB4, WEB6], ids=["IPv4", "IPv6"])
def test_tags_are_seen_through_and_kept(
    bench: Bench, packet: Packet, tags: tuple[tuple[int, int], ...]
) -> None:
    packet = packet.but(tags=tags)
    backend = bench.real_of(packet, 1)
    assert backend
    bench.expect(packet, "send_gue", service=WEB, frame=bench.encapsulated(packet, backend))


def test_a_third_tag_is_not_ours(bench: Bench) -> None:
    bench.expect(WEB4.but(tags=((QINQ, 1), (VLAN, 2), (VLAN, 3))), "pass_not_ip")


@pytest.mark.parametrize("words", range(11))
def test_options_of_every_length(bench: Bench, words: int) -> None:
    """`ihl` from 5 to 15: ports lie behind the options."""
    packet = WEB4.but(options=b"\x01" * (4 * words))
    backend = bench.real_of(packet, 1)
    assert backend
    bench.expect(packet, "send_gue", service=WEB, frame=bench.encapsulated(packet, backend))


def chain(*kinds: int) -> tuple[tuple[int, bytes], ...]:
    """Extension headers of 8 or 16 bytes."""
    return tuple((kind, bytes(14) if index % 2 else bytes(6)) for index, kind in enumerate(kinds))


@pytest.mark.parametrize(
    "extensions",
    [
        chain(HOPOPTS),
        chain(DSTOPTS, ROUTING),
        ((AH, bytes(22)),),
        ((FRAGMENT, bytes(6)),),  # atomic: offset 0, nothing to come
        chain(HOPOPTS, DSTOPTS, ROUTING, DSTOPTS, DSTOPTS, DSTOPTS),
    ],
)
def test_extension_headers_are_walked(bench: Bench, extensions: tuple[tuple[int, bytes], ...]) -> None:
    packet = WEB6.but(extensions=extensions)
    backend = bench.real_of(packet, 1)
    assert backend
    bench.expect(packet, "send_gue", service=WEB, frame=bench.encapsulated(packet, backend))


def test_a_longer_chain_is_dropped(bench: Bench) -> None:
    bench.expect(WEB6.but(extensions=chain(*[DSTOPTS] * 7)), "drop_extensions")


def test_extension_numbers_mean_nothing_in_ipv4(bench: Bench) -> None:
    bench.expect(WEB4.but(protocol=DSTOPTS), "pass_kernel")


@pytest.mark.parametrize("packet", [WEB4, WEB6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("kept", [1, 19, 25])
def test_truncated(bench: Bench, packet: Packet, kept: int) -> None:
    """Cut in the IP header, and in the ports behind a length that says otherwise."""
    whole = packet.bytes()
    cut = whole[: 14 + kept]
    verdict, _ = bench.generation.run(cut)
    assert verdict == 1
    assert bench.counters.service(0)["drop_truncated"].packets == 1


@pytest.mark.parametrize("fields", [{"version": 5}, {"ihl": 4}, {"length": 19}], ids=str)
def test_headers_that_contradict_themselves(bench: Bench, fields: dict[str, int]) -> None:
    bench.expect(WEB4.but(fields=fields), "drop_bad_header")


def test_a_wrong_version_of_ipv6(bench: Bench) -> None:
    bench.expect(WEB6.but(fields={"version": 4}), "drop_bad_header")


def test_ethernet_padding_is_not_part_of_the_packet(bench: Bench) -> None:
    packet = WEB4.but(payload=b"", pad_to=60)
    backend = bench.real_of(packet, 1)
    assert backend
    bench.expect(packet, "send_gue", service=WEB, frame=bench.encapsulated(packet, backend))


@pytest.mark.parametrize(("vip", "source"), [(VIP4, "198.51.100.7"), (VIP6, "2001:db8::7")])
def test_payload_of_a_fragment_is_never_taken_for_ports(bench: Bench, vip: str, source: str) -> None:
    """The second fragment begins with bytes that look like port 22, and then like our service."""
    ssh = Packet(
        source=source,
        destination=vip,
        protocol=TCP,
        transport=b"\x00\x16\x00\x16" + bytes(28),
        fragment=(64, False),
    )
    bench.expect(ssh, "pass_fragment")
    web = ssh.but(transport=b"\x9c\x40\x01\xbb" + bytes(28))
    bench.expect(web, "pass_fragment")


@pytest.mark.parametrize("packet", [WEB4, WEB6], ids=["IPv4", "IPv6"])
def test_no_fragment_hides_a_header_or_writes_over_it(bench: Bench, packet: Packet) -> None:
    """RFC 1858, RFC 3128: a transport header lies in the first fragment, whole. Padding completes none."""
    for size in (8, 16):
        first = packet.but(transport=packet.l4()[:size], fragment=(0, True))
        bench.expect(first, "drop_tiny_fragment")
        bench.expect(first.but(pad_to=80), "drop_tiny_fragment")
        bench.expect(packet.but(transport=bytes(64), fragment=(size, True)), "drop_tiny_fragment")
    elsewhere = "2001:db8:ffff::77" if packet.version == 6 else "203.0.113.77"
    packet = packet.but(destination=elsewhere)
    datagram = packet.but(protocol=UDP, dport=9)
    bench.expect(datagram.but(transport=datagram.l4()[:4], fragment=(0, True)), "drop_tiny_fragment")
    bench.expect(datagram.but(transport=datagram.l4()[:8], fragment=(0, True)), "pass_fragment")
    for later in (packet.but(fragment=(24, True)), datagram.but(fragment=(8, True))):
        bench.expect(later.but(transport=bytes(64)), "pass_fragment")


@pytest.mark.parametrize(("vip", "source"), [(VIP4, "198.51.100.7"), (VIP6, "2001:db8::7")])
def test_fragments_reach_the_real_of_their_flow(bench: Bench, vip: str, source: str) -> None:
    """A service hashed by addresses: whole packets, first and later fragments, whatever the ports."""
    whole = Packet(source=source, destination=vip, protocol=UDP, sport=1053, dport=53)
    backend = bench.real_of(whole, 2, ports=False)
    assert backend
    for packet in (
        whole,
        whole.but(sport=2000),
        whole.but(fragment=(0, True)),
        whole.but(fragment=(1480, False), transport=bytes(40)),
    ):
        bench.expect(
            packet, "send_gue", service=NAMES, frame=bench.encapsulated(packet, backend, ports=False)
        )


def test_fragments_of_a_service_hashed_by_ports_pass(bench: Bench) -> None:
    bench.expect(WEB4.but(fragment=(0, True)), "pass_fragment", service=WEB)
    bench.expect(WEB4.but(fragment=(1480, True), transport=bytes(16)), "pass_fragment")


def test_services_of_the_host_are_counted_as_such(bench: Bench) -> None:
    bench.expect(WEB4.but(dport=8443, flags=SYN), "pass_kernel", service=LOCAL)
    bench.expect(WEB4.but(dport=9), "pass_kernel")
