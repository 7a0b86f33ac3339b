"""Bytes of the journal: framed, checksummed records, and reading them back without trusting one of them.

file   = MAGIC record*
record = kind:u8 length:u32 payload checksum:16     (little-endian; blake2b of kind, length, payload)

SET      sequence revision number count item*        a whole set (first record, made by compaction)
PREPARED sequence revision number count item*        what a revision changes, fsynced beside its apply
COMMIT   sequence                                    that revision is live

item   = type:u8 removed:u8 name version raw         texts and raw with u32 lengths
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from xds_agent.snapshot.resource import TYPES, Resource, Snapshot, digests, revision_id

MAGIC = b"MPJ1"
CHECKSUM_BYTES = 16
_HEAD = struct.Struct("<BI")
_NUMBERS = struct.Struct("<QQI")
_LENGTH = struct.Struct("<I")
_COMMIT_HEAD = _HEAD.pack(3, 8)
_COMMIT_BYTES = _HEAD.size + 8 + CHECKSUM_BYTES
_INDEX = {type_url: index for index, type_url in enumerate(TYPES)}


class JournalError(Exception):
    """The journal holds nothing that can be trusted; the words say why."""


class Kind(IntEnum):
    SET = 1
    PREPARED = 2
    COMMIT = 3


@dataclass(frozen=True, slots=True)
class Item:
    """One resource that came (`resource`) or went (`resource` None)."""

    type_url: str
    name: str
    resource: Resource | None


@dataclass(slots=True)
class Replayed:
    """What a journal's bytes hold: the last committed set, and how far they could be believed."""

    snapshot: Snapshot
    sequence: int
    good_bytes: int  # up to the end of the last committed record
    damage: str = ""  # words, where bytes that had been committed cannot be read any more
    unfinished: frozenset[tuple[str, str]] = frozenset()  # (type, name) of changes prepared, not committed


def set_record(sequence: int, snapshot: Snapshot) -> bytes:
    items = (Item(t, r.name, r) for t in TYPES for r in snapshot.of_type(t).values())
    return _record(Kind.SET, _payload(sequence, snapshot, items))


def prepared_record(sequence: int, target: Snapshot, items: Iterable[Item]) -> bytes:
    return _record(Kind.PREPARED, _payload(sequence, target, items))


def commit_record(sequence: int) -> bytes:
    return _record(Kind.COMMIT, struct.pack("<Q", sequence))


def replay(data: bytes) -> Replayed:
    """Read a journal. Raises JournalError when not even its first set can be believed.

    Truncated anywhere, it yields the set that was committed last before the cut. Bytes that are damaged in
    the middle end the reading there, said in `damage`: the set before is whole, but maybe not the newest.
    """
    if not data.startswith(MAGIC):
        raise JournalError("this is no journal of ours (or its first bytes are damaged)")
    records = _Reader(data)
    state = _State()
    good = 0
    for count, (kind, payload) in enumerate(records):
        try:
            committed = state.take(kind, payload)
        except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
            raise JournalError(f"record {count} has a right checksum and wrong content: {error}") from error
        if committed:
            good = records.position
    if state.snapshot is None:
        raise JournalError(f"its first set cannot be read: {records.words or 'it is missing'}")
    found = revision_id(digests(state.snapshot.resources))
    if found != state.snapshot.revision:
        raise JournalError(f"its set adds up to {found}, not to its revision {state.snapshot.revision}")
    return Replayed(state.snapshot, state.sequence, good, records.damage(), state.unfinished())


