"""A control host in one file: every table of its database, the sealing key, the issuing CA; and back from it.

Rows are written as JSON lines, not as one database's own dump: SQLite may be restored into PostgreSQL. They
are read in one transaction while control runs. Restoring brings an empty database to the backup's own schema,
fills it, and only then migrates it to the newest.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, MetaData, Table, func, select, text

from xds_agent.store import audit
from xds_agent.store.database import migrate, open_database, refusals
from xds_agent.store.schema import Base
from xds_agent.store.store import Store

FORMAT = 1
MANIFEST = "manifest.json"
# Who leads is of the moment.
_LEFT_OUT = frozenset({"leadership"})
_BATCH = 200


class BackupError(Exception):
    """A backup that cannot be made or restored; the words say what to do."""


def write(store: Store, files: Mapping[str, Path], target: Path, *, name: str, now: dt.datetime) -> list[str]:
    """Write a new file (0600, whole or not at all) with all rows and these files by their names in it.

    Returns the names of files that are not there. Raises BackupError, OSError, StoreError.
    """
    if target.exists():
        raise BackupError(f"{target} exists; name another file")
    missing = [label for label, path in files.items() if not path.exists()]
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        sums: dict[str, str] = {}
        with os.fdopen(handle, "wb") as output:
            with tarfile.open(fileobj=output, mode="w:gz") as archive:
                schema = _add_tables(archive, store.engine, sums)
                for label, path in files.items():
                    if label not in missing:
                        _add(archive, label, path.read_bytes(), sums)
                manifest = {
                    "format": FORMAT,
                    "schema": schema,
                    "of": name,
                    "made": now.isoformat(),
                    "sha256": sums,
                }
                _add(archive, MANIFEST, json.dumps(manifest, indent=1).encode(), {})
            output.flush()
            os.fsync(output.fileno())
        Path(temporary).rename(target)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return missing


def read(source: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Manifest and contents, every checksum compared. Raises BackupError, OSError."""
    try:
        with tarfile.open(source, "r:gz") as archive:
            found = {one.name: _content(archive, one) for one in archive.getmembers() if one.isfile()}
        manifest = json.loads(found.pop(MANIFEST))
    except (tarfile.TarError, KeyError, ValueError, EOFError) as error:
        raise BackupError(f"{source} is no whole backup of control: {error}") from error
    if manifest.get("format") != FORMAT:
        raise BackupError(f"{source} has format {manifest.get('format')}; use the xds-agent that made it")
    for label, wanted in manifest["sha256"].items():
        if hashlib.sha256(found.get(label, b"")).hexdigest() != wanted:
            raise BackupError(f"{source} is damaged: {label} is not what was written")
    return manifest, found


def fill(url: str, manifest: Mapping[str, Any], contents: Mapping[str, bytes]) -> int:
    """Bring the rows into an empty database; how many. Raises BackupError, StoreError."""
    engine = open_database(url, migrated=False)
    try:
        _refuse_filled(engine)
        migrate(engine, manifest["schema"])
        count = _insert(engine, contents)
        migrate(engine)
    finally:
        engine.dispose()
    return count


def _add_tables(archive: tarfile.TarFile, engine: Engine, sums: dict[str, str]) -> str:
    level = "REPEATABLE READ"
    options = {"isolation_level": level} if engine.dialect.name == "postgresql" else {}
    with refusals(), engine.connect().execution_options(**options) as connection, connection.begin():
        schema = MigrationContext.configure(connection).get_current_revision() or ""
        for table in Base.metadata.sorted_tables:
            if table.name not in _LEFT_OUT:
                _add(archive, f"tables/{table.name}.jsonl", b"".join(_rows(connection, table)), sums)
    return schema


def _rows(connection: Connection, table: Table) -> Iterator[bytes]:
    for row in connection.execution_options(yield_per=_BATCH).execute(select(table)).mappings():
        plain = {str(column): _plain(value) for column, value in row.items()}
        yield json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    return {"$time": value.isoformat()} if isinstance(value, dt.datetime) else value


def _value(plain: Any) -> Any:
    if isinstance(plain, dict) and plain.keys() == {"$bytes"}:
        return base64.b64decode(plain["$bytes"])
    if isinstance(plain, dict) and plain.keys() == {"$time"}:
        return dt.datetime.fromisoformat(plain["$time"])
    return plain


def _insert(engine: Engine, contents: Mapping[str, bytes]) -> int:
    reflected = MetaData()
    count = 0
    with refusals(), engine.begin() as connection:
        reflected.reflect(connection)
        for label, content in sorted(contents.items()):
            folder, _, file = label.partition("/")
            table = reflected.tables.get(file.removesuffix(".jsonl"))
            if folder != "tables" or table is None:
                continue
            rows = [
                {column: _value(plain) for column, plain in json.loads(line).items()}
                for line in content.splitlines()
            ]
            for start in range(0, len(rows), _BATCH):
                connection.execute(table.insert(), rows[start : start + _BATCH])
            count += len(rows)
        if engine.dialect.name == "postgresql":
            # Numbers go on where they were.
            connection.execute(
                text(
                    "SELECT setval(pg_get_serial_sequence('revisions', 'number'), "
                    "COALESCE((SELECT max(number) FROM revisions), 1))"
                )
            )
    return count


def _refuse_filled(engine: Engine) -> None:
    reflected = MetaData()
    with refusals(), engine.connect() as connection:
        reflected.reflect(connection)
        table = reflected.tables.get("revisions")
        if table is not None and connection.scalar(select(func.count()).select_from(table)):
            raise BackupError(
                "the database already holds revisions: a backup is restored into an empty one; move the "
                "database file away, or name another database in serve.yml"
            )


def note(store: Store, actor: str, detail: Mapping[str, Any], now: dt.datetime) -> None:
    """That it was restored belongs into its audit."""
    with store.write() as session:
        audit.append(session, actor=actor, action="backup.restored", subject="", detail=detail, now=now)


def _add(archive: tarfile.TarFile, label: str, content: bytes, sums: dict[str, str]) -> None:
    entry = tarfile.TarInfo(label)
    entry.size, entry.mode = len(content), 0o600
    archive.addfile(entry, io.BytesIO(content))
    sums[label] = hashlib.sha256(content).hexdigest()


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(entry)
    return file.read() if file is not None else b""
