"""Networks denied by hand: audited, over by themselves, drift from the inventory until then."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from xds_agent.store.schema import DenialRow


@dataclass(frozen=True, slots=True)
class Denial:
    """One network, until when, by whom and why."""

    network: str
    until: dt.datetime
    author: str
    reason: str


def current(session: Session, now: dt.datetime) -> list[Denial]:
    """Those that are not over, sorted by network."""
    rows = session.scalars(select(DenialRow).where(DenialRow.until > now).order_by(DenialRow.network))
    return [Denial(row.network, row.until, row.author, row.reason) for row in rows]


def put(session: Session, denial: Denial) -> None:
    """Insert, or replace the one of the same network."""
    lift(session, denial.network)
    session.add(
        DenialRow(network=denial.network, until=denial.until, author=denial.author, reason=denial.reason)
    )


def lift(session: Session, network: str) -> bool:
    """End one before its time; whether there was one."""
    result = session.execute(delete(DenialRow).where(DenialRow.network == network))
    session.flush()
    return bool(result.rowcount)  # type: ignore[attr-defined]


def ended(session: Session, now: dt.datetime) -> bool:
    """Whether any is over."""
    return session.scalar(select(DenialRow.network).where(DenialRow.until <= now).limit(1)) is not None


def forget_ended(session: Session, now: dt.datetime) -> list[str]:
    """Take away those that are over; their networks."""
    ended = list(session.scalars(select(DenialRow.network).where(DenialRow.until <= now)))
    session.execute(delete(DenialRow).where(DenialRow.until <= now))
    return ended
