"""The journal: what was committed comes back whole, whatever happened to the file; never half of it."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xds_agent.node.journal import FILE, Journal, alone
from xds_agent.node.journal_format import (
    MAGIC,
    Item,
    JournalError,
    commit_record,
    prepared_record,
    replay,
    set_record,
)
from xds_agent.snapshot.resource import EMPTY, TYPES, Snapshot


def changed(old: Snapshot, new: Snapshot) -> dict[str, set[str]]:
    return {
        t: {
            n
            for n in old.of_type(t).keys() | new.of_type(t).keys()
            if old.of_type(t).get(n) != new.of_type(t).get(n)
        }
        for t in TYPES
    }


def same(one: Snapshot, other: Snapshot) -> bool:
    return one.revision == other.revision and all(
        dict(one.of_type(t)) == dict(other.of_type(t)) for t in TYPES
    )


async def commit(journal: Journal, target: Snapshot) -> None:
    synced = await journal.prepare(target, changed(journal.snapshot, target))
    await synced
    journal.commit()


def reopened(folder: Path) -> Journal:
    journal = Journal(folder)
    journal.close()
    return journal


async def test_a_new_journal_is_empty(tmp_path):
    assert same(reopened(tmp_path / "node").snapshot, EMPTY)


async def test_committed_sets_come_back(tmp_path, snapshot):
    journal = Journal(tmp_path)
    for target in (snapshot(3, 1), snapshot(2, 2, extra=9), snapshot(0), snapshot(4, 3)):
        await commit(journal, target)
    journal.close()
    again = reopened(tmp_path)
    assert same(again.snapshot, snapshot(4, 3))
    assert again.snapshot.number == 3
    assert again.problem == ""


async def test_what_was_prepared_and_not_committed_does_not_count(tmp_path, snapshot):
    journal = Journal(tmp_path)
    await commit(journal, snapshot(2, 1))
    await (await journal.prepare(snapshot(2, 2), changed(snapshot(2, 1), snapshot(2, 2))))
    journal.close()
    again = reopened(tmp_path)
    assert same(again.snapshot, snapshot(2, 1))
    assert again.unfinished == {"c0", "c1"}
    assert reopened(tmp_path).unfinished == frozenset()


async def test_a_refused_revision_leaves_no_trace_in_later_ones(tmp_path, snapshot):
    journal = Journal(tmp_path)
    await commit(journal, snapshot(2, 1))
    await (await journal.prepare(snapshot(1, 2), changed(snapshot(2, 1), snapshot(1, 2))))
    journal.abandon()
    await commit(journal, snapshot(2, 1, a=4))
    journal.close()
    assert same(reopened(tmp_path).snapshot, snapshot(2, 1, a=4))


async def test_the_file_is_private(tmp_path):
    Journal(tmp_path).close()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


async def test_compaction_keeps_the_set_and_shrinks_the_file(tmp_path, snapshot, monkeypatch):
    monkeypatch.setattr("xds_agent.node.journal._COMPACT_AT_LEAST_BYTES", 0)
    journal = Journal(tmp_path)
    sizes = []
    for generation in range(1, 30):
        await commit(journal, snapshot(5, generation))
        sizes.append(journal.size_bytes)
    journal.close()
    assert max(sizes) < 8 * sizes[0]
    again = reopened(tmp_path)
    assert same(again.snapshot, snapshot(5, 29))


async def test_a_full_disk_refuses_before_anything_and_keeps_the_set(tmp_path, snapshot, monkeypatch):
    journal = Journal(tmp_path)
    await commit(journal, snapshot(2, 1))
    real = os.pwrite

    def full(file: int, data: bytes, position: int) -> int:
        if position > journal.size_bytes:
            raise OSError(28, "No space left on device")
        return real(file, bytes(data)[:10], position)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        await journal.prepare(snapshot(9, 2), changed(snapshot(2, 1), snapshot(9, 2)))
    monkeypatch.setattr(os, "pwrite", real)
    await commit(journal, snapshot(2, 3))
    journal.close()
    assert same(reopened(tmp_path).snapshot, snapshot(2, 3))


async def test_damage_in_the_middle_is_said_and_the_file_kept(tmp_path, snapshot):
    journal = Journal(tmp_path)
    sizes = []
    for generation in (1, 2, 3):
        await commit(journal, snapshot(2, generation))
        sizes.append(journal.size_bytes)
    journal.close()
    data = bytearray((tmp_path / FILE).read_bytes())
    data[sizes[0] + 40] ^= 0xFF
    (tmp_path / FILE).write_bytes(data)
    again = reopened(tmp_path)
    assert same(again.snapshot, snapshot(2, 1))
    assert "2 revisions committed after it cannot be read" in again.problem
    assert (tmp_path / "journal.damaged").read_bytes() == bytes(data)
    assert same(reopened(tmp_path).snapshot, snapshot(2, 1))


async def test_a_file_of_somebody_else_is_set_aside(tmp_path):
    (tmp_path / FILE).write_text("hello")
    again = reopened(tmp_path)
    assert same(again.snapshot, EMPTY)
    assert "no journal of ours" in again.problem


def _history(snapshot) -> tuple[bytes, list[tuple[int, Snapshot]]]:
    """A journal's bytes, and (length, set) after each commit."""
    sets = [snapshot(1, 1), snapshot(2, 2), snapshot(1, 2, b=5), snapshot(3, 4)]
    data = MAGIC + set_record(0, sets[0])
    committed = [(len(data), sets[0])]
    for sequence, (old, new) in enumerate(itertools.pairwise(sets), start=1):
        items = [
            Item(t, n, new.of_type(t).get(n)) for t, names in changed(old, new).items() for n in sorted(names)
        ]
        data += prepared_record(sequence, new, items) + commit_record(sequence)
        committed.append((len(data), new))
    return data, committed


