"""What is known of each proxy host, kept across restarts of control."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from xds_agent.store.schema import NodeRow


def note(session: Session, name: str, **changes: Any) -> None:
    """Change some of a node's columns, making its row on first sight."""
    row = session.get(NodeRow, name)
    if row is None:
        row = NodeRow(
            name=name,
            facts={},
            wanted="",
            acknowledged="",
            last_error="",
            last_seen=None,
            certificate_until=None,
        )
        session.add(row)
    for column, value in changes.items():
        if column not in NodeRow.__table__.columns:
            raise AttributeError(f"nodes have no column {column}")
        setattr(row, column, value)


def all_nodes(session: Session) -> dict[str, dict[str, Any]]:
    """name -> columns."""
    return {
        row.name: {
            "facts": row.facts,
            "wanted": row.wanted,
            "acknowledged": row.acknowledged,
            "last_error": row.last_error,
            "last_seen": _iso(row.last_seen),
            "certificate_until": _iso(row.certificate_until),
        }
        for row in session.scalars(select(NodeRow).order_by(NodeRow.name))
    }


def forget(session: Session, name: str) -> None:
    """A host that left the site."""
    row = session.get(NodeRow, name)
    if row is not None:
        session.delete(row)


def _iso(when: dt.datetime | None) -> str | None:
    return when.isoformat(timespec="seconds") if when else None
