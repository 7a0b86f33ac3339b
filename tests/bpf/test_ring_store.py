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

A, B, C = (RealKey(ip_address(f"10.1.0.{number}"), 0) for number in (1, 2, 3))
MACS = {key.address: bytes([2, 0, 0, 0, 0, number]) for number, key in enumerate((A, B, C), 1)}


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


def test_what_is_known_of_a_ring_is_what_its_slots_say(writer: Writer) -> None:
    """Of a real that came and went again before it was anybody's, too; by this a number is given away."""
    for reals in ((A, B), (A, B, C), (A, B), (B,), (A, C), (), (C,)):
        write(writer, wanted(a=reals))
        ring, [placed] = writer.rings["a", 0], writer.rings.of_service("a")
        assert placed.reals == (frozenset(ring.current) | frozenset(ring.previous)) - {0}
        assert placed.moved == sum(ring.moved) and placed.served == bool(reals)
    writer.rings.finalise(("a", 0), range(SLOTS))
    writer.rings.flush()
    assert [(one.moved, len(one.reals)) for one in writer.rings.of_service("a")] == [(0, 1)]


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
        ring.step([number + 1] * SLOTS)
        tables.put(number, ring)
    tables.flush()
    for number, ring in rings.items():
        found = read.ring(number)
        assert found is not None and found.words() == ring.words()
    tables.close()


def test_what_could_not_be_finalised_in_the_kernel_is_put_there_by_the_next_flush(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the file says that no slot leads to the real before, whose number is then another's."""

    def none(*arguments: object) -> None:
        raise OSError(12, "out of memory")

    write(writer, wanted(a=(A,), b=(A,)))
    write(writer, wanted(a=(B,), b=(B,)))
    with monkeypatch.context() as broken:
        broken.setattr(writer.generation.maps["rings"], "put_many", none)
        writer.rings.finalise(("a", 0), range(SLOTS))
        with pytest.raises(OSError, match="out of memory"):
            writer.rings.flush()
    writer.rings.flush()
    # Half a mebibyte: pytest would take minutes to say where they differ.
    told = live(writer, "a") == writer.rings["a", 0].words()
    assert told


def test_a_name_that_was_left_of_another_ring_is_not_written_through(tmp_path: Path) -> None:
    """Killed between the link and its move, the agent leaves a second name of a file that is in use."""
    files, shared, other = RingFiles(tmp_path), Ring([1] * SLOTS), Ring([2] * SLOTS)
    files.write(3, shared)
    (tmp_path / "5.new").hardlink_to(tmp_path / "3")
    RingFiles(tmp_path).write(5, other)
    found = [RingFiles(tmp_path).read(number) for number in (3, 5)]
    assert [one and one.digest() for one in found] == [shared.digest(), other.digest()]


def test_a_name_too_many_that_stays_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What raises has not exchanged the file."""

    def stays(self: Path, missing_ok: bool = False) -> None:
        if self.exists():
            raise OSError(5, "input/output error")

    one, other = Ring([1] * SLOTS), Ring([2] * SLOTS)
    for number in (1, 2):
        RingFiles(tmp_path).write(number, one)
    (tmp_path / "1").unlink()
    (tmp_path / "1").hardlink_to(tmp_path / "2")
    files = RingFiles(tmp_path)
    files.read(2)
    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", stays)
        files.write(1, one)
    assert (tmp_path / "1.new").exists()
    files.write(1, other)
    found = [RingFiles(tmp_path).read(number) for number in (1, 2)]
    assert [ring and ring.digest() for ring in found] == [other.digest(), one.digest()]


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
