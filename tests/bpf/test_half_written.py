"""No packet meets a service half written, nor lists without their settings: whatever was written so far, its
fate is that of before or of after."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from tests.bpf.conftest import Loader
from tests.bpf.support.packets import SYN, TCP, Packet
from xds_agent.datapath.limit import Rate
from xds_agent.datapath.maps import Map
from xds_agent.datapath.prefixes import Network, Prefixes
from xds_agent.datapath.program import DROP, PASS, TX
from xds_agent.datapath.services import Settings
from xds_agent.node.datapath.rates import loosest
from xds_agent.node.datapath.rings import RingFiles
from xds_agent.node.datapath.wanted import (
    Class,
    Forward,
    Front,
    RealKey,
    Wanted,
    WantedReal,
    WantedService,
)
from xds_agent.node.datapath.writer import Writer

EDITS = 10
VIP = "203.0.114.1"
FRONTS = tuple(Front(ip_address(VIP), 7000 + number, TCP) for number in (1, 2, 3))
BACKENDS = tuple(ip_address(f"10.1.0.{number}") for number in (1, 2, 3))
MACS = {address: bytes([2, 0, 0, 0, 0, number]) for number, address in enumerate(BACKENDS, 1)}
FREE = "192.0.3.1"
SOURCES = ("198.51.100.7", "198.51.100.200", "192.0.2.9", FREE)
RULES: tuple[tuple[Network, Class], ...] = (
    (ip_network("198.51.100.0/24"), "deny"),
    (ip_network("198.51.100.128/25"), "exempt"),
    (ip_network("192.0.2.0/24"), "deny"),
)
FORWARDS: tuple[Forward, ...] = ("nat", "gue", "dsr", "kernel")
SETTINGS = Settings(nat_source4=ip_address("10.9.0.2"), tunnel_source4=ip_address("10.9.0.1"))  # type: ignore[arg-type]
# Of so many connections each real of a ring gets one, but for one in ten millions.
CONNECTIONS = 40

Fate = tuple[object, ...]
Probe = tuple[str, int]
Fates = dict[Probe, set[Fate]]
DROPPED: set[Fate] = {(DROP,)}
PROBES: tuple[Probe, ...] = tuple(itertools.product(SOURCES, (front.port for front in FRONTS)))


def lists_of(*rules: tuple[Network, Class]) -> tuple[tuple[Prefixes, Class], ...]:
    return tuple((Prefixes.of([network]), kind) for network, kind in rules)


def a_revision(choice: random.Random) -> tuple[Wanted, Settings]:
    """Anything that an inventory could say of three services, two lists and monitor mode."""
    services = {}
    names = choice.sample(("a", "b", "c"), k=choice.randint(1, 3))
    for name, front in zip(names, choice.sample(FRONTS, k=len(names)), strict=True):
        forward = choice.choice(FORWARDS)
        reals = tuple(
            WantedReal(RealKey(address, choice.choice((8001, 8002)) if forward == "nat" else 0), 1, 0)
            for address in choice.sample(BACKENDS, k=choice.randint(1, 3))
        )
        services[name] = WantedService(name, forward, (front,), () if forward == "kernel" else reals)
    rules = tuple(rule for rule in RULES if choice.random() < 0.5)
    return Wanted(services, lists=lists_of(*rules)), replace(SETTINGS, monitor=choice.random() < 0.3)


class Observer:
    """Sends connection requests; each has ports of its own, so that none is another one's flow."""

    def __init__(self, writer: Writer) -> None:
        self._writer, self._port = writer, itertools.cycle(range(1024, 65536))

    def fate(self, probe: Probe) -> Fate:
        """Verdict, and where what is sent on goes: MAC, address, protocol, port of the real."""
        source, port = probe
        packet = Packet(source, VIP, sport=next(self._port), dport=port, flags=SYN, ack=0, payload=b"")
        verdict, frame = self._writer.generation.run(packet.bytes())
        return (verdict, frame[:6], frame[30:34], frame[23], frame[36:38]) if verdict == TX else (verdict,)

    def fates(self) -> Fates:
        return {probe: {self.fate(probe) for _ in range(CONNECTIONS)} for probe in PROBES}


def either(before: Fates, after: Fates, probe: Probe) -> set[Fate]:
    """What may come of it meanwhile: services are of before or after, and so is what denies packets."""
    allowed = before[probe] | after[probe]
    for services, lists in ((before, after), (after, before)):
        if lists[probe] != DROPPED:
            allowed |= services[FREE, probe[1]]
    return allowed


