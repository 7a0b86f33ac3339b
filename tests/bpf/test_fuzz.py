"""Differential fuzzing: random packets through the program and the oracle, byte by byte, count by count.

A failing run prints its seed: pytest tests/bpf/test_fuzz.py --fuzz-seed N. More: --fuzz-packets 10000000.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from tests.bpf.conftest import SMALL, Loader
from tests.bpf.support.bench import (
    BACKENDS,
    BALANCE_SEED,
    GAME,
    LIMIT_SEED,
    NAT_RINGS,
    VIP4,
    VIP6,
    Bench,
    table,
)
from tests.bpf.support.network import network
from tests.bpf.support.oracle import BYTES, PACKETS, SSH, SYNS, Oracle
from tests.bpf.support.oracle_cookie import Cookies
from tests.bpf.support.oracle_nat import Table
from tests.bpf.support.oracle_parse import Stop, parse
from tests.bpf.support.packets import (
    ACK,
    AH,
    DSTOPTS,
    FIN,
    FRAGMENT,
    HOPOPTS,
    ICMP,
    ICMPV6,
    QINQ,
    ROUTING,
    RST,
    SYN,
    TCP,
    UDP,
    VLAN,
    Packet,
    difference,
    error,
)
from xds_agent.datapath import sampling
from xds_agent.datapath.limit import Rate
from xds_agent.datapath.program import Generation
from xds_agent.datapath.sampling import Ask, Sample, Tap

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]

COOKIES_ABOVE = 20
KEY = bytes(range(16))
LISTENING = 8443
# A socket of the host is connected to somebody who is denied.
CONNECTED = ("198.51.2.7", 3000, VIP4, 9, UDP)
WINDOW = 25_000
# What clients say, and what none would: unknown ones, one cut off, one without an end, more than are read.
TCP_OPTIONS = [
    bytes.fromhex(one)
    for one in (
        *("", "", "", "020405b4", "0204051401010402", "020405a801030307", "0303ff0001010101", "02000204"),
        *(
            "020405b40402080a11223344000000000103030e",
            "01010108",
            "080a1122",
            "050a0102030405060708020405b40101",
        ),
        "01" * 12 + "020405b4",
    )
]
BURSTS = {PACKETS: 500, SYNS: 100, SSH: 40, BYTES: 600_000}
# One packet, and one byte, in two hours and a half: what passes is the burst, however long the run. A power
# of two, so that a sum of bytes is exact.
SLOW = 1e9 / 2**43
RULES = [
    ("198.51.100.0/24", "exempt"),
    ("198.51.0.0/16", "deny"),
    ("198.51.100.64/26", "deny"),
    ("192.0.2.9/32", "deny"),
    ("2001:db8:bad::/48", "deny"),
    ("2001:db8:bad:1::/64", "exempt"),
    ("2001:db8:bad:1::9/128", "deny"),
]
NEAR_PORTS = range(3000, 3006)  # few, so that flows come back
TAGS = [(), (), (), ((VLAN, 5),), ((QINQ, 5), (VLAN, 6)), ((QINQ, 1), (VLAN, 2), (VLAN, 3))]
REPORTERS = {4: ["192.0.2.77", "192.0.2.9"], 6: ["2001:db8:77::1"]}
# Offset, and whether more come: 8 and 16 are within TCP's header.
FRAGMENTS = [(0, True), (0, True), (1480, True), (64, False), (64, False), (8, True), (16, False)]
EXTENSIONS = [HOPOPTS, DSTOPTS, ROUTING, AH, FRAGMENT]
# Who sends so much that bytes are the first limit he meets.
LOADERS = {4: "10.3.3.7", 6: "2001:db8:77:1::1"}
SOURCES4 = ["198.51.{}.{}", "192.0.{}.{}", "10.{}.{}.7"]
SOURCES6 = ["2001:db8:bad:{:x}::{:x}", "2001:db8:{:x}:{:x}::1", "2001:db8::{:x}:{:x}"]
PORTS = [22, 53, 443, 443, 443, 5060, 7000, 8443, 9, 80, 80, 80, 27015, 27015]


REACHED = {
    *("send_gue", "send_dsr", "send_echo", "send_too_big", "drop_syn_rate", "send_nat", "send_answer"),
    *("note_nat_new", "note_nat_open", "drop_nat_unknown", "drop_nat_fragment", "drop_hop_limit"),
    *("drop_source_bytes", "send_cookie", "pass_expected", "drop_tiny_fragment", "drop_fragments_full"),
    *("note_flow_new", "note_flow_pinned", "note_flow_remapped", "drop_no_real"),
}


class Generator:
    """Packets around the edges of every rule; one in five is then broken somewhere."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def frame(self) -> bytes:
        chance = self.random
        packet = self._packet()
        if chance.random() < 0.01:
            source, sport, destination, dport, protocol = CONNECTED
            packet = packet.but(
                source=source, sport=sport, destination=destination, dport=dport, protocol=protocol,
                extensions=(),
            )  # fmt: skip
        if chance.random() < 0.03:
            packet = packet.but(source=LOADERS[packet.version], payload=bytes(1460))
        if chance.random() < 0.1:
            answered = packet.but(source=packet.destination, destination=packet.source, extensions=())
            answered = answered.but(sport=packet.dport, dport=packet.sport, tags=())
            kinds = [3, 11, 12, 5] if packet.version == 4 else [1, 2, 3, 4, 5]
            reporter = chance.choice(REPORTERS[packet.version])
            packet = error(
                answered,
                kind=chance.choice(kinds),
                reporter=reporter,
                quote=chance.choice([8, 8, 20, 2, 2000]),
            )
        data = bytearray(packet.bytes())
        if chance.random() < 0.2:
            for _ in range(chance.randint(1, 3)):
                data[chance.randrange(min(len(data), 74))] = chance.randrange(256)
        if chance.random() < 0.05:
            del data[chance.randrange(14, len(data)) :]
        return bytes(data)

    def _packet(self) -> Packet:
        chance = self.random
        six = chance.random() < 0.5
        protocol = chance.choice([TCP, TCP, TCP, UDP, UDP, ICMPV6 if six else ICMP, 47])
        shape = chance.choice(SOURCES6 if six else SOURCES4)
        source = shape.format(chance.choice([0, 1, 2, 100]), chance.choice([1, 7, 9, 65, 200]))
        vip, other = (VIP6, "2001:db8:ffff::2") if six else (VIP4, "203.0.113.2")
        packet = Packet(
            source=source,
            destination=vip if chance.random() < 0.9 else other,
            protocol=protocol,
            sport=chance.choice([67, 547, 22, chance.randrange(1024, 65536), *NEAR_PORTS]),
            dport=chance.choice([*PORTS, 68, 546]),
            flags=chance.choice([2, 16, 16, 18, 4, 1, 0x12, 0xC2]),
            dscp_ecn=chance.choice([0, 0xB8, 0x03]),
            ttl=chance.choice([1, 64, 255]),
            dont_fragment=chance.random() < 0.8,
            icmp=(chance.choice([8, 0, 128, 135, 136, 13]), 0, chance.getrandbits(32)),
            payload=bytes(chance.choice([0, 1, 8, 64, 64, 1390, 1460])),
            pad_to=chance.choice([0, 60]),
        )
        packet = packet.but(tags=chance.choice(TAGS), tcp_options=chance.choice(TCP_OPTIONS))
        if chance.random() < 0.2:
            packet = packet.but(fragment=chance.choice(FRAGMENTS), fields={"id": chance.choice([7, 8])})
            if chance.random() < 0.05:
                packet = packet.but(transport=packet.l4()[:8], pad_to=60)
        if six and chance.random() < 0.3:
            kinds = chance.choices(EXTENSIONS, k=chance.choice([1, 2, 3, 6, 7]))
            return packet.but(extensions=tuple((kind, bytes(6)) for kind in kinds))
        if not six and chance.random() < 0.2:
            return packet.but(options=b"\x01" * 4 * chance.randint(1, 10))
        return packet


