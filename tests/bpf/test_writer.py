"""The node agent's writer on a loaded program: what it may forget, and when."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.bpf.conftest import Loader
from tests.bpf.support.packets import Packet
from xds_agent.datapath import services
from xds_agent.datapath.drain import IDLE_S
from xds_agent.datapath.maps import Map
from xds_agent.datapath.program import DROP, PASS, TX
from xds_agent.datapath.services import Settings
from xds_agent.node.datapath.numbers import MapFull
from xds_agent.node.datapath.rings import RingFiles
from xds_agent.node.datapath.wanted import Forward, Front, RealKey, Wanted, WantedReal, WantedService
from xds_agent.node.datapath.writer import Writer

A, B = (RealKey(ip_address(f"10.1.0.{number}"), 0) for number in (1, 2))
MACS = {key.address: bytes([2, 0, 0, 0, 0, number]) for number, key in ((1, A), (2, B))}
TCP, UDP = 6, 17


def wanted(*keys: RealKey, forward: Forward = "gue", protocol: int = TCP) -> Wanted:
    reals = tuple(WantedReal(key, 1, 0) for key in keys)
    front = Front(ip_address("203.0.114.1"), 7000, protocol)
    return Wanted({"db": WantedService("db", forward, (front,), reals)})


def write(writer: Writer, target: Wanted) -> None:
    writer.apply(target, Settings(), MACS, ())


@pytest.fixture
def writer(loaded: Loader, tmp_path: Path) -> Writer:
    return Writer(loaded(), rings=RingFiles(tmp_path), mtu=1500)


def test_fragments_reach_the_real_of_their_flow_where_addresses_choose(writer: Writer) -> None:
    """A datagram in two parts, to a service of the inventory's `hash_by: addresses`."""
    said = wanted(A, B, protocol=UDP)
    write(writer, replace(said, services={"db": replace(said.services["db"], hash_addresses=True)}))
    outer = slice(30, 34)
    for last in range(1, 60):
        whole = Packet(source=f"198.51.100.{last}", destination="203.0.114.1", protocol=UDP, dport=7000)
        parts = [whole.but(fragment=(0, True)), whole.but(fragment=(1480, False), sport=9, dport=9), whole]
        left = [writer.generation.run(part.bytes()) for part in parts]
        assert {verdict for verdict, _ in left} == {TX}
        assert len({frame[outer] for _, frame in left}) == 1


NAMES4 = ip_address("203.0.114.1")


def by_addresses(name: str, real: RealKey, port: int, *, hashed: bool = True) -> WantedService:
    front = Front(NAMES4, port, UDP)
    return WantedService(name, "gue", (front,), (WantedReal(real, 1, 0),), hash_addresses=hashed)


def fragments_to(writer: Writer) -> str:
    """To which real later fragments for the address go, "" if no service takes them."""
    later = Packet(source="198.51.100.7", destination=str(NAMES4), protocol=UDP, fragment=(1480, False))
    verdict, frame = writer.generation.run(later.bytes())
    return str(ip_address(frame[30:34])) if verdict == TX else ""


def test_fragments_belong_to_a_service_that_is_there(writer: Writer) -> None:
    """Of two at one address to that of the lower port; to the other when that one goes, or hashes by ports;
    to nobody when nobody is left."""
    one, other = by_addresses("one", A, 53), by_addresses("other", B, 7000)
    steps: list[tuple[list[WantedService], str]] = [
        ([other], "10.1.0.2"),
        ([one, other], "10.1.0.1"),
        ([replace(one, hash_addresses=False), other], "10.1.0.2"),
        ([one, other], "10.1.0.1"),
        ([other], "10.1.0.2"),
        ([replace(other, hash_addresses=False)], ""),
        ([one], "10.1.0.1"),
        ([], ""),
    ]
    for number, (said, real) in enumerate(steps):
        write(writer, Wanted({service.name: service for service in said}))
        assert fragments_to(writer) == real, number
    assert not list(writer.generation.maps["services4"].keys())


@pytest.mark.parametrize("stays", [True, False])
def test_a_successor_keeps_whose_fragments_are_somebodys_and_no_others(
    writer: Writer, tmp_path: Path, stays: bool
) -> None:
    """An agent that starts anew finds the entry without a port in the maps, and nothing that names it."""
    said = Wanted({"one": by_addresses("one", A, 53)})
    write(writer, said)
    following = Writer(writer.generation, rings=RingFiles(tmp_path), mtu=1500)
    following.take_over(said)
    write(following, said if stays else Wanted())
    assert fragments_to(following) == ("10.1.0.1" if stays else "")


def moved(writer: Writer) -> int:
    return sum(ring.moved for ring in writer.rings.placed.values())


@pytest.mark.parametrize(("protocol", "idle_s"), [(TCP, IDLE_S), (UDP, Settings().flow_idle_s)])
def test_a_moved_ring_waits_for_flows_that_are_silent(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, protocol: int, idle_s: int
) -> None:
    """The flow table of `gue` and `dsr` knows nobody who sent nothing since the step."""
    before, after = wanted(A, protocol=protocol), wanted(B, protocol=protocol)
    write(writer, before)
    write(writer, after)
    at = time.monotonic()
    assert not writer.settle(after)
    assert moved(writer) == 65537 and writer.leaving() == [A]
    monkeypatch.setattr(time, "monotonic", lambda: at + idle_s + 1)
    assert writer.settle(after)
    assert moved(writer) == 0 and writer.leaving() == []


def test_a_successor_gives_silent_flows_their_time_anew(writer: Writer, tmp_path: Path) -> None:
    write(writer, wanted(A))
    write(writer, wanted(B))
    successor = Writer(writer.generation, rings=RingFiles(tmp_path), mtu=1500)
    successor.take_over(wanted(B))
    assert not successor.settle(wanted(B))
    assert moved(successor) == 65537


