"""What a simulated cloud holds, in one file; one writer at a time, and a crash leaves the file whole."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Record:
    """One resource that the cloud holds."""

    id: str
    token: str
    region: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    # Other names under which resources refer to it (an ARN, a self link).
    names: list[str] = field(default_factory=list)


@dataclass
class World:
    """All records of one cloud. ``serial`` grows with every resource ever made, so that no id comes twice."""

    records: list[Record] = field(default_factory=list)
    serial: int = 0

    def __post_init__(self) -> None:
        self._by_name: dict[str, list[Record]] = {}
        self._by_token: dict[str, list[Record]] = {}
        known, self.records = self.records, []
        for record in known:
            self.add(record)

    def of(self, *tokens: str) -> list[Record]:
        return [record for token in tokens for record in self._by_token.get(token, [])]

    def find(self, reference: str, token: str | None = None) -> Record | None:
        """The record with this id or other name; of one type where names of several types may be alike."""
        found = self._by_name.get(reference, [])
        return next((record for record in found if token in (None, record.token)), None)

    def add(self, record: Record) -> None:
        self.records.append(record)
        self._by_token.setdefault(record.token, []).append(record)
        for name in {record.id, *record.names}:
            self._by_name.setdefault(name, []).append(record)

    def remove(self, record: Record) -> None:
        """Take a record out; nothing happens if it is out already."""
        same = [one for one in self.of(record.token) if one.id == record.id]
        for known in same:
            self.records.remove(known)
            self._by_token[known.token].remove(known)
            for name in {known.id, *known.names}:
                self._by_name[name].remove(known)


class Store:
    """The file of one cloud's world."""

    def __init__(self, folder: Path, cloud: str) -> None:
        self.cloud = cloud
        self._file = folder / f"{cloud}.json"
        self._lock = folder / f"{cloud}.lock"

    def read(self) -> World:
        """The world as it is; renaming makes every write whole, so no lock is needed."""
        try:
            found = json.loads(self._file.read_text())
        except FileNotFoundError:
            return World()
        return World([Record(**record) for record in found["records"]], found["serial"])

    @contextmanager
    def change(self) -> Iterator[World]:
        """The world, for one writer; what the block made of it is kept unless it raises."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            world = self.read()
            yield world
            self._write(world)

    def _write(self, world: World) -> None:
        fresh = self._file.with_suffix(".new")
        text = json.dumps({"serial": world.serial, "records": [vars(record) for record in world.records]})
        # The cloud knows the passwords it was given: nobody else reads them.
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as target:
            target.write(text)
        fresh.replace(self._file)