class _Reader:
    """Iterates over whole, checksummed records and remembers where and why it stopped."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = len(MAGIC)
        self.words = ""

    def __iter__(self) -> Iterator[tuple[int, memoryview]]:
        data = memoryview(self._data)
        while self.position < len(data):
            start = self.position
            end = start + _HEAD.size
            if end > len(data):
                self.words = "cut off inside a record's head"
                return
            kind, length = _HEAD.unpack_from(data, start)
            stop = end + length + CHECKSUM_BYTES
            if stop > len(data):
                self.words = "cut off inside a record"
                return
            if _checksum(data[start : end + length]) != bytes(data[end + length : stop]):
                self.words = "damaged"
                return
            self.position = stop
            yield kind, data[end : end + length]

    def damage(self) -> str:
        """Words if more than a torn tail was lost: a whole commit mark lies behind the bad record."""
        lost = 0
        at = self._data.find(_COMMIT_HEAD, self.position)
        while at >= 0:
            end = at + _COMMIT_BYTES
            body, checksum = self._data[at : end - CHECKSUM_BYTES], self._data[end - CHECKSUM_BYTES : end]
            lost += _checksum(body) == checksum
            at = self._data.find(_COMMIT_HEAD, at + 1)
        if not lost:
            return ""
        return f"damaged at byte {self.position}; {lost} revisions committed after it cannot be read"


class _State:
    """The set as records are applied to it; changes of a prepared record wait for its commit."""

    def __init__(self) -> None:
        self.sequence = 0
        self.snapshot: Snapshot | None = None
        self._resources: dict[str, dict[str, Resource]] = {}
        self._prepared: tuple[int, str, int, list[Item]] | None = None

    def take(self, number: int, payload: memoryview) -> bool:
        """Apply one record; True if the set is a committed one after it."""
        kind = Kind(number)
        if kind is Kind.COMMIT:
            (sequence,) = struct.unpack("<Q", payload)
            if self._prepared is None or self._prepared[0] != sequence:
                raise ValueError(f"a commit of {sequence}, which was not prepared")
            self._apply(*self._prepared)
            return True
        parsed = _parse(payload)
        if kind is Kind.SET:
            self._resources = {t: {} for t in TYPES}
            self._apply(*parsed)
            return True
        if self.snapshot is None:
            raise ValueError("changes without a set to change")
        self._prepared = parsed
        return False

    def unfinished(self) -> frozenset[tuple[str, str]]:
        """What was being changed when the record of it was the last word."""
        items = self._prepared[3] if self._prepared is not None else []
        return frozenset((item.type_url, item.name) for item in items)

    def _apply(self, sequence: int, revision: str, number: int, items: list[Item]) -> None:
        for item in items:
            if item.resource is None:
                self._resources[item.type_url].pop(item.name, None)
            else:
                self._resources[item.type_url][item.name] = item.resource
        self.sequence, self._prepared = sequence, None
        self.snapshot = Snapshot(self._resources, revision, number)


def _record(kind: Kind, payload: bytes) -> bytes:
    head = _HEAD.pack(kind, len(payload))
    return b"".join((head, payload, _checksum(head + payload)))


def _checksum(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=CHECKSUM_BYTES).digest()


def _payload(sequence: int, target: Snapshot, items: Iterable[Item]) -> bytes:
    parts: list[bytes] = []
    count = 0
    for item in items:
        version, raw = (item.resource.version, item.resource.raw) if item.resource else ("", b"")
        parts.append(bytes((_INDEX[item.type_url], item.resource is None)))
        for text in (item.name.encode(), version.encode(), raw):
            parts += (_LENGTH.pack(len(text)), text)
        count += 1
    revision = target.revision.encode()
    front = (_NUMBERS.pack(sequence, target.number, count), _LENGTH.pack(len(revision)), revision)
    return b"".join((*front, *parts))


def _parse(payload: memoryview) -> tuple[int, str, int, list[Item]]:
    sequence, number, count = _NUMBERS.unpack_from(payload)
    position = _NUMBERS.size

    def take() -> bytes:
        nonlocal position
        (length,) = _LENGTH.unpack_from(payload, position)
        start = position + _LENGTH.size
        position = start + length
        if position > len(payload):
            raise ValueError("a text runs past its record")
        return bytes(payload[start:position])

    revision = take().decode()
    items = []
    for _ in range(count):
        type_url, removed = TYPES[payload[position]], payload[position + 1]
        position += 2
        name, version, raw = take().decode(), take().decode(), take()
        items.append(Item(type_url, name, None if removed else Resource(type_url, name, version, raw)))
    if position != len(payload):
        raise ValueError("bytes left over at a record's end")
    return sequence, revision, number, items
