"""Rings that are alike are kept once; one that moves does so alone, and where nobody shares it in place."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.bpf.conftest import Loader
from xds_agent.datapath.maglev import SLOTS, Ring
from xds_agent.datapath.ring_tables import RingTables
from xds_agent.datapath.services import Settings, Tables
from xds_agent.node.datapath.rings import RingFiles
from xds_agent.node.datapath.wanted import Front, RealKey, Wanted, WantedReal, WantedService
from xds_agent.node.datapath.writer import Writer

A, B = (RealKey(ip_address(f"10.1.0.{number}"), 0) for number in (1, 2))
MACS = {key.address: bytes([2, 0, 0, 0, 0, number]) for number, key in ((1, A), (2, B))}


def wanted(**reals: tuple[RealKey, ...]) -> Wanted:
    found = {}
    for port, (name, keys) in enumerate(reals.items(), 7000):
        front = Front(ip_address("203.0.114.1"), port, 6)
        found[name] = WantedService(name, "gue", (front,), tuple(WantedReal(key, 1, 0) for key in keys))
    return Wanted(found)


def write(writer: Writer, target: Wanted) -> None:
    writer.apply(target, Settings(), MACS, ())


@pytest.fixture
def writer(loaded: Loader, tmp_path: Path) -> Writer:
    return Writer(loaded(), rings=RingFiles(tmp_path), mtu=1500)


def table_of(writer: Writer, name: str) -> int:
    """Number of the kernel's table."""
    number = writer.generation.maps["rings"].get(writer.ring_numbers[name, 0])
    assert isinstance(number, int)
    return number


def live(writer: Writer, name: str) -> bytes:
    ring = writer.tables.ring(writer.ring_numbers[name, 0])
    assert ring is not None
    return ring.words()


def test_services_with_the_same_reals_share_a_table_and_a_file_until_one_moves(
    writer: Writer, tmp_path: Path
) -> None:
    write(writer, wanted(a=(A, B), b=(A, B), c=(A,)))
    assert table_of(writer, "a") == table_of(writer, "b") != table_of(writer, "c")
    one, other = (tmp_path / str(writer.ring_numbers[name, 0]) for name in "ab")
    assert one.stat().st_ino == other.stat().st_ino
    before = live(writer, "b")
    write(writer, wanted(a=(B,), b=(A, B), c=(A,)))
    assert table_of(writer, "a") != table_of(writer, "b")
    assert live(writer, "b") == before == writer.rings["b", 0].words()
    assert live(writer, "a") == writer.rings["a", 0].words() != before
    assert one.stat().st_ino != other.stat().st_ino


def test_a_ring_of_one_service_steps_in_place(writer: Writer) -> None:
    """Another table would have the kernel wait for all packets under way."""
    write(writer, wanted(a=(A,)))
    before = table_of(writer, "a")
    write(writer, wanted(a=(B,)))
    assert table_of(writer, "a") == before
    assert live(writer, "a") == writer.rings["a", 0].words()
    assert writer.rings.of_service("a")[0].moved == SLOTS


def test_services_whose_reals_move_together_share_a_table_again(writer: Writer) -> None:
    """As when a real that all of them have is ill."""
    write(writer, wanted(a=(A, B), b=(A, B)))
    write(writer, wanted(a=(B,), b=(B,)))
    assert table_of(writer, "a") == table_of(writer, "b")
    assert live(writer, "a") == live(writer, "b") == writer.rings["a", 0].words()


def test_a_successor_reads_a_shared_file_once_and_knows_all_its_rings(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = wanted(a=(A, B), b=(A, B))
    write(writer, target)
    read: list[int] = []
    files = RingFiles(tmp_path)
    inner = RingFiles.read

    def reads(self: RingFiles, number: int) -> Ring | None:
        read.append(number)
        return inner(self, number)

    monkeypatch.setattr(RingFiles, "read", reads)
    successor = Writer(writer.generation, rings=files, mtu=1500)
    successor.take_over(target)
    assert len(read) == 1 and len(successor.rings) == 2
    assert [one.served for name in "ab" for one in successor.rings.of_service(name)] == [True, True]
    write(successor, wanted(a=(A,), b=(A, B)))
    assert live(successor, "b") == writer.rings["b", 0].words()
    successor.rings.close()


def test_beyond_the_tables_that_are_kept_open_a_step_takes_a_new_one(loaded: Loader) -> None:
    generation = loaded()
    tables, read = RingTables(generation, open_tables=1), Tables(generation)
    rings = {number: Ring([number] * SLOTS) for number in (1, 2, 3)}
    for number, ring in rings.items():
        tables.put(number, ring)
    tables.flush()
    for number, ring in rings.items():
        tables.put(number, ring, ring.step([number + 1] * SLOTS))
    tables.flush()
    for number, ring in rings.items():
        found = read.ring(number)
        assert found is not None and found.words() == ring.words()
    tables.close()


def test_a_file_with_more_names_than_one_may_have_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(31, "too many links")

    files, ring = RingFiles(tmp_path), Ring([1] * SLOTS)
    files.write(1, ring)
    monkeypatch.setattr(Path, "hardlink_to", full)
    files.write(2, ring)
    found = files.read(2)
    assert found is not None and found.words() == ring.words()