def equipped(bench: Bench) -> Oracle:
    """Program and oracle with the same rules."""
    rate = {salt: Rate(per_second=SLOW, burst=burst) for salt, burst in BURSTS.items()}
    forever = {f"nat_{kind}_s": 65535 for kind in ("new", "tcp", "udp", "closing", "fragment")}
    bench.configure(
        cookies_above=Rate(per_second=0.0001, burst=COOKIES_ABOVE), cookie_key=KEY,
        source_packets=rate[PACKETS], source_syns=rate[SYNS], ssh_packets=rate[SSH],
        source_bytes=rate[BYTES], flow_idle_s=65535,
        **forever,
    )  # fmt: skip
    own = [ip_address(VIP4), ip_address(VIP6)]
    bench.tables.put_own(own, translated=own)
    lists: dict[str, list[str]] = {}
    for prefix, kind in RULES:
        lists.setdefault(kind, []).append(prefix)
    bench.lists_of(**lists)
    services = {}
    for service in (entry for entries in bench.services.values() for entry in entries):
        address = str(service.address)
        services[address, service.port, service.protocol] = service
        if service.hash_addresses:
            services[address, 0, service.protocol] = service
    return Oracle(
        services=services,
        rings=bench.rings,
        rules=[(ip_network(prefix), kind) for prefix, kind in RULES],
        bursts=BURSTS,
        cookies=Cookies(KEY, frozenset({VIP4, VIP6}), frozenset({LISTENING}), COOKIES_ABOVE),
        connected=frozenset({CONNECTED}),
        own=frozenset({VIP4, VIP6}),
        mask=bench.generation.sizes.limit_blocks - 1,
        nat=Table(
            (LIMIT_SEED, BALANCE_SEED),
            ports=bench.generation.sizes.nat_ports,
            banks=bench.generation.sizes.nat_banks,
        ),
    )


