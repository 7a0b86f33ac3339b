"""Maintenance windows opened by hand: kept until they are over."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from xds_agent.store.schema import WindowRow


def put(session: Session, name: str, window: dict[str, Any], *, author: str, now: dt.datetime) -> None:
    """Open a window, in place of the one of that name."""
    session.merge(WindowRow(id=name, window=window, author=author, created=now))


def remove(session: Session, name: str) -> None:
    """Close it."""
    session.execute(delete(WindowRow).where(WindowRow.id == name))


def load(session: Session) -> dict[str, dict[str, Any]]:
    """Name -> window, as the inventory writes one."""
    return {row.id: row.window for row in session.scalars(select(WindowRow).order_by(WindowRow.id))}
