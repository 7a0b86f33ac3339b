"""Samples: each packet's bytes as they came and its true fate, exact rates, and fates that are the same with
a reader, without one, and with one that died or sleeps."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.bpf.conftest import Loader
from tests.bpf.support.bench import EDGE, GAME, LOCAL, NAMES, PING, SHOP, VIP4, VIP6, VOICE, WEB, Bench
from tests.bpf.support.packets import ICMP, SYN, TCP, UDP, Packet
from xds_agent.cli.capture import asked_for
from xds_agent.cli.errors import CliError
from xds_agent.datapath import sampling
from xds_agent.datapath.program import PASS, Features, Generation
from xds_agent.datapath.sampling import Ask, Sample, Tap, TapName, TapTaken, flow_key

pytestmark = pytest.mark.root
WHOLE = 3584
HTTPS = Packet(destination=VIP4, dport=443)


@contextmanager
def tapped(
    generation: Generation, name: TapName = "capture", ask: Ask | None = None, ring_bytes: int = 1 << 20
) -> Iterator[Tap]:
    tap = Tap(generation, name, ask or Ask(bytes=WHOLE, leaving=True), ring_bytes=ring_bytes)
    try:
        yield tap
    finally:
        tap.close()


@contextmanager
def on_one_cpu() -> Iterator[None]:
    """Each CPU takes turns by itself."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


FATES = [
    (HTTPS, "send_gue", WEB),
    (HTTPS.but(destination=VIP6, source="2001:db8::7"), "send_gue", WEB),
    (HTTPS.but(payload=bytes(1460)), "send_too_big", WEB),
    (Packet(destination=VIP4, protocol=UDP, dport=5060), "send_dsr", VOICE),
    (Packet(destination=VIP4, dport=80, flags=SYN), "send_nat", SHOP),
    (Packet(destination=VIP4, protocol=UDP, dport=27015, tags=((0x8100, 5),)), "send_nat", GAME),
    (Packet(destination=VIP4, protocol=ICMP), "send_echo", PING),
    (Packet(destination=VIP4, dport=8443), "pass_kernel", LOCAL),
    (Packet(destination="203.0.113.77", dport=22), "pass_ssh", 0),
    (Packet(destination=VIP4, dport=7000), "drop_no_real", EDGE),
    # The mark is on it already when it is dropped: the sample has it as it came.
    (Packet(destination=VIP4, protocol=UDP, dport=27015, ttl=1), "drop_hop_limit", GAME),
    (HTTPS.but(source="192.0.2.9"), "drop_denied", WEB),
]


@pytest.mark.parametrize(("packet", "reason", "service"), FATES)
def test_a_sample_is_the_packet_as_it_came_with_its_fate(
    bench: Bench, packet: Packet, reason: str, service: int
) -> None:
    bench.lists_of(deny=["192.0.2.0/24"])
    frame = packet.bytes()
    with tapped(bench.generation) as tap:
        _, left = bench.run(packet)
        came, *more = tap.read()
    assert (came.reason, came.service, came.leaving) == (reason, service, False)
    assert (came.frame, came.length, came.one_in) == (frame, len(frame), 1)
    assert came.flow is not None
    ports = (packet.sport, packet.dport) if packet.protocol in (TCP, UDP) else (0, 0)
    ends = ip_address(packet.source), ip_address(packet.destination)
    key = flow_key(came.flow)
    assert ((key.source, key.destination), (key.source_port, key.destination_port)) == (ends, ports)
    assert key.protocol == packet.protocol
    if reason.startswith("send_"):
        assert [(one.frame, one.leaving, one.reason) for one in more] == [(left, True, reason)]
    else:
        assert not more
    handed = bench.counters.service(service)["note_sampled"].packets
    assert handed == 1 + len(more) and "note_sample_lost" not in bench.counters.service(service)


def test_what_cannot_be_parsed_is_sampled_too(bench: Bench) -> None:
    frame = HTTPS.bytes()[:30]
    with tapped(bench.generation) as tap:
        bench.generation.run(frame)
        [came] = tap.read()
    assert (came.reason, came.frame) == ("drop_truncated", frame)
    assert came.flow is not None and flow_key(came.flow).source is None