def test_truncated_at_every_byte_it_holds_the_last_committed_set(snapshot):
    data, committed = _history(snapshot)
    for cut in range(len(data) + 1):
        before = [held for length, held in committed if length <= cut]
        if not before:
            with pytest.raises(JournalError):
                replay(data[:cut])
            continue
        found = replay(data[:cut])
        assert same(found.snapshot, before[-1]), cut
        assert not found.damage, cut


def test_damaged_at_every_byte_it_holds_a_set_that_was_committed_or_says_so(snapshot):
    data, committed = _history(snapshot)
    known = [held for _, held in committed]
    for position in range(len(data)):
        bad = bytearray(data)
        bad[position] ^= 0x55
        try:
            found = replay(bytes(bad))
        except JournalError:
            assert position < committed[0][0]
            continue
        expected = [held for length, held in committed if length <= position]
        assert same(found.snapshot, expected[-1]), position
        assert found.snapshot in known
        # Only a damaged last mark looks like a revision that was never committed.
        assert bool(found.damage) == (position < len(data) - len(commit_record(1))), position


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_any_overwrite_and_cut_never_yields_half_a_set(snapshot, data):
    whole, committed = _history(snapshot)
    bad = bytearray(whole)
    start = data.draw(st.integers(0, len(bad)))
    bad[start : start + 64] = data.draw(st.binary(max_size=64))
    del bad[data.draw(st.integers(0, len(bad))) :]
    try:
        found = replay(bytes(bad))
    except JournalError:
        return
    assert any(same(found.snapshot, held) for _, held in committed)


def test_a_second_agent_is_turned_away_while_the_first_one_runs(tmp_path):
    folder = tmp_path / "state"
    with alone(folder), pytest.raises(OSError, match="another node agent"), alone(folder):
        pass
    with alone(folder):
        pass


def test_a_damaged_journal_stays_where_it_is_while_the_disk_is_full(tmp_path, monkeypatch):
    damaged = b"no journal at all"
    (tmp_path / FILE).write_bytes(damaged)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("xds_agent.node.journal.os.pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            Journal(tmp_path)
    assert (tmp_path / FILE).read_bytes() == damaged
    journal = Journal(tmp_path)
    assert "kept as" in journal.problem
    journal.close()
