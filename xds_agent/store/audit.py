"""The audit: append-only rows, each hash covering the one before, so that a changed past shows."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from xds_agent.store.schema import AuditRow

GENESIS = "0" * 64
_LOCK = 713002


def append(
    session: Session, *, actor: str, action: str, subject: str, detail: Mapping[str, Any], now: dt.datetime
) -> AuditRow:
    """Add one row at the end of the chain. `detail` must hold no secret; it is stored as canonical JSON."""
    if session.get_bind().dialect.name == "postgresql":
        # Two control hosts must not both take the next place; SQLite's write transaction is a lock already.
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    last = session.scalars(select(AuditRow).order_by(AuditRow.seq.desc()).limit(1)).first()
    row = AuditRow(
        seq=last.seq + 1 if last else 1,
        at=now.astimezone(dt.UTC).isoformat(timespec="microseconds"),
        actor=actor,
        action=action,
        subject=subject,
        detail=json.dumps(detail, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        previous=last.hash if last else GENESIS,
        hash="",
    )
    row.hash = row_hash(row)
    session.add(row)
    session.flush()
    return row


def row_hash(row: AuditRow) -> str:
    """SHA-256 over every column but the hash itself, with lengths, so that fields cannot trade characters."""
    digest = hashlib.sha256()
    for value in (str(row.seq), row.at, row.actor, row.action, row.subject, row.detail, row.previous):
        encoded = value.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()


def verify_chain(session: Session) -> str | None:
    """None when every row follows from the one before, else a sentence naming the first that does not.

    Rows cut off at the end leave a chain that is whole: compare the newest hash with one kept elsewhere
    (`status` shows it).
    """
    previous, expected = GENESIS, 1
    for row in session.scalars(select(AuditRow).order_by(AuditRow.seq).execution_options(yield_per=1000)):
        if row.seq != expected:
            return f"audit row {expected} is missing"
        if row.previous != previous or row.hash != row_hash(row):
            return f"audit row {row.seq} ({row.at}, {row.action} by {row.actor}) was changed afterwards"
        previous, expected = row.hash, expected + 1
    return None


def newest(session: Session, limit: int = 50) -> Sequence[AuditRow]:
    """The last rows, newest first."""
    return session.scalars(select(AuditRow).order_by(AuditRow.seq.desc()).limit(limit)).all()