def test_monitor_mode_says_what_it_would_have_dropped(bench: Bench) -> None:
    """The question before it is switched off: which packets are those?"""
    bench.lists_of(deny=["192.0.2.0/24"])
    bench.configure(monitor=True)
    with tapped(bench.generation, ask=Ask(bytes=WHOLE, reasons=["drop_denied"])) as tap:
        bench.run(HTTPS)
        bench.run(HTTPS.but(source="192.0.2.9"))
        [came] = tap.read()
    assert (came.reason, came.monitored) == ("send_gue", "drop_denied")


def test_a_cookie_is_sampled_by_the_stage_that_makes_it(loaded: Loader) -> None:
    generation = loaded()
    if generation.missing:
        pytest.skip(generation.missing[0])
    bench = Bench(generation)
    with tapped(generation) as tap:
        bench.run(Packet(destination=VIP4, dport=8443, flags=SYN))
        assert [one.reason for one in tap.read()] == ["pass_kernel"]


@pytest.mark.parametrize("one_in", [1, 3, 10, 1000])
def test_exactly_one_of_so_many_is_taken(bench: Bench, one_in: int) -> None:
    """Of each run of one_in packets one, at a random place: an exact rate without a rhythm."""
    found: list[Sample] = []
    with on_one_cpu(), tapped(bench.generation, "flows", Ask(one_in=one_in)) as tap:
        for _ in range(20):
            bench.generation.run(HTTPS.bytes(), repeat=one_in * 10)
            found += tap.read()
    assert len(found) == 200 and {one.one_in for one in found} == {one_in}


def test_sampling_keeps_no_rhythm(bench: Bench) -> None:
    """Every tenth packet is of one kind; one in ten must not see only that kind, or never."""
    kinds = [HTTPS.but(dport=443 if number == 0 else 8443).bytes() for number in range(10)]
    with tapped(bench.generation, "flows", Ask(one_in=10)) as tap:
        for _ in range(1000):
            for frame in kinds:
                bench.generation.run(frame)
            tap.renew()
        seen = Counter(one.reason for one in tap.read())
    assert 40 < seen["send_gue"] < 250 and seen.total() > 900


ASKED: list[tuple[Ask, Callable[[Packet, str, int], bool]]] = [
    (Ask(network=ip_network("198.51.100.0/24")), lambda p, r, s: p.source.startswith("198.51.100.")),
    (Ask(network=ip_network("203.0.113.1/32")), lambda p, r, s: p.destination == VIP4),
    (Ask(network=ip_network("2001:db8:ffff::/48")), lambda p, r, s: p.version == 6),
    (Ask(network=ip_network("0.0.0.0/0")), lambda p, r, s: p.version == 4),
    (Ask(port=443), lambda p, r, s: 443 in (p.sport, p.dport)),
    (Ask(protocol=UDP), lambda p, r, s: p.protocol == UDP),
    (Ask(service=NAMES), lambda p, r, s: s == NAMES),
    (Ask(reasons=["drop_denied", "send_dsr"]), lambda p, r, s: r in ("drop_denied", "send_dsr")),
    (Ask(protocol=TCP, port=7000, reasons=["drop_no_real"]), lambda p, r, s: r == "drop_no_real"),
    (Ask(service=0), lambda p, r, s: s == 0),
]


@pytest.mark.parametrize(("ask", "matches"), ASKED)
def test_only_what_was_asked_for_comes(
    bench: Bench, ask: Ask, matches: Callable[[Packet, str, int], bool]
) -> None:
    """Against a capture of everything: of each packet the same answer as the words say."""
    bench.lists_of(deny=["192.0.2.0/24"])
    chance = random.Random(3)
    packets = []
    for _ in range(300):
        four = chance.random() < 0.6
        packets.append(
            Packet(
                source=chance.choice(["198.51.100.7", "192.0.2.9", "10.0.0.1"] if four else ["2001:db8::9"]),
                destination=chance.choice([VIP4, "203.0.113.77"] if four else [VIP6]),
                protocol=chance.choice([TCP, UDP]),
                sport=chance.choice([443, 40000, 50000]),
                dport=chance.choice([443, 53, 5060, 7000, 8443, 9]),
            )
        )
    with (
        tapped(bench.generation, "flows", Ask()) as everything,
        tapped(bench.generation, "capture", Ask(**{**_fields(ask), "bytes": 128})) as some,
    ):
        for packet in packets:
            bench.run(packet)
            everything.renew()
            some.renew()
        fates = [(one.reason, one.service) for one in everything.read()]
        came = [one.frame for one in some.read()]
    assert len(fates) == len(packets)
    wanted = [
        packet.bytes()[:128]
        for packet, (reason, service) in zip(packets, fates, strict=True)
        if matches(packet, reason, service)
    ]
    assert came == wanted and 0 < len(wanted) < len(packets)


