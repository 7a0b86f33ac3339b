"""The set Envoy last acknowledged, on this host's disk: what it is served at boot when control is dead.

An append-only file. A revision's changes are written before Envoy sees any of them (a full disk refuses the
revision there), fsynced beside the apply, and count once their commit mark is written after it. The mark is
fsynced shortly after, without anybody waiting (by the next revision's own fsync, if that comes sooner): a
power cut in that moment serves the set before, which is whole, and control then brings the newer one. The
file is compacted, by writing a new one and renaming it, once changes outweigh the set.

Mode 0600: the private keys that reach this host by SDS are in it, as they are in Envoy's memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from xds_agent.node.journal_format import (
    MAGIC,
    Item,
    JournalError,
    commit_record,
    prepared_record,
    replay,
    set_record,
)
from xds_agent.snapshot.resource import CLUSTER, EMPTY, TYPES, Snapshot

log = logging.getLogger(__name__)

FILE = "journal"
# Compact when the appended bytes pass the set's own by this factor, but not for less than a megabyte.
_COMPACT_FACTOR = 2
_COMPACT_AT_LEAST_BYTES = 1 << 20
# How long a commit mark may wait for its fsync: changes in quick succession share one.
_MARK_SYNC_S = 0.05


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While it lasts this process is the only one with the journal in `folder`: two would write over each
    other. Raises OSError when another one is there; the kernel lets go of the lock however a process ends."""
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise OSError(f"another node agent runs with {folder}") from error
    try:
        yield
    finally:
        os.close(handle)


class Journal:
    """One open journal: `snapshot` is the last committed set, `problem` says what was lost of it."""

    def __init__(self, folder: Path) -> None:
        """Open or create `folder`/journal and replay it. Raises OSError when it cannot be read or written."""
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._path = folder / FILE
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self.snapshot: Snapshot = EMPTY
        self.problem = ""
        # Clusters in the middle of whose change the last process ended.
        self.unfinished: frozenset[str] = frozenset()
        self._sequence = 0
        self._prepared: tuple[int, Snapshot] | None = None
        self._base_bytes = self._end = 0
        self._compacting: Future[None] | None = None
        self._mark_sync: asyncio.TimerHandle | None = None
        self._file = self._open()

    @property
    def size_bytes(self) -> int:
        return self._end

    async def prepare(self, target: Snapshot, changed: Mapping[str, Iterable[str]]) -> asyncio.Future[None]:
        """Write what `target` changes against the committed set: `changed` holds names per type.

        Returns the fsync under way, to be awaited before `commit`. Raises OSError, with the file as it was,
        when the disk takes no more.
        """
        if self._compacting is not None:
            await asyncio.wrap_future(self._compacting)
            self._compacting = None
        items = [Item(t, n, target.of_type(t).get(n)) for t in TYPES for n in sorted(changed.get(t, ()))]
        self._cancel_mark_sync()
        self._sequence += 1
        self._append(prepared_record(self._sequence, target, items))
        self._prepared = (self._sequence, target)
        return asyncio.get_running_loop().run_in_executor(self._disk, os.fsync, self._file)

    def commit(self) -> None:
        """Mark what was prepared as live. Raises OSError when the mark cannot be written."""
        if self._prepared is None:
            raise RuntimeError("nothing was prepared")
        sequence, target = self._prepared
        self._append(commit_record(sequence))
        self.snapshot, self._prepared = target, None
        if self._end > _COMPACT_AT_LEAST_BYTES and self._end > self._base_bytes * (1 + _COMPACT_FACTOR):
            self._compacting = self._disk.submit(self._compact, target, sequence)
        else:
            loop = asyncio.get_running_loop()
            self._mark_sync = loop.call_later(_MARK_SYNC_S, self._disk.submit, self._sync_quietly)

    def abandon(self) -> None:
        """Forget what was prepared: the revision was refused. The next record simply follows it."""
        self._prepared = None

    def close(self) -> None:
        """Wait for the disk and close the file."""
        if self._mark_sync is not None:
            self._disk.submit(self._sync_quietly)
        self._cancel_mark_sync()
        self._disk.shutdown(wait=True)
        os.close(self._file)

    def _open(self) -> int:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return self._create(EMPTY, 0)
        try:
            found = replay(data)
        except JournalError as error:
            return self._set_aside(f"the journal cannot be used: {error}", EMPTY, 0)
        if found.damage:
            return self._set_aside(f"the journal is {found.damage}", found.snapshot, found.sequence)
        self.snapshot, self._sequence = found.snapshot, found.sequence
        self.unfinished = frozenset(name for type_url, name in found.unfinished if type_url == CLUSTER)
        self._end = found.good_bytes
        self._base_bytes = len(set_record(0, found.snapshot))
        file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        if found.good_bytes < len(data):
            log.warning("journal: cut off %d bytes of an unfinished record", len(data) - found.good_bytes)
            os.ftruncate(file, found.good_bytes)
        return file

    def _set_aside(self, words: str, snapshot: Snapshot, sequence: int) -> int:
        """Keep the damaged file for whoever wants to look, and start a new one from what was whole."""
        aside = self._path.with_suffix(".damaged")
        self._path.replace(aside)
        self.problem = f"{words}; kept as {aside}, serving revision {snapshot.revision or 'none'}"
        log.error("%s", self.problem)
        try:
            return self._create(snapshot, sequence)
        except OSError:
            # No room: what is whole in it must still be there for the next start.
            aside.replace(self._path)
            raise

    def _create(self, snapshot: Snapshot, sequence: int) -> int:
        self.snapshot, self._sequence = snapshot, sequence
        return self._write_new(snapshot, sequence)

    def _compact(self, snapshot: Snapshot, sequence: int) -> None:
        """In the disk thread; no append happens meanwhile. A full disk leaves the old file in use."""
        try:
            old, self._file = self._file, self._write_new(snapshot, sequence)
        except OSError as error:
            log.warning("journal: not compacted: %s", error)
            self._sync_quietly()
            return
        os.close(old)

    def _write_new(self, snapshot: Snapshot, sequence: int) -> int:
        temporary = self._path.with_suffix(".new")
        data = MAGIC + set_record(sequence, snapshot)
        file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write(file, data, 0)
            os.fsync(file)
            temporary.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError:
            os.close(file)
            temporary.unlink(missing_ok=True)
            raise
        self._end = self._base_bytes = len(data)
        return file

    def _append(self, record: bytes) -> None:
        try:
            _write(self._file, record, self._end)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise
        self._end += len(record)

    def _cancel_mark_sync(self) -> None:
        if self._mark_sync is not None:
            self._mark_sync.cancel()
            self._mark_sync = None

    def _sync_quietly(self) -> None:
        try:
            os.fsync(self._file)
        except OSError as error:
            log.error("journal: fsync after a commit failed: %s", error)


def _write(file: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, position)
        view, position = view[written:], position + written


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
