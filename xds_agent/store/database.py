"""Opening the database: SQLite made durable, migrations, and errors as sentences."""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError

from xds_agent.store import reserve

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 5_000
# A PostgreSQL that is cut off is noticed within this (libpq's settings): its leader must step down as soon as
# PostgreSQL has freed its lock (peers/leadership.py), not after the kernel's quarter of an hour.
_NOTICE: dict[str, int] = {
    "connect_timeout": 10,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


class StoreError(Exception):
    """The database did not take or give something; the words are for the operator."""


class StoreFull(StoreError):
    """No room left: nothing was stored."""


def open_database(url: str, *, migrated: bool = True) -> Engine:
    """Engine for `url`, by default migrated to the newest schema. Raises StoreError with one sentence."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql" and parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise StoreError(f"database {parsed.render_as_string()}: use sqlite:///PATH or postgresql://...")
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    remote = parsed.get_backend_name() == "postgresql"
    notice = {key: value for key, value in _NOTICE.items() if remote and key not in parsed.query}
    engine = create_engine(parsed, hide_parameters=True, pool_pre_ping=remote, connect_args=notice)
    if engine.dialect.name == "sqlite":
        _make_durable(engine)
    if not migrated:
        return engine
    file = Path(parsed.database) if engine.dialect.name == "sqlite" and parsed.database else None
    try:
        try:
            migrate(engine)
        except StoreFull:
            if file is None or not reserve.give_up(file):
                raise
            log.error("the disk of %s is full; its reserve was given up so that control can start", file)
            migrate(engine)
    except StoreError:
        engine.dispose()
        raise
    if file is not None:
        reserve.hold(file)
    return engine


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to `revision` (Alembic), in one transaction. A newer version's schema stays as it is:
    whoever went back to this version is to be served. Raises StoreError where this version cannot use it."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with refusals(), writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            # Two control hosts may start at once.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(713001)")
        newest = ScriptDirectory.from_config(config).get_current_head() or ""
        if revision == "head" and _is_newer(connection, newest):
            return
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def _is_newer(connection: Connection, newest: str) -> bool:
    """Whether a newer version has been at this database. Migrations add to what was there; one that does not
    writes the oldest schema whose version can still use it into `shared`, as `schema_needs`."""
    current = MigrationContext.configure(connection).get_current_revision() or ""
    if current <= newest:
        return False
    found = connection.execute(text("SELECT version FROM shared WHERE name = 'schema_needs'")).scalar()
    if int(found or 0) > int(newest):
        raise StoreError(
            f"a newer version of control made the database one that this one cannot use (schema {current}, "
            f"this one knows {newest}); start the newer version, or restore a backup from before the upgrade"
        )
    log.warning("the database has schema %s of a newer version; this one uses what it knows", current)
    return True


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A write transaction; on SQLite it takes the write lock at once, so that it waits instead of failing."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection = connection.execution_options(marchproxy_write=True)
        with connection.begin():
            yield connection


@contextmanager
def refusals() -> Iterator[None]:
    """Turn a database's errors into StoreError or StoreFull."""
    try:
        yield
    except DBAPIError as error:
        raise _translate(error) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StoreFull(_FULL) from error
        raise StoreError(f"the control database: {error}") from error


_FULL = (
    "the disk of the control database is full: nothing was stored and nothing was published, proxies keep "
    "what they have; free some space on the control host and run again"
)


def _translate(error: DBAPIError) -> StoreError:
    origin = error.orig
    text = str(origin).strip() or type(origin).__name__
    code = getattr(origin, "sqlite_errorcode", None)
    sqlstate = getattr(origin, "sqlstate", None)
    # A full disk shows as SQLITE_FULL, or as a write error of WAL or its shared memory.
    full_io = {sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_FSYNC}
    primary = None if code is None else code & 0xFF
    if primary == sqlite3.SQLITE_FULL or code in full_io or sqlstate == "53100":
        return StoreFull(_FULL)
    if isinstance(error, OperationalError) and primary == sqlite3.SQLITE_BUSY:
        return StoreError("the control database is locked by another process; stop it and run again")
    first_line = text.splitlines()[0]
    return StoreError(f"the control database refused: {first_line}")


def _make_durable(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # The driver's own implicit BEGIN would start read transactions that cannot become writers.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "trusted_schema=OFF",
            "secure_delete=ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("marchproxy_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