def _fields(ask: Ask) -> dict[str, object]:
    return {name: getattr(ask, name) for name in ask.__slots__}


def test_a_full_ring_costs_samples_and_no_packet(bench: Bench) -> None:
    """Nobody reads: what does not fit is counted as lost, and every packet meets its fate."""
    with tapped(bench.generation, ring_bytes=1 << 14) as tap:
        for _ in range(500):
            tap.renew()
            bench.expect(Packet(destination=VIP4, dport=8443), "pass_kernel", service=LOCAL)
        counted = bench.counters.service(LOCAL)
        read = tap.read()
        bench.expect(Packet(destination=VIP4, dport=8443), "pass_kernel", service=LOCAL)
        assert len(tap.read()) == 1, "there is room again once somebody reads"
    lost, handed = counted["note_sample_lost"].packets, counted["note_sampled"].packets
    assert len(read) == handed and handed + lost == 500 and lost > 300


def test_a_reader_that_is_not_heard_of_is_off_by_itself(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was killed costs no copies for longer than its lease, and its place is free again."""
    with tapped(bench.generation, "flows", Ask()), pytest.raises(TapTaken, match="another flows reader"):
        Tap(bench.generation, "flows", Ask())
    monkeypatch.setattr(sampling, "LEASE_S", -1.0)
    tap = Tap(bench.generation, "flows", Ask())
    assert bench.generation.run(Packet(destination="203.0.113.77", dport=9).bytes())[0] == PASS
    assert "note_sampled" not in bench.counters.service(0) and not tap.read()
    monkeypatch.undo()
    with tapped(bench.generation, "flows", Ask()) as successor:
        bench.run(HTTPS)
        assert len(successor.read()) == 1
    tap.close()


def test_readers_stay_over_a_reload(bench: Bench, loaded: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next generation shares what readers wrote: a capture sees no gap."""
    # Nobody renews it while the kernel verifies.
    monkeypatch.setattr(sampling, "LEASE_S", 60.0)
    with tapped(bench.generation) as tap:
        bench.run(HTTPS)
        following = loaded(predecessor=bench.generation)
        assert following.fresh == ()
        following.run(HTTPS.bytes())
        assert [one.reason for one in tap.read() if not one.leaving] == ["send_gue"] * 2


def test_without_the_feature_nothing_is_sampled(loaded: Loader) -> None:
    bench = Bench(loaded(features=Features(sampling=False)))
    with tapped(bench.generation) as tap:
        bench.run(HTTPS)
        assert not tap.read()


WRONG = [
    ({"reasons": ["drop_nothing"]}, "there is no drop_nothing"),
    ({"service": "nobody"}, "XDP of this host knows no nobody"),
    ({"prefix": "10.0.0.1/8"}, "10.0.0.1/8 has host bits set"),
    ({"protocol": "sctpp"}, "sctpp is none"),
]


@pytest.mark.parametrize(("words", "answer"), WRONG)
def test_words_that_name_nothing_are_answered(program: Path, words: dict[str, Any], answer: str) -> None:
    """What a person types after `datapath capture`."""
    state = {"program": str(program), "services": [{"name": "db", "id": 7}]}
    given: dict[str, Any] = {"service": "", "reasons": [], "prefix": "", "port": 0, "protocol": ""}
    with pytest.raises(CliError, match=answer):
        asked_for(state, **{**given, **words}, one_in=1)
    asked = asked_for(state, **{**given, "service": "db", "reasons": ["drop", "send_nat"]}, one_in=9)
    assert (asked.service, asked.one_in) == (7, 9)
    assert {"drop_denied", "drop_hop_limit", "send_nat"} < set(asked.reasons)
    assert not {"pass_kernel", "send_gue", "note_sampled", "drop_end"} & set(asked.reasons)
