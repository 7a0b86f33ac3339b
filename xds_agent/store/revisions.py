"""Revisions in the database: what the site was, when, by whom and how it went."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.orm import Session

from xds_agent.store.schema import RevisionRow

Outcome = Literal["pending", "live", "refused", "interrupted"]
Kind = Literal["change", "operational", "compiler"]

# The parts of a site document that say what the edge is; the rest says where that stands.
CONTENT = ("schema", "edge", "hosts")
# What stands beside them, and makes no other revision.
BESIDE = ("secret_paths", "skipped")


@dataclass(frozen=True)
class Draft:
    """A revision about to be stored: the site document with references in place of secrets."""

    document: Mapping[str, Any]
    # ref -> fingerprint of its value, and the values themselves (never stored but sealed)
    fingerprints: Mapping[str, str]
    author: str
    reason: str
    commit: str = ""
    lines: Sequence[Mapping[str, Any]] = ()
    summary: str = ""
    kind: Kind = "change"

    @property
    def id(self) -> str:
        return content_id(self.document, self.fingerprints)


@dataclass(frozen=True)
class Stored:
    """A revision as it lies in the database, detached from any session."""

    number: int
    id: str
    document: Mapping[str, Any] = field(repr=False)
    fingerprints: Mapping[str, str] = field(repr=False)
    author: str = ""
    reason: str = ""
    commit: str = ""
    created: dt.datetime = dt.datetime.min
    lines: Sequence[Mapping[str, Any]] = ()
    summary: str = ""
    kind: str = "change"
    outcome: str = "live"
    words: str = ""


def content_id(document: Mapping[str, Any], fingerprints: Mapping[str, str]) -> str:
    """64-bit hash (hex) of what the inventory says, without where it says it: moved lines change nothing."""
    content = {key: document.get(key) for key in CONTENT}
    text = json.dumps(
        [content, dict(fingerprints)], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def add(session: Session, draft: Draft, *, now: dt.datetime) -> int:
    """Store a draft as "pending"; its number. Nothing is served from it before `finish(... "live")`."""
    content = _kept(draft.document)
    row = RevisionRow(
        id=draft.id,
        content=content,
        origins=dict(draft.document.get("origins", {})),
        secrets=dict(draft.fingerprints),
        author=draft.author,
        reason=draft.reason,
        created=now,
        commit=draft.commit,
        lines=[dict(line) for line in draft.lines],
        summary=draft.summary,
        kind=draft.kind,
        outcome="pending",
        words="",
    )
    session.add(row)
    session.flush()
    return row.number


def finish(session: Session, number: int, outcome: Outcome, words: str = "") -> bool:
    """Say once how a pending revision ended; False when somebody else has said so already."""
    done = session.execute(
        update(RevisionRow)
        .where(RevisionRow.number == number, RevisionRow.outcome == "pending")
        .values(outcome=outcome, words=words)
    )
    return bool(cast("CursorResult[Any]", done).rowcount)


def pending(session: Session) -> list[int]:
    """Numbers of revisions that are being published, or were when control died."""
    return list(session.scalars(select(RevisionRow.number).where(RevisionRow.outcome == "pending")))


def interrupt_pending(session: Session) -> list[int]:
    """Mark what a killed control left pending; the numbers. Called on boot by the one that publishes."""
    numbers = pending(session)
    for number in numbers:
        finish(session, number, "interrupted", "control ended while this revision was being published")
    return numbers


def last_good(session: Session) -> Stored | None:
    """The newest revision that was live: what is served at boot and compared with."""
    row = session.scalars(
        select(RevisionRow).where(RevisionRow.outcome == "live").order_by(RevisionRow.number.desc()).limit(1)
    ).first()
    return _stored(row) if row else None


def newest_live(session: Session) -> int:
    """Number of the newest revision that was live, 0 before the first."""
    found = select(func.max(RevisionRow.number)).where(RevisionRow.outcome == "live")
    return session.scalar(found) or 0


def newest_of(session: Session, content: str) -> Stored | None:
    """The newest revision somebody asked for that says exactly this (a `content_id`)."""
    row = session.scalars(
        select(RevisionRow)
        .where(RevisionRow.id == content, RevisionRow.kind == "change")
        .order_by(RevisionRow.number.desc())
        .limit(1)
    ).first()
    return _stored(row) if row else None


def get(session: Session, number: int) -> Stored | None:
    row = session.get(RevisionRow, number)
    return _stored(row) if row else None


def history(session: Session, limit: int = 50, before: int | None = None) -> list[Stored]:
    """Newest first, without documents."""
    query = select(
        RevisionRow.number, RevisionRow.id, RevisionRow.author, RevisionRow.reason, RevisionRow.commit,
        RevisionRow.created, RevisionRow.lines, RevisionRow.summary, RevisionRow.kind, RevisionRow.outcome,
        RevisionRow.words,
    ).order_by(RevisionRow.number.desc())  # fmt: skip
    if before is not None:
        query = query.where(RevisionRow.number < before)
    return [
        Stored(
            number=row.number, id=row.id, document={}, fingerprints={}, author=row.author, reason=row.reason,
            commit=row.commit, created=row.created, lines=row.lines, summary=row.summary, kind=row.kind,
            outcome=row.outcome, words=row.words,
        )
        for row in session.execute(query.limit(limit))
    ]  # fmt: skip


def update_origins(session: Session, number: int, document: Mapping[str, Any]) -> None:
    """The same content now stands on other lines, or beside others that were left out."""
    values = {"origins": dict(document.get("origins", {})), "content": _kept(document)}
    session.execute(update(RevisionRow).where(RevisionRow.number == number).values(**values))


def _kept(document: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored of a document besides its origins."""
    return {key: document.get(key) for key in (*CONTENT, *BESIDE) if key in CONTENT or key in document}


def _stored(row: RevisionRow) -> Stored:
    return Stored(
        number=row.number,
        id=row.id,
        document={**row.content, "origins": row.origins},
        fingerprints=row.secrets,
        author=row.author,
        reason=row.reason,
        commit=row.commit,
        created=row.created,
        lines=row.lines,
        summary=row.summary,
        kind=row.kind,
        outcome=row.outcome,
        words=row.words,
    )
