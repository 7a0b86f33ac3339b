"""The store: one database, one sealing key, transactions that are whole or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from xds_agent.store.database import open_database, refusals, writing
from xds_agent.store.sealing import Sealer


class Store:
    """Thread-safe: each transaction has a connection of its own; writers of one SQLite file wait in line."""

    def __init__(self, engine: Engine, sealer: Sealer) -> None:
        self.engine = engine
        self.sealer = sealer

    @classmethod
    def open(cls, url: str, key_file: Path) -> Store:
        """Open and migrate. Raises StoreError or SealError with one sentence for the operator."""
        with refusals():
            sealer = Sealer.from_file(key_file)
        return cls(open_database(url), sealer)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One write transaction: committed and on disk when the block ends, nothing of it otherwise.

        Raises StoreFull when there is no room, StoreError for other refusals.
        """
        with refusals(), writing(self.engine) as connection, Session(bind=connection) as session:
            yield session
            session.flush()

    @contextmanager
    def read(self) -> Iterator[Session]:
        with refusals(), Session(self.engine) as session:
            yield session

    def close(self) -> None:
        self.engine.dispose()
