"""Secret values of the inventory, sealed; a revision names them by reference and fingerprint."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from xds_agent.store.schema import SecretRow
from xds_agent.store.sealing import Sealer


def fingerprints(sealer: Sealer, values: Mapping[str, str]) -> dict[str, str]:
    """Keyed hash of every value, bound to its reference: equal passwords of two services do not show."""
    return {ref: sealer.fingerprint(f"{ref}\0{value}".encode()) for ref, value in values.items()}


def keep(session: Session, sealer: Sealer, values: Mapping[str, str], *, now: dt.datetime) -> None:
    """Seal and store the values not held yet."""
    prints = fingerprints(sealer, values)
    held = {tuple(row) for row in session.execute(select(SecretRow.ref, SecretRow.fingerprint))}
    for ref, value in values.items():
        if (ref, prints[ref]) not in held:
            sealed = sealer.seal(value.encode(), belongs_to=f"secret {ref}")
            session.add(SecretRow(ref=ref, fingerprint=prints[ref], ciphertext=sealed, created=now))


def reveal(session: Session, sealer: Sealer, wanted: Mapping[str, str]) -> dict[str, str]:
    """ref -> value for a revision's fingerprints. Raises SealError, or KeyError naming a lost reference."""
    values = {}
    for ref, fingerprint in wanted.items():
        row = session.get(SecretRow, (ref, fingerprint))
        if row is None:
            raise KeyError(ref)
        values[ref] = sealer.open(row.ciphertext, belongs_to=f"secret {ref}").decode()
    return values


def latest(session: Session, sealer: Sealer, ref: str) -> str | None:
    """The newest value kept under a reference, None where there is none. Raises SealError."""
    newest = select(SecretRow).where(SecretRow.ref == ref).order_by(SecretRow.created.desc()).limit(1)
    row = session.scalars(newest).first()
    return None if row is None else sealer.open(row.ciphertext, belongs_to=f"secret {ref}").decode()
