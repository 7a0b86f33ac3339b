"""Tables of the control plane's database, typed. Migrations in migrations/versions must agree with them."""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, DateTime, Integer, LargeBinary, MetaData, String, Text, TypeDecorator
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# SQLite counts up by itself only in an INTEGER key.
Serial = BigInteger().with_variant(Integer(), "sqlite")


class Utc(TypeDecorator[dt.datetime]):
    """Aware UTC times: SQLite drops the zone, PostgreSQL answers in the session's."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        return None if value is None else value.astimezone(dt.UTC)

    def process_result_value(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_name)s"}
    )
    type_annotation_map: ClassVar = {dt.datetime: Utc, dict[str, Any]: JSON, list[Any]: JSON}


class RevisionRow(Base):
    """One stored state of the inventory; the content never changes once written, the outcome does once."""

    __tablename__ = "revisions"

    number: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(32), index=True)
    # `edge` and `hosts` of the site document; secrets are {"$secret": ref}.
    content: Mapped[dict[str, Any]]
    # Place in the inventory's files of every path; not content, since moving a line changes nothing.
    origins: Mapped[dict[str, Any]]
    # Which values the references stand for: ref -> fingerprint in `secrets`.
    secrets: Mapped[dict[str, Any]]
    author: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    created: Mapped[dt.datetime]
    commit: Mapped[str] = mapped_column("inventory_commit", Text)
    # The change in words: [{"proxies": [...], "text": ...}] and the closing sentence.
    lines: Mapped[list[Any]]
    summary: Mapped[str] = mapped_column(Text)
    # "change" (by a person), "operational" (by control itself, such as a renewed certificate), or "compiler":
    # the same inventory, as a newer version of control compiles it.
    kind: Mapped[str] = mapped_column(String(16))
    # "pending" while it is published, then "live" or "refused"; "interrupted" when control died in between.
    outcome: Mapped[str] = mapped_column(String(16), index=True)
    words: Mapped[str] = mapped_column(Text)


class NodeRow(Base):
    """What is known of one proxy host."""

    __tablename__ = "nodes"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    # Facts of its Hello: agent and Envoy version, kernel, NICs.
    facts: Mapped[dict[str, Any]]
    wanted: Mapped[str] = mapped_column(String(32))
    acknowledged: Mapped[str] = mapped_column(String(32))
    last_error: Mapped[str] = mapped_column(Text)
    last_seen: Mapped[dt.datetime | None]
    certificate_until: Mapped[dt.datetime | None]


class AuditRow(Base):
    """Who did what, append-only; each row's hash covers the row before."""

    __tablename__ = "audit"

    seq: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=False)
    # ISO 8601 text: a hash over a time must not depend on how a database gives it back.
    at: Mapped[str] = mapped_column(String(40))
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(Text)
    # Canonical JSON text, for the same reason.
    detail: Mapped[str] = mapped_column(Text)
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class SecretRow(Base):
    """A value of the inventory that nobody is shown: ciphertext only. One row per distinct (ref, value)."""

    __tablename__ = "secrets"

    ref: Mapped[str] = mapped_column(Text, primary_key=True)
    # Keyed hash of the value: tells equal from changed without opening anything.
    fingerprint: Mapped[str] = mapped_column(String(32), primary_key=True)
    ciphertext: Mapped[bytes] = mapped_column(LargeBinary)
    created: Mapped[dt.datetime]


class PlacementRow(Base):
    """Where the requests of one service go, as proxies in one place see it, and why."""

    __tablename__ = "placements"

    cloud: Mapped[str] = mapped_column(String(255), primary_key=True)
    region: Mapped[str] = mapped_column(String(255), primary_key=True)
    service: Mapped[str] = mapped_column(String(255), primary_key=True)
    # As `steering.written` has it: all that the next decision must know of this one.
    placement: Mapped[dict[str, Any]]
    since: Mapped[dt.datetime]
    reason: Mapped[str] = mapped_column(Text)


class WindowRow(Base):
    """A maintenance window that somebody opened by hand, beside those of the inventory."""

    __tablename__ = "windows"

    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    # As the inventory writes one: cloud, region, zone, host, since, until, reason, allow_outage.
    window: Mapped[dict[str, Any]]
    author: Mapped[str] = mapped_column(Text)
    created: Mapped[dt.datetime]


class CertificateRow(Base):
    """A service certificate issued here, with its key as ciphertext."""

    __tablename__ = "certificates"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    # The DNS names it was issued for, sorted.
    names: Mapped[list[Any]]
    chain: Mapped[str] = mapped_column(Text)
    key: Mapped[bytes] = mapped_column("key_ciphertext", LargeBinary)
    not_before: Mapped[dt.datetime]
    not_after: Mapped[dt.datetime]


class LeadershipRow(Base):
    """Which of several control hosts leads, in one row; the epoch keeps one that was cut off from writing."""

    __tablename__ = "leadership"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    epoch: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(255))
    since: Mapped[dt.datetime]


class SharedRow(Base):
    """A file that all control hosts hold alike; the newer version counts."""

    __tablename__ = "shared"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class HostCertificateRow(Base):
    """A certificate that a host has shown: what `revoke` puts on the list."""

    __tablename__ = "host_certificates"

    # Hexadecimal, as everywhere.
    serial: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), index=True)
    not_after: Mapped[dt.datetime]


class DenialRow(Base):
    """A network denied by hand for a time, beside the inventory."""

    __tablename__ = "denials"

    network: Mapped[str] = mapped_column(String(64), primary_key=True)
    until: Mapped[dt.datetime]
    author: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)


class ServedRow(Base):
    """Which revision the rows of `served_views` are of, and whose bytes they are; one row."""

    __tablename__ = "served"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)
    # Names of compilers (rollout/compilers.py): who made this, and whose bytes proxies have refused since.
    compiler: Mapped[str] = mapped_column(String(64))
    refused: Mapped[str] = mapped_column(String(64))
    words: Mapped[str] = mapped_column(Text)


class ServedResourceRow(Base):
    """One resource that proxies hold: compressed, and sealed, since keys and tokens are among them."""

    __tablename__ = "served_resources"

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    ciphertext: Mapped[bytes] = mapped_column(LargeBinary)


class ServedViewRow(Base):
    """A set of resources and the proxies that hold it."""

    __tablename__ = "served_views"

    revision: Mapped[str] = mapped_column(String(32), primary_key=True)
    hosts: Mapped[list[Any]]
    # Keys in `served_resources`: JSON, compressed.
    resources: Mapped[bytes] = mapped_column(LargeBinary)
