"""What the pipeline writes down and looks up: revisions, secrets, certificates and the audit.

Each step is one transaction. Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy.orm import Session

from xds_agent.rollout.build import Built
from xds_agent.rollout.change import Change
from xds_agent.snapshot.resource import Snapshot
from xds_agent.store import Store, StoreError, audit, certificates, revisions, secrets, served
from xds_agent.store.certificates import Issued
from xds_agent.store.revisions import Draft, Kind, Outcome, Stored

log = logging.getLogger(__name__)


def draft_of(built: Built, change: Change, kind: Kind = "change") -> Draft:
    """The revision to be written down for a change."""
    return Draft(
        document=built.document, fingerprints=built.fingerprints, author=change.author, reason=change.reason,
        commit=change.commit, lines=built.lines, summary=built.summary, kind=kind,
    )  # fmt: skip


class Ledger:
    """Every method may raise StoreError (StoreFull) unless it says otherwise."""

    def __init__(self, store: Store, now: Callable[[], dt.datetime]) -> None:
        self.store = store
        self.now = now
        # Looks, within a write, whether this control host may still say what is live (peers/leadership.py).
        self.fence: Callable[[Session], None] = lambda session: None

    def keep(self, draft: Draft, built: Built) -> int:
        """Everything a revision needs, in one transaction."""
        now = self.now()
        with self.store.write() as session:
            self.fence(session)
            number = revisions.add(session, draft, now=now)
            secrets.keep(session, self.store.sealer, built.values, now=now)
            certificates.keep(session, self.store.sealer, built.prepared.issued)
            detail = {
                "id": draft.id,
                "reason": draft.reason,
                "commit": draft.commit,
                "summary": draft.summary,
            }
            if built.prepared.reasons:
                detail["certificates"] = list(built.prepared.reasons)  # type: ignore[assignment]
            audit.append(
                session, actor=draft.author, action=f"revision.{draft.kind}", subject=str(number),
                detail=detail, now=now,
            )  # fmt: skip
        return number

    def keep_again(self, number: int, newest: int, draft: Draft, built: Built) -> int:
        """Of a pending revision that was made anew; its number, another where `newest` has become live
        meanwhile: the newest that is live is what is served at boot."""
        if newest < number:
            self.keep_certificates(built.prepared.issued)
            return number
        words = f"control's own revision {newest} came between: it goes on as the one after that"
        self.finish(number, "interrupted", words, draft.author)
        return self.keep(draft, built)

    def finish(
        self, number: int, outcome: Outcome, words: str, actor: str,
        served_: tuple[str, Mapping[str, Snapshot]] | None = None,
    ) -> None:  # fmt: skip
        """`served_`: the compiler, and what proxies hold from now on."""
        with self.store.write() as session:
            self.fence(session)
            if not revisions.finish(session, number, outcome, words):
                raise StoreError(f"revision {number} was given up by another control host meanwhile")
            if served_ is not None:
                served.keep(session, self.store.sealer, number, *served_)
                stored = revisions.get(session, number)
                if stored is not None and stored.kind == "change":
                    served.forget_refusal(session)
            audit.append(
                session, actor=actor, action=f"revision.{outcome}", subject=str(number),
                detail={"words": words} if words else {}, now=self.now(),
            )  # fmt: skip

    def served_by(self) -> served.About | None:
        with self.store.read() as session:
            return served.about(session)

    def served(self) -> dict[str, Snapshot]:
        """What each proxy holds. Raises SealError, and ValueError on damaged rows, too."""
        with self.store.read() as session:
            return served.load(session, self.store.sealer)

    def keep_served(self, number: int, compiler: str, snapshots: Mapping[str, Snapshot]) -> None:
        with self.store.write() as session:
            self.fence(session)
            served.keep(session, self.store.sealer, number, compiler, snapshots)

    def note_refused(self, compiler: str, words: str) -> None:
        """Proxies refused what this compiler makes of what is live."""
        with self.store.write() as session:
            self.fence(session)
            served.note_refused(session, compiler, words)

    def note(self, action: str, number: int, actor: str, detail: Mapping[str, Any]) -> None:
        """To the audit. Never raises: a full disk does not stop what is under way, its end will say so."""
        try:
            with self.store.write() as session:
                audit.append(
                    session, actor=actor, action=action, subject=str(number), detail=dict(detail),
                    now=self.now(),
                )  # fmt: skip
        except StoreError as error:
            log.error("revision %d: %s is not in the audit: %s", number, action, error)

    def move_lines(self, number: int, document: Mapping[str, Any]) -> None:
        """The same content stands on other lines now, or beside other parts that were left out."""
        with self.store.write() as session:
            self.fence(session)
            revisions.update_origins(session, number, document)

    def keep_certificates(self, issued: Iterable[Issued]) -> None:
        with self.store.write() as session:
            self.fence(session)
            certificates.keep(session, self.store.sealer, issued)

    def newest_of(self, content: str) -> Stored | None:
        """The newest revision somebody asked for that says exactly this."""
        with self.store.read() as session:
            return revisions.newest_of(session, content)

    def values(self, fingerprints: Mapping[str, str]) -> dict[str, str]:
        with self.store.read() as session:
            return secrets.reveal(session, self.store.sealer, fingerprints)

    def recall(self, number: int) -> tuple[Stored | None, dict[str, str]]:
        with self.store.read() as session:
            stored = revisions.get(session, number)
            values = secrets.reveal(session, self.store.sealer, stored.fingerprints) if stored else {}
        return stored, values

    def newest_live(self) -> int:
        """Its number, 0 before the first."""
        with self.store.read() as session:
            return revisions.newest_live(session)

    def last_good(self, *, leading: bool = True) -> Stored | None:
        """What is served at boot. Whoever leads also notes what the one before left pending."""
        try:
            if leading:
                self._interrupt()
        except StoreError as error:
            # It is not served for that: only what is noted as live is.
            log.error("what was interrupted could not be noted: %s", error)
        with self.store.read() as session:
            return revisions.last_good(session)

    def _interrupt(self) -> None:
        with self.store.read() as session:
            if not revisions.pending(session):
                return
        with self.store.write() as session:
            for number in revisions.interrupt_pending(session):
                log.warning("revision %d was being published when control ended; it is not served", number)
                audit.append(
                    session, actor="control", action="revision.interrupted", subject=str(number), detail={},
                    now=self.now(),
                )  # fmt: skip
