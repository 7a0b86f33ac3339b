"""What the node agent finds on the BPF file system: numbers, owners, layouts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bpf.conftest import SMALL
from tests.bpf.support.packets import ACK, SYN, Packet
from tests.bpf.test_writer import A, B, wanted, write
from xds_agent.datapath.libbpf import check, library
from xds_agent.datapath.program import TX, Generation
from xds_agent.node.datapath.attachment import (
    MAPS,
    AttachError,
    Loaded,
    attach,
    balance_seed,
    host_seed,
    load_beside,
)
from xds_agent.node.datapath.network import Interface
from xds_agent.node.datapath.rings import RingFiles
from xds_agent.node.datapath.writer import Writer

AGENT = 12_345


@pytest.fixture
def folder(bpffs: Path) -> Path:
    place = bpffs / "datapath"
    place.mkdir()
    os.chown(place, AGENT, AGENT)
    return place


def loaded(program: Path, folder: Path, **sizes: int) -> Loaded:
    return load_beside(program, folder=folder, sizes=replace(SMALL, **sizes), balance_seed=1, host_seed=2)


@pytest.mark.parametrize("more", [{"reals": 128}, {"services": 128}, {"services": 128, "reals": 128}])
def test_numbers_outlive_another_size_of_their_maps(
    program: Path, folder: Path, tmp_path: Path, more: dict[str, int]
) -> None:
    """Flows in the tables name reals by number: under another one they would go to somebody else."""
    before = loaded(program, folder).generation
    writer = Writer(before, rings=RingFiles(tmp_path), mtu=1500)
    for target in (wanted(A), wanted(A, B), wanted(B)):
        write(writer, target)
    numbers = writer.services["db"], writer.ring_numbers["db", 0], writer.reals[B]
    moved = writer.rings["db", 0].words()
    attach(before, (), folder=folder, native=True)
    before.close()
    after = loaded(program, folder, **more)
    try:
        successor = Writer(after.generation, rings=RingFiles(tmp_path), mtu=1500)
        assert after.taken_over
        successor.take_over(wanted(B))
        write(successor, wanted(B))
        assert (successor.services["db"], successor.ring_numbers["db", 0], successor.reals[B]) == numbers
        assert successor.rings["db", 0].words() == moved
        assert successor.leaving() == [A]
    finally:
        after.generation.close()


def _real_of(generation: Generation, packet: Packet) -> bytes:
    """Where it is sent, encapsulated."""
    verdict, frame = generation.run(packet.bytes())
    assert verdict == TX
    return frame[30:34]


@pytest.mark.parametrize("flows", [SMALL.flows * 2, SMALL.flows // 2])
def test_flows_outlive_another_size_of_their_table(
    program: Path, folder: Path, tmp_path: Path, flows: int
) -> None:
    """One that began between two steps of its slot is known to that table alone."""
    before = loaded(program, folder).generation
    writer = Writer(before, rings=RingFiles(tmp_path), mtu=1500)
    write(writer, wanted(A))
    write(writer, wanted(B))
    opening = Packet("198.51.100.7", "203.0.114.1", dport=7000, flags=SYN)
    assert _real_of(before, opening) == B.address.packed
    write(writer, wanted(A))
    following = opening.but(flags=ACK)
    assert _real_of(before, following) == B.address.packed
    attach(before, (), folder=folder, native=True)
    before.close()
    after = loaded(program, folder, flows=flows).generation
    try:
        assert "flows" in after.fresh
        successor = Writer(after, rings=RingFiles(tmp_path), mtu=1500)
        successor.take_over(wanted(A))
        write(successor, wanted(A))
        assert _real_of(after, following) == B.address.packed
        assert _real_of(after, following.but(sport=41000)) == A.address.packed, "nobody's flow"
    finally:
        after.close()


def test_what_root_attaches_by_hand_is_the_agents(program: Path, folder: Path, tmp_path: Path) -> None:
    """It has no right to open what is root's, and would never start again."""
    runtime = tmp_path / "run"
    runtime.mkdir()
    os.chown(runtime, AGENT, AGENT)
    host_seed(runtime)
    generation = loaded(program, folder).generation
    try:
        attach(generation, (), folder=folder, native=True)
    finally:
        generation.close()
    made = [*folder.rglob("*"), *runtime.iterdir()]
    assert len(made) > len(generation.maps)
    assert {path.stat().st_uid for path in made} == {AGENT}


def test_maps_of_another_layout_are_let_go(program: Path, folder: Path) -> None:
    generation = loaded(program, folder).generation
    old = folder / MAPS / "0123456789abcdef"
    old.mkdir(parents=True)
    check(library().bpf_obj_pin(generation.maps["reals"].fd, str(old / "reals").encode()), "pinning")
    try:
        attach(generation, (), folder=folder, native=True)
    finally:
        generation.close()
    assert [place.name for place in (folder / MAPS).iterdir()] == [generation.layout]


def test_where_one_card_refuses_the_next_attempt_has_the_same_tables(program: Path, folder: Path) -> None:
    """Tried again every few seconds, with empty tables each time, the other cards' flows would never live."""
    gone = Interface("gone0", 999_999, 1500, bytes(6), "veth", (), 0)
    first = loaded(program, folder).generation
    assert attach(first, (gone,), folder=folder, native=True).refused.keys() == {"gone0"}
    first.close()
    second = loaded(program, folder)
    second.generation.close()
    assert second.taken_over
    assert second.generation.fresh == ()


def destinations(program: Path, folder: Path, tmp_path: Path, *, seed: int, host: int) -> list[bytes]:
    """Where an edge of its own sends 200 new connections."""
    generation = load_beside(
        program, folder=folder, sizes=SMALL, balance_seed=seed, host_seed=host
    ).generation
    try:
        write(Writer(generation, rings=RingFiles(tmp_path / str(host)), mtu=1500), wanted(A, B))
        opening = Packet(destination="203.0.114.1", dport=7000, flags=SYN)
        frames = [generation.run(opening.but(sport=20_000 + at).bytes()) for at in range(200)]
        assert {verdict for verdict, _ in frames} == {TX}
        return [frame[30:34] for _, frame in frames]
    finally:
        generation.close()


def test_edges_of_a_site_choose_the_same_reals_and_others_cannot_foresee_them(
    program: Path, bpffs: Path, tmp_path: Path
) -> None:
    """The site's seed decides, whatever each host's own secret is."""
    first, second, stranger = (
        destinations(program, bpffs / name, tmp_path, seed=seed, host=host)
        for name, seed, host in (("one", 0xBA1A, 11), ("two", 0xBA1A, 12), ("three", 0xBA1B, 13))
    )
    assert first == second
    assert sum(one != other for one, other in zip(first, stranger, strict=True)) > 50


def test_the_sites_seed_is_read_or_refused_without_showing_it(tmp_path: Path) -> None:
    file = tmp_path / "balance.seed"
    with pytest.raises(AttachError, match=r"No such file.*role xds_agent writes it"):
        balance_seed(file, tmp_path)
    for said in ("secret-but-no-number", str(1 << 32)):
        file.write_text(said)
        with pytest.raises(AttachError) as refused:
            balance_seed(file, tmp_path)
        assert said not in str(refused.value)
    file.write_text("4294967295\n")
    assert balance_seed(file, tmp_path) == 0xFFFFFFFF
    assert balance_seed(None, tmp_path) == balance_seed(None, tmp_path) == host_seed(tmp_path)