def fail(bench: Bench, oracle: Oracle) -> None:
    """Real 2 dies and real 4 is drained: their slots move; IPv6 has nobody left for new NAT flows."""
    down = {2, 3}
    for number, left in ((1, (1, 3)), (2, (1,)), (NAT_RINGS[4], (1,)), (NAT_RINGS[6], ())):
        bench.rings[number].step(table(*left))
        bench.tables.put_ring(number, bench.rings[number])
    for one in BACKENDS:
        state = "down" if one.number in down else "draining" if one.number == 4 else "up"
        bench.real(one, state)
    oracle.moved.down = down


def fail_back(bench: Bench, oracle: Oracle) -> None:
    """All are well again; the slots stay moved, for flows are in them."""
    for number, all_of_them in (
        (1, (1, 2, 3, 4)),
        (2, (1, 2)),
        (NAT_RINGS[4], (1, 2)),
        (NAT_RINGS[6], (3, 4)),
    ):
        bench.rings[number].step(table(*all_of_them))
        bench.tables.put_ring(number, bench.rings[number])
    for one in BACKENDS:
        bench.real(one, "up")
    oracle.moved.down = set()


def answers(chance: random.Random, sent: bytes) -> list[bytes]:
    """What a real may say to a translated packet, and what a router on the way to it."""
    seen = parse(sent)
    got = Packet(
        source=seen.source,
        destination=seen.destination,
        protocol=seen.protocol,
        sport=seen.sport,
        dport=seen.dport,
        payload=bytes(chance.choice([0, 5, 100])),
    )
    back = got.but(
        source=got.destination,
        destination=got.source,
        sport=got.dport,
        dport=got.sport,
        flags=chance.choice([SYN | ACK, SYN | ACK, ACK, FIN | ACK, RST]),
        seq=0,  # what the packets of this test acknowledge is 1
        tags=chance.choice(TAGS[:5]),
        ttl=chance.choice([1, 64, 64]),
        dscp_ecn=chance.choice([0, 0xB8, 0x03]),
    )
    reporter = chance.choice(REPORTERS[seen.version])
    kind = chance.choice([3, 11] if seen.version == 4 else [1, 2, 3])
    report = error(got, kind=kind, reporter=reporter, quote=chance.choice([2, 8, 20, 300]))
    said = chance.choice([back, back, back.but(sport=back.sport ^ 1), report])
    data = bytearray(said.bytes())
    if chance.random() < 0.1:
        data[chance.randrange(14, min(len(data), 74))] = chance.randrange(256)
    cut = back.but(fields={"id": chance.choice([7, 8])})
    first, later = cut.but(fragment=(0, True)), cut.but(fragment=(64, False), transport=bytes(40))
    return [bytes(data), *([first.bytes(), later.bytes()] if chance.random() < 0.3 else [])]