@pytest.fixture
def after_each_write(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Does something, and something else behind every write to any map meanwhile."""
    watching: list[Callable[[], None]] = []

    def watched(name: str) -> None:
        really = getattr(Map, name)

        def write(self: Map, *arguments: object) -> object:
            result = really(self, *arguments)
            for look in watching:
                look()
            return result

        monkeypatch.setattr(Map, name, write)

    # `put` comes to `put_raw`.
    for name in ("put_raw", "put_many", "delete"):
        watched(name)

    def do(work: Callable[[], None], *, look: Callable[[], None]) -> None:
        watching.append(look)
        work()
        watching.clear()

    return do


def test_between_any_two_writes_a_packet_fares_as_before_or_as_after(
    loaded: Loader, tmp_path: Path, after_each_write: Callable[..., None]
) -> None:
    """For each service, and for lists and settings together. The reference never knew another revision."""
    choice = random.Random(20)
    writers = [
        Writer(loaded(), rings=RingFiles(tmp_path / place), mtu=1500) for place in ("edited", "reference")
    ]
    edited, reference = map(Observer, writers)
    wanted, settings = a_revision(choice)
    for one in writers:
        one.apply(wanted, settings, MACS, ())
    before = edited.fates()
    for edit in range(EDITS):
        wanted, settings = a_revision(choice)
        writers[1].apply(wanted, settings, MACS, ())
        after = reference.fates()
        met: list[tuple[Probe, Fate]] = []
        after_each_write(
            partial(writers[0].apply, wanted, settings, MACS, ()),
            look=lambda met=met: met.extend((probe, edited.fate(probe)) for probe in PROBES),
        )
        assert met, edit
        wrong = {(probe, fate) for probe, fate in met if fate not in either(before, after, probe)}
        assert not wrong, (edit, wanted)
        before = edited.fates()
        assert before == after, (edit, wanted)


@pytest.mark.parametrize("monitor_first", [True, False])
def test_nobody_is_dropped_by_new_settings_and_old_lists_or_the_other_way_round(
    loaded: Loader, tmp_path: Path, after_each_write: Callable[..., None], monitor_first: bool
) -> None:
    """Monitor mode ends with the edit that takes its finding off the list, or begins with one put there."""
    writer = Writer(loaded(), rings=RingFiles(tmp_path), mtu=1500)
    watched = replace(SETTINGS, monitor=True), Wanted(lists=lists_of(RULES[0]))
    enforced = SETTINGS, Wanted(lists=lists_of(RULES[2]))
    first, second = (watched, enforced) if monitor_first else (enforced, watched)
    writer.apply(first[1], first[0], MACS, ())
    met: list[Fate] = []
    after_each_write(
        partial(writer.apply, second[1], second[0], MACS, ()),
        look=lambda: met.append(Observer(writer).fate((SOURCES[0], 7001))),
    )
    assert len(met) > 2 and set(met) == {(PASS,)}


DENIED = {
    "whole": (RULES[0],),
    "half": ((ip_network("198.51.100.0/25"), "deny"),),
    "but one": (RULES[0], (ip_network("198.51.100.9/32"), "exempt")),
    "wide": ((ip_network("198.51.0.0/16"), "deny"),),
}


@pytest.mark.parametrize(("first", "second"), [*itertools.permutations(DENIED, 2)])
def test_who_is_denied_before_and_after_is_denied_meanwhile(
    loaded: Loader, tmp_path: Path, after_each_write: Callable[..., None], first: str, second: str
) -> None:
    """And who is let in is let in, whether the directory knows it or says that the long table does."""
    writer = Writer(loaded(), rings=RingFiles(tmp_path), mtu=1500)
    observer = Observer(writer)
    met: list[tuple[Fate, ...]] = []
    listed = {name: Wanted(lists=lists_of(*DENIED[name])) for name in (first, second)}
    writer.apply(listed[first], SETTINGS, MACS, ())
    for name in (second, first):
        after_each_write(
            partial(writer.apply, listed[name], SETTINGS, MACS, ()),
            look=lambda: met.append(tuple(observer.fate((source, 7001)) for source in (SOURCES[0], FREE))),
        )
    # Long table, directory and list of IPv6, twice.
    assert len(met) == 6 and set(met) == {((DROP,), (PASS,))}


def test_the_looser_of_two_settings_drops_nothing_that_either_lets_pass() -> None:
    slow, fast = Rate(10, burst=1), Rate(1000, burst=100)
    one = Settings(monitor=True, source_packets=slow, source_syns=fast, ssh_packets=slow)
    other = Settings(source_packets=fast, ssh_packets=None, flow_idle_s=7)
    for first, second in ((one, other), (other, one)):
        found = loosest(first, second)
        assert (found.monitor, found.source_packets, found.source_syns) == (True, fast, None)
        assert (found.ssh_packets, found.flow_idle_s) == (None, second.flow_idle_s)