def test_settling_needs_no_more_rights_than_the_unit_has(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a map within a map needs CAP_SYS_ADMIN, which the agent has not."""

    def refused(*_: Any, **__: Any) -> Any:
        raise PermissionError(1, "opening inner map")

    before, after = wanted(A, forward="nat"), wanted(B, forward="nat")
    write(writer, before)
    write(writer, after)
    number = writer.ring_numbers["db", 4]
    flow = {"real": writer.reals[B], "seen_s": int(time.clock_gettime(time.CLOCK_MONOTONIC)),
            "ring": number, "slot": 5}  # fmt: skip
    table = writer.generation.maps["flows"]
    table.put({"source_port": 1, "protocol": TCP, "version": 4}, flow)
    table.put({"source_port": 2, "protocol": TCP, "version": 4}, {**flow, "real": writer.reals[A], "slot": 6})
    monkeypatch.setattr(services, "open_map", refused)
    assert writer.settle(after)
    assert writer.rings["db", 4].moved_slots() == {6}


def test_a_ring_that_could_not_be_put_in_place_is_put_again(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failure midway the set before is written again, and the ring is among it."""
    write(writer, wanted(A))
    outer = writer.generation.maps["rings"]

    def fails(keys: object, values: object) -> None:
        raise OSError(12, "writing to map rings")

    put: list[int] = []

    def puts(keys: list[bytes], values: list[bytes]) -> None:
        put.append(len(keys))
        Map.put_many(outer, keys, values)

    # No step in place: another table.
    writer.rings._tables._open.clear()
    monkeypatch.setattr(outer, "put_many", fails)
    with pytest.raises(OSError, match="writing to map rings"):
        write(writer, wanted(B))
    monkeypatch.setattr(outer, "put_many", puts)
    write(writer, wanted(A))
    assert put == [1] and set(writer.rings["db", 0].current) == {writer.reals[A]}
    live = writer.tables.ring(writer.ring_numbers["db", 0])
    assert live is not None and live.words() == writer.rings["db", 0].words()


def test_illness_for_one_service_is_not_illness_for_another(writer: Writer) -> None:
    """Both keep their packets' ports, so one backend is one real; each service has a check of its own."""
    first = wanted(A, B).services["db"]
    second = replace(first, name="web", fronts=(Front(ip_address("203.0.114.1"), 8000, TCP),))
    both = Wanted({"db": first, "web": second})
    writer.apply(both, Settings(), MACS, {("db", A)})
    assert set(writer.rings["db", 0].current) == {writer.reals[B]}
    assert set(writer.rings["web", 0].current) == {writer.reals[A], writer.reals[B]}
    assert writer.real_state(A) == "up"
    writer.apply(both, Settings(), MACS, {("db", A), ("web", A)})
    assert writer.real_state(A) == "down"


def test_a_ping_is_answered_whose_backends_get_no_packet(writer: Writer) -> None:
    """Nothing is sent to them, so nobody asks for their MACs."""
    target = wanted(A, forward="echo")
    writer.apply(target, Settings(), {}, ())
    assert writer.is_served("db")


def test_a_successor_knows_what_its_predecessor_knew(writer: Writer, tmp_path: Path) -> None:
    """Who is silent would count as well for ever; whose MAC the kernel has forgotten would get nothing."""
    target = wanted(A, B)
    writer.apply(target, Settings(), MACS, {("db", A)})
    successor = Writer(writer.generation, rings=RingFiles(tmp_path), mtu=1500)
    successor.take_over(target)
    assert successor.found_macs == MACS
    assert successor.found_down == {A}


def test_the_ring_of_a_service_that_is_gone_takes_no_memory(writer: Writer) -> None:
    write(writer, wanted(A))
    number = writer.ring_numbers["db", 0]
    assert writer.generation.maps["rings"].get(number) is not None
    write(writer, Wanted())
    assert writer.generation.maps["rings"].get(number) is None


def test_too_many_addresses_are_refused_in_words_before_anything_is_written(writer: Writer) -> None:
    """A service stands in the map once for each address of the host."""
    one = wanted(A, B).services["db"]
    fronts = tuple(Front(ip_address(f"203.0.114.{number}"), 7000, TCP) for number in range(65))
    with pytest.raises(MapFull, match=r"65 addresses and ports .* the maps hold 64; raise xdp_services"):
        write(writer, Wanted({"db": replace(one, fronts=fronts)}))
    assert list(writer.generation.maps["services4"].keys()) == []


def test_only_addresses_of_nat_services_take_no_fragment_that_follows_none(writer: Writer) -> None:
    """As long as such a service is there, whatever else is at the address."""
    at, elsewhere = ip_address("203.0.114.1"), ip_address("203.0.114.2")
    nat, gue = wanted(A, forward="nat", protocol=UDP), wanted(A, protocol=UDP)
    second = WantedService("dns", "nat", (Front(at, 53, UDP),), nat.services["db"].reals)
    steps = [
        (nat.services, True), ({**nat.services, "dns": second}, True), ({"dns": second}, True),
        (gue.services, False), (nat.services, True), ({}, False),
    ]  # fmt: skip
    for number, (said, dropped) in enumerate(steps):
        write(writer, Wanted(said, own=frozenset({at, elsewhere})))
        fates = []
        for address in (at, elsewhere):
            later = Packet(source="198.51.100.7", destination=str(address), protocol=UDP)
            later = later.but(fragment=(1480, False))
            fates.append(writer.generation.run(later.bytes())[0])
        assert fates == [DROP if dropped else PASS, PASS], number