def rest_of(frame: bytes) -> list[bytes]:
    """The later fragment of a first one."""
    seen = parse(frame)
    if seen.fragment != "first":
        return []
    later = Packet(
        source=seen.source, destination=seen.destination, protocol=seen.protocol, ttl=seen.ttl,
        fragment=(64, False), fields={"id": seen.id}, transport=bytes(48),
    )  # fmt: skip
    return [later.bytes()]


@contextlib.contextmanager
def sampled(generation: Generation) -> Iterator[Callable[[], list[Sample]]]:
    """Each packet to both readers; gives what the capture got."""
    flows, capture = Tap(generation, "flows", Ask()), Tap(generation, "capture", Ask(bytes=2048))

    def read() -> list[Sample]:
        flows.read()
        return capture.read()

    try:
        yield read
    finally:
        flows.close()
        capture.close()


def watch(bench: Bench, oracle: Oracle) -> None:
    """From here on protection only counts."""
    bench.configure(monitor=True)
    oracle.monitor = True


def cookie_like(oracle: Oracle, frame: bytes, received: bytes) -> bytes:
    """The oracle's answer by the clock that the program read: a moment before, perhaps a minute."""
    seen = parse(frame)
    now_ms = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000
    said_ms = int.from_bytes(received[seen.l4 + 36 : seen.l4 + 40], "big")
    time_ms = said_ms if (now_ms - said_ms) & 0xFFFFFFFF < 600_000 else now_ms
    assert oracle.cookies
    minutes = (now_ms // 60_000, now_ms // 60_000 - 1)
    answers = [oracle.cookies.answer(frame, seen, minute=one, time_ms=time_ms) for one in minutes]
    return received if received in answers else answers[0]


def sockets() -> list[socket.socket]:
    """What the host has open: a listener for everybody, and a socket that is connected."""
    listener = socket.create_server(("::", LISTENING), family=socket.AF_INET6, dualstack_ipv6=True)
    connected = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    source, sport, destination, dport, _ = CONNECTED
    connected.bind((destination, dport))
    connected.connect((source, sport))
    return [listener, connected]


@pytest.mark.parametrize("readers", [False, True], ids=["alone", "sampled"])
def test_program_and_oracle_agree(
    loaded: Loader, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, readers: bool
) -> None:
    """Before anything moved, while reals are away, after that, and while protection only watches. Each packet
    sampled (in a shorter run), all is the same, and each sample says what the oracle says."""
    bench = Bench(loaded(sizes=replace(SMALL, flows=65536, nat_banks=16)))
    if bench.generation.missing:
        pytest.skip(bench.generation.missing[0])
    count = request.config.getoption("--fuzz-packets", 100_000) // (10 if readers else 1)
    seed = request.config.getoption("--fuzz-seed", None)
    if seed is None:
        # CI tells about the change and not about luck, as with examples (tests/conftest.py).
        seed = 1 if os.environ.get("CI") else time.time_ns() % 1_000_000_007
    print(f"seed {seed}")
    # A machine that stands still for a while costs no sample.
    monkeypatch.setattr(sampling, "LEASE_S", 60.0)

    def run() -> None:
        opened = sockets()
        try:
            with sampled(bench.generation) if readers else contextlib.nullcontext() as read:
                compare(bench, count, seed, read)
        finally:
            for one in opened:
                one.close()

    with network() as made:
        made.host("edge")
        made.run("edge", f"ip addr add {VIP4}/32 dev lo", "ip route add default dev lo")
        made.settle()
        made.inside("edge", run)


def compare(bench: Bench, count: int, seed: int, read: Callable[[], list[Sample]] | None) -> None:
    oracle, generator, generation = equipped(bench), Generator(seed), bench.generation
    chance = random.Random(seed)
    actions = {"drop": 1, "pass": 2, "send": 3}
    recent: deque[bytes] = deque(maxlen=WINDOW)
    waiting: list[bytes] = []
    followed: Counter[str] = Counter()
    steps = {count * 3 // 10: fail, count * 6 // 10: fail_back, count * 9 // 10: watch}
    for number in range(count):
        if number in steps:
            steps[number](bench, oracle)
        # Most of them came before, so that flows come back.
        frame = generator.frame() if number < 100 or chance.random() < 0.3 else chance.choice(recent)
        if waiting and chance.random() < 0.3:
            frame = waiting.pop(chance.randrange(len(waiting)))
        else:
            recent.append(frame)
        service, reason, wanted = oracle.fate(frame)
        verdict, received = generation.run(frame)
        if reason == "send_cookie":
            wanted = cookie_like(oracle, frame, received)
        place = f"seed {seed}, packet {number}: the oracle says {reason} for service {service}"
        assert verdict == actions[reason.split("_")[0]], f"{place}, the program {verdict}\n{frame.hex(' ')}"
        assert received == wanted or verdict == 1, f"{place}\n{difference(wanted, received)}"
        if read is not None:
            said = [(one.reason, one.service, one.frame) for one in read()]
            assert said == [(reason, service, frame)], f"{place}, its sample {said}"
        if reason in ("send_nat", "send_answer") and parse(wanted).fragment == "later":
            followed[reason] += 1
        elif reason == "send_nat" and len(waiting) < 1000:
            waiting += [*answers(chance, wanted), *rest_of(frame)]
    counted: Counter[tuple[int, str]] = Counter()
    monitored: Counter[tuple[int, str]] = Counter()
    for service in range(GAME + 2):
        for found, into in (
            (bench.counters.service(service), counted),
            (bench.counters.monitored(service), monitored),
        ):
            for reason, value in found.items():
                if read is None or not reason.startswith("note_sample"):
                    into[service, reason] = value.packets
    assert counted == oracle.counts, f"seed {seed}"
    assert monitored == oracle.monitored, f"seed {seed}"
    reached = {reason for _, reason in counted}
    assert count < 20_000 or reached >= REACHED, sorted(REACHED - reached)
    assert count < 20_000 or min(followed["send_nat"], followed["send_answer"]) > 10, followed


def test_the_generator_reaches_every_kind_of_packet() -> None:
    generator, kinds = Generator(1), Counter()
    for _ in range(3000):
        try:
            seen = parse(generator.frame())
            kinds[seen.version, seen.protocol, seen.fragment] += 1
        except Stop as stop:
            kinds[str(stop)] += 1
    assert {"drop_truncated", "drop_bad_header", "drop_extensions", "pass_not_ip"} <= kinds.keys()
    assert {(4, TCP, "later"), (6, UDP, "first"), (6, ICMPV6, "")} <= kinds.keys()
