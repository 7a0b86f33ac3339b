"""A host's certificates put on the issuing CA's revocation list: refused within a second, audited."""

from __future__ import annotations

import asyncio
import datetime as dt
import string
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from xds_agent.peers import shared_crl
from xds_agent.pki.issuer import IssueError
from xds_agent.pki.revocation import lists_of, own_list, refresh
from xds_agent.rollout.change import Conflict
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.store import audit
from xds_agent.store.schema import HostCertificateRow


async def revoke(
    pipeline: Pipeline, host: str, *, serials: Sequence[str], author: str, reason: str, dry_run: bool
) -> dict[str, Any]:
    """Revoke what this host has shown and is still valid, and the serial numbers given (hexadecimal).

    Control signs the list; every control host has it within seconds, proxies as an operational revision.
    Raises Conflict when there is nothing to revoke, IssueError without an issuing CA, OSError, StoreError.
    """
    return await asyncio.to_thread(_revoke, pipeline, host, serials, author, reason, dry_run)


def _revoke(
    pipeline: Pipeline, host: str, serials: Sequence[str], author: str, reason: str, dry_run: bool
) -> dict[str, Any]:
    ca, now = pipeline.ca, pipeline.now()
    if ca.crl is None:
        raise IssueError("this control host keeps no revocation list: set tls.crl in serve.yml")
    wanted = {_number(serial) for serial in serials} or _shown(pipeline, host, now)
    if not wanted:
        raise Conflict(
            f"no valid certificate of {host} was ever shown to control",
            "name its serial number: --serial (openssl x509 -serial -noout -in host.crt)",
        )
    issuer = ca.issuer()
    own = own_list(lists_of(ca.crl.read_bytes()) if ca.crl.exists() else [], issuer)
    fresh = wanted - {entry.serial_number for entry in own or ()}
    if fresh and not dry_run:
        with pipeline.store.write() as session:
            # Two lists of one number, each with other serials, and one would be lost without a word.
            pipeline.ledger.fence(session)
        refresh(ca.crl, issuer, now=now, revoke=frozenset(fresh))
        shared_crl.give(pipeline.store, ca.crl, issuer)
        with pipeline.store.write() as session:
            detail = {"reason": reason, "serials": sorted(f"{serial:X}" for serial in fresh)}
            audit.append(session, actor=author, action="host.revoked", subject=host, detail=detail, now=now)
    return {
        "host": host,
        "changed": bool(fresh),
        "revoked": sorted(f"{serial:X}" for serial in fresh),
        "already": sorted(f"{serial:X}" for serial in wanted - fresh),
    }


def _shown(pipeline: Pipeline, host: str, now: dt.datetime) -> set[int]:
    with pipeline.store.read() as session:
        rows = session.scalars(select(HostCertificateRow).where(HostCertificateRow.name == host))
        return {int(row.serial, 16) for row in rows if row.not_after > now}


def _number(serial: str) -> int:
    digits = serial.replace(":", "").strip().removeprefix("serial=")
    if not digits or set(digits) - set(string.hexdigits):
        raise Conflict(
            f"{serial!r} is no serial number", "write it in hexadecimal, as openssl x509 -serial does"
        )
    return int(digits, 16)
