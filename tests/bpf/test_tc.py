"""tc: marks and classes of what leaves, and connections through SYN cookies from XDP to a listener."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.bpf.conftest import Loader
from tests.bpf.support.bench import LOCAL, VIP4, VIP6, Bench
from tests.bpf.support.network import Network, network
from tests.bpf.support.oracle_cookie import Cookies
from tests.bpf.support.packets import ACK, FIN, QINQ, RST, SYN, UDP, VLAN, Packet, difference
from xds_agent.datapath import info
from xds_agent.datapath import program as program_module
from xds_agent.datapath import tc as tc_module
from xds_agent.datapath.counters import Counters
from xds_agent.datapath.decap import load_decap
from xds_agent.datapath.libbpf import test_run_tc as run_tc
from xds_agent.datapath.limit import Rate
from xds_agent.datapath.link import Link
from xds_agent.datapath.program import PASS, TX, Generation
from xds_agent.datapath.services import TCP, Service, Settings, Tables
from xds_agent.datapath.tc import TcGeneration, TcLink, load_tc

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

UNSPEC = -1
ANSWERS = {
    4: Packet(source=VIP4, destination="198.51.100.7", sport=8443, dport=40000),
    6: Packet(source=VIP6, destination="2001:db8::7", sport=8443, dport=40000),
}
CLASS, USUAL = 0x10010, 0x10020
KEY = bytes(range(16))


@pytest.fixture
def tc(bench: Bench, program: Path) -> Iterator[TcGeneration]:
    loaded = load_tc(program.parent / "tc.bpf.o", beside=bench.generation)
    yield loaded
    loaded.close()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tags", [(), ((VLAN, 5),), ((QINQ, 5), (VLAN, 6))], ids=["0", "1", "2 tags"])
@pytest.mark.parametrize("ecn", [0, 1, 3])
def test_what_leaves_for_a_service_is_marked(
    bench: Bench, tc: TcGeneration, version: int, tags: tuple[tuple[int, int], ...], ecn: int
) -> None:
    """DSCP and class of the service; ECN and everything else stay."""
    tc.put_egress(LOCAL, htb_class=CLASS, dscp=34)
    packet = ANSWERS[version].but(tags=tags, dscp_ecn=10 << 2 | ecn, options=b"\x01" * 4 * (version == 4))
    wanted = packet.but(dscp_ecn=34 << 2 | ecn).bytes()
    returned, received, priority = run_tc(tc.fds["egress"], packet.bytes())
    assert received == wanted, difference(wanted, received)
    assert (returned, priority) == (UNSPEC, CLASS)
    assert bench.counters.service(LOCAL)["note_egress"].packets == 1


@pytest.mark.parametrize("version", [4, 6])
def test_others_go_by_the_mark_they_have(tc: TcGeneration, version: int) -> None:
    tc.put_class(46, USUAL)
    tc.put_egress(LOCAL, htb_class=CLASS, dscp=34)
    for packet, wanted in [
        (ANSWERS[version].but(sport=9, dscp_ecn=46 << 2 | 1), USUAL),
        (ANSWERS[version].but(protocol=UDP, dscp_ecn=46 << 2), USUAL),
        (ANSWERS[version].but(sport=9, dscp_ecn=10 << 2), 0),
    ]:
        assert run_tc(tc.fds["egress"], packet.bytes()) == (UNSPEC, packet.bytes(), wanted)


def test_a_fragments_payload_is_no_port(tc: TcGeneration) -> None:
    tc.put_egress(LOCAL, htb_class=CLASS, dscp=34)
    later = ANSWERS[4].but(fragment=(64, False))
    assert run_tc(tc.fds["egress"], later.bytes()) == (UNSPEC, later.bytes(), 0)


def test_marks_of_a_service_may_be_left_to_the_sender(tc: TcGeneration) -> None:
    """A class without a mark; a mark without a class goes by the mark."""
    tc.put_class(34, USUAL)
    tc.put_egress(LOCAL, htb_class=CLASS)
    assert run_tc(tc.fds["egress"], ANSWERS[4].bytes()) == (UNSPEC, ANSWERS[4].bytes(), CLASS)
    tc.put_egress(LOCAL, dscp=34)
    assert run_tc(tc.fds["egress"], ANSWERS[4].bytes())[2] == USUAL


@dataclass
class Host:
    """An edge with a listener of its own, and a client; both ways of attaching."""

    network: Network
    generation: Generation
    counters: Counters
    listener: socket.socket


ADDRESS = {4: ("10.91.0.1", "10.91.0.2"), 6: ("fd00:91::1", "fd00:91::2")}
PORT = 8443


@pytest.fixture(params=[True, False], ids=["tcx", "clsact"])
def host(request: pytest.FixtureRequest, loaded: Loader, program: Path) -> Iterator[Host]:
    generation = loaded()
    if generation.missing:
        pytest.skip(generation.missing[0])
    tc = load_tc(program.parent / "tc.bpf.o", beside=generation)
    passing = load_decap(program.parent / "decap.bpf.o", accept=[])
    closing: list[Callable[[], None]] = [tc.close, passing.close]
    with network() as made:
        try:
            for name in ("edge", "client"):
                made.host(name)
            made.join("edge", "client")
            for version in (4, 6):
                bits = 24 if version == 4 else 64
                made.address("edge", "client", f"{ADDRESS[version][0]}/{bits}")
                made.address("client", "edge", f"{ADDRESS[version][1]}/{bits}")
            made.settle()
            index, peer = made.index("edge", "client"), made.index("client", "edge")
            links = [made.inside("edge", lambda: Link.attach(generation, index))]
            links.append(made.inside("client", lambda: Link.attach(Passing(passing.pass_fd), peer)))
            closing += [link.close for link in links]
            ingress = made.inside("edge", lambda: TcLink.attach(tc, index, "ingress", tcx=request.param))
            assert ingress.clsact != request.param
            closing.append(ingress.close)
            listener = made.inside("edge", listen)
            closing.append(listener.close)
            yield Host(made, generation, Counters(generation), listener)
        finally:
            for close in reversed(closing):
                close()


@dataclass
class Passing:
    program_fd: int


def listen() -> socket.socket:
    """Both IP versions."""
    made = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    made.settimeout(20)
    return made


@pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
def test_connections_through_cookies(host: Host, version: int) -> None:
    """Every one of twenty: XDP answers, the kernel hears of it when the client comes back, data flows."""
    tables = Tables(host.generation)
    # The first is the kernel's, everybody else gets a cookie.
    tables.configure(Settings(cookies_above=Rate(0.001, burst=1), cookie_key=KEY))
    tables.put_service(Service(LOCAL, ip_address(ADDRESS[version][0]), PORT, TCP))
    tables.put_own([ip_address(ADDRESS[version][0])])
    served = threading.Thread(target=serve, args=(host.listener, 20))
    served.start()
    for number in range(20):
        text = bytes([number]) * 100_000
        with host.network.inside("client", lambda: connect(version)) as connection:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            got = b""
            while part := connection.recv(65536):
                got += part
            assert got == text
            # What the client and the edge said in their first packets holds on.
            assert segment(connection) >= 1400
    served.join(20)
    assert not served.is_alive()
    counts = host.counters.service(LOCAL)
    assert counts["pass_kernel"].packets > 0
    assert counts["send_cookie"].packets == 19
    assert counts["note_cookie_accepted"].packets == 19


def connect(version: int) -> socket.socket:
    return socket.create_connection((ADDRESS[version][0], PORT), timeout=20)


def segment(connection: socket.socket) -> int:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


def serve(listener: socket.socket, count: int) -> None:
    for _ in range(count):
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            got = b""
            while part := connection.recv(65536):
                got += part
            connection.sendall(got)


def test_a_made_up_cookie_opens_nothing(host: Host) -> None:
    """An acknowledgement out of nowhere is answered by a reset, as ever."""
    tables = Tables(host.generation)
    tables.configure(Settings(cookies_above=Rate(0.001, burst=1), cookie_key=KEY))
    tables.put_service(Service(LOCAL, ip_address(ADDRESS[4][0]), PORT, TCP))
    tables.put_own([ip_address(ADDRESS[4][0])])
    stray = Packet(source=ADDRESS[4][1], destination=ADDRESS[4][0], sport=4444, dport=PORT, ack=0x12345678)

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
            raw.sendto(stray.l4(), (ADDRESS[4][0], 0))

    host.network.inside("client", send)
    with host.network.inside("client", lambda: connect(4)):
        host.listener.accept()[0].close()
    assert "note_cookie_accepted" not in {*host.counters.service(0), *host.counters.service(LOCAL)}


def random_acknowledgement(chance: random.Random, cookies: Cookies, minute: int, at: int) -> Packet:
    """What a client might send that got a cookie, or somebody who did not."""
    version, number = chance.choice([4, 6]), chance.getrandbits(32)
    source = f"10.91.0.{3 + at % 250}" if version == 4 else f"fd00:91::{at + 3:x}"
    own = ADDRESS[version][0]
    said = chance.choice([3, 2, 0]) << 5 | chance.choice([0, 16]) | chance.choice([15, 0, 7, 14])
    cookie = cookies.cookie(
        (source, 1024 + at, own, PORT), number, said, minute - chance.choice([0, 0, 1, 2, -1])
    )
    packet = Packet(
        source=source,
        destination=own,
        sport=1024 + at,
        dport=PORT,
        flags=chance.choice([ACK, ACK, ACK, ACK | 8, ACK | FIN, ACK | SYN, ACK | RST]),
        seq=(number + 1) & 0xFFFFFFFF,
        ack=(cookie + 1) & 0xFFFFFFFF,
        payload=b"",
    )
    other = [{}, {}, {"seq": number}, {"ack": packet.ack ^ 1 << chance.randrange(32)}, {"dport": PORT + 1}]
    return packet.but(**chance.choice(other))


def test_tc_takes_exactly_the_cookies_that_the_oracle_takes(host: Host) -> None:
    """A thousand acknowledgements with cookies of now, old, of other flows, with a bit wrong."""
    tables = Tables(host.generation)
    tables.configure(Settings(cookies_above=Rate(0.001, burst=1), cookie_key=KEY))
    own = [ip_address(ADDRESS[version][0]) for version in (4, 6)]
    tables.put_own(own)
    cookies = Cookies(KEY, frozenset(map(str, own)), frozenset({PORT}), above=1)
    macs = {
        "destination_mac": host.network.mac("edge", "client"),
        "source_mac": host.network.mac("client", "edge"),
    }

    def minute() -> int:
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 60_000_000_000

    def arrived() -> int:
        count = host.counters.service(0).get("pass_kernel")
        return count.packets if count else 0

    def send(packets: list[Packet]) -> None:
        """In bursts that a ring of the card holds."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("edge", 0))
            for start in range(0, len(packets), 100):
                burst, had = packets[start : start + 100], arrived()
                for packet in burst:
                    raw.send(packet.but(**macs).bytes())
                until = time.monotonic() + 20
                while arrived() - had < len(burst) and time.monotonic() < until:
                    time.sleep(0.001)

    def accepted() -> int:
        count = host.counters.service(0).get("note_cookie_accepted")
        return count.packets if count else 0

    chance = random.Random(7)
    for attempt in range(3):
        before, then = accepted(), minute()
        packets = [random_acknowledgement(chance, cookies, then, attempt * 1001 + at) for at in range(1000)]
        own_cookie = cookies.cookie((ADDRESS[4][1], 999, ADDRESS[4][0], PORT), 5, 0x6F, then)
        last = Packet(source=ADDRESS[4][1], destination=ADDRESS[4][0], sport=999, dport=PORT, seq=6)
        packets.append(last.but(ack=(own_cookie + 1) & 0xFFFFFFFF, payload=b""))
        wanted = sum(cookies.accepts(packet, then) for packet in packets)
        host.network.inside("client", lambda packets=packets: send(packets))
        until = time.monotonic() + 20
        while accepted() - before < wanted and time.monotonic() < until and minute() == then:
            time.sleep(0.01)
        if minute() == then:
            break
    assert 100 < wanted < 900
    assert accepted() - before == wanted


@pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
def test_what_the_host_forwards_is_not_answered_by_cookies(host: Host, version: int) -> None:
    """A listener on every address is found for any destination, and an edge may be others' gateway. Nor does
    what goes on count towards the threshold."""
    tables = Tables(host.generation)
    tables.configure(Settings(cookies_above=Rate(0.001, burst=1), cookie_key=KEY))
    own, client = (ip_address(one) for one in ADDRESS[version])
    tables.put_own([ip_address("192.0.2.9"), ip_address("2001:db8::9")])
    tables.put_own([own])
    opening = Packet(source=str(client), destination=str(own), sport=4444, dport=PORT, flags=2, options=b"")
    # The last one begins with the bytes of the host's own, as the other IP version has them.
    strangers = {4: ("10.20.0.5", "192.0.2.9"), 6: ("2001:db8::5", "2001:db8::9", "a5b:1::")}[version]
    inside = host.network.inside
    for stranger in strangers * 3:
        frame = opening.but(destination=stranger).bytes()
        assert inside("edge", lambda frame=frame: host.generation.run(frame)) == (PASS, frame)
    assert "send_cookie" not in host.counters.service(0)
    to_us = [inside("edge", lambda: host.generation.run(opening.bytes()))[0] for _ in range(3)]
    assert to_us == [PASS, TX, TX]


def test_cookies_need_a_secret(bench: Bench) -> None:
    with pytest.raises(ValueError, match="16 secret bytes"):
        bench.configure(cookies_above=Rate(1))


def test_a_kernel_without_cookies_is_named_and_all_else_loads(
    loaded: Loader, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (program_module, tc_module):
        monkeypatch.setattr(module, "cookies_missing", lambda: "SYN cookies: not here")
    generation = loaded()
    assert generation.missing == ("SYN cookies: not here",)
    tc = load_tc(program.parent / "tc.bpf.o", beside=generation)
    try:
        assert tc.missing == generation.missing and set(tc.fds) == {"egress"}
    finally:
        tc.close()


def test_what_this_kernel_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "vmlinux"
    old.write_bytes(b"\0bpf_sk_release\0")
    monkeypatch.setattr(info, "_KERNEL_TYPES", old)
    assert "Linux 6.12" in str(info.cookies_missing.__wrapped__())
