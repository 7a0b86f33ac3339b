"""Who leads: the holder of an advisory lock in PostgreSQL. With SQLite there is only one control host.

PostgreSQL frees the lock when the holder's connection ends, however it ended. A leader that was cut off and
does not know it yet is kept from writing by the epoch: each leader counts it up, and every write of a
revision looks whether it still is one's own (`fence`).
"""

from __future__ import annotations

import contextlib
import datetime as dt

from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from xds_agent.store import Store, StoreError
from xds_agent.store.schema import LeadershipRow

_LOCK = 713003
_ROW = 1
# A holder whose host lost its power is noticed by PostgreSQL within this, over TCP.
_NOTICE = (
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 3",
    "SET statement_timeout = 5000",
)


class Leadership:
    """The lock, taken and held by one thread at a time. All methods block."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._connection: Connection | None = None
        self._epoch = 0

    def take(self) -> bool:
        """True when this host leads from now on. Raises StoreError when the database cannot be asked."""
        if not self.shared:
            return True
        connection = self._connect()
        try:
            if not connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LOCK}).scalar():
                connection.close()
                return False
            self._epoch = self._count_up()
        except (DBAPIError, StoreError) as error:
            _drop(connection)
            raise StoreError(f"the leader cannot be settled: {error}") from error
        self._connection = connection
        return True

    def still(self) -> bool:
        """Whether it is still held; a connection that does not answer has lost it."""
        if not self.shared:
            return True
        if self._connection is None:
            return False
        try:
            self._connection.execute(text("SELECT 1"))
        except DBAPIError:
            self.give_up()
            return False
        return True

    def give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _drop(connection)

    def leader(self) -> str:
        """Who led last, as far as the database knows; empty when nobody ever did. Raises StoreError."""
        with self._store.read() as session:
            return session.scalar(select(LeadershipRow.name)) or ""

    def fence(self, session: Session) -> None:
        """Within a write transaction: raises StoreError when somebody else leads by now."""
        if not self.shared:
            return
        row = session.scalars(select(LeadershipRow).with_for_update(read=True)).first()
        if row is None or row.epoch != self._epoch:
            who = row.name if row is not None else "nobody"
            raise StoreError(f"{who} leads now: nothing was stored by this control host; run it again")

    @property
    def shared(self) -> bool:
        """Whether other control hosts may use this database, too."""
        return self._store.engine.dialect.name == "postgresql"

    def _connect(self) -> Connection:
        engine: Engine = self._store.engine
        try:
            connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            for statement in _NOTICE:
                connection.execute(text(statement))
        except DBAPIError as error:
            raise StoreError(f"the control database cannot be asked who leads: {error.orig}") from error
        return connection

    def _count_up(self) -> int:
        with self._store.write() as session:
            row = session.scalars(select(LeadershipRow).with_for_update()).first()
            if row is None:
                row = LeadershipRow(id=_ROW, epoch=0, name="", since=dt.datetime.now(dt.UTC))
                session.add(row)
            row.epoch, row.name, row.since = row.epoch + 1, self._name, dt.datetime.now(dt.UTC)
            return row.epoch


def _drop(connection: Connection) -> None:
    """Close it for good: given back to the pool, it would keep the lock."""
    with contextlib.suppress(DBAPIError):
        connection.invalidate()
    with contextlib.suppress(DBAPIError):
        connection.close()
