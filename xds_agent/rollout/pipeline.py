"""From a site document to acknowledged proxies: validate, compile, say it, store, publish, wait.

One change at a time. What is served is always a whole stored revision: the new one is stored before it is
published, becomes "live" when no proxy refused it, and is the one served at the next boot only from then on.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from xds_agent.model import Site, join_secrets, load_site
from xds_agent.protocol.outcomes import Refused
from xds_agent.rollout import completeness, entitlement, material
from xds_agent.rollout.blame import refusal_problems
from xds_agent.rollout.build import Builder, Built, Live
from xds_agent.rollout.change import Answer, Change, Conflict, NotEntitled
from xds_agent.rollout.material import SiteCa
from xds_agent.rollout.publisher import Publisher
from xds_agent.snapshot.resource import Snapshot
from xds_agent.store import Store, StoreError, audit, certificates, revisions, secrets
from xds_agent.store.revisions import Draft, Kind, Stored

log = logging.getLogger(__name__)

# A host that joins the site has been refused until now and comes back within its own back-off.
NEWCOMER_GRACE_S = 5.0
# Proxies revert by themselves in milliseconds; this bounds the wait for their word.
REVERT_TIMEOUT_S = 10.0


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Pipeline:
    """The one way to a new revision. Methods run in the event loop; heavy work goes to a thread."""

    def __init__(
        self, store: Store, publisher: Publisher, ca: SiteCa, *, now: Callable[[], dt.datetime] = _utc_now
    ) -> None:
        self.store = store
        self.publisher = publisher
        self.ca = ca
        self.now = now
        self.live: Live | None = None
        # Why nothing is served although a revision is stored; empty when all is well.
        self.trouble = ""
        self.builder = Builder(store, ca, now)
        self._compiling = asyncio.Lock()
        self._turn = asyncio.Lock()
        # The person whose change is being applied, for the one who comes second.
        self._asker = ""

    async def boot(self) -> None:
        """Serve the last good revision. A revision that was being published when control died is not it."""
        stored = await asyncio.to_thread(self._last_good)
        if stored is None:
            return
        try:
            await self._serve_again(stored)
        except Exception as error:
            # Proxies keep what they have, and the next change can still repair this: stay up.
            self.trouble = f"revision {stored.number} could not be loaded: {error}"
            log.exception("revision %d could not be loaded; nothing is published", stored.number)

    async def apply(self, change: Change) -> Answer:
        """Bring a document live, or say what that would change.

        Raises ModelError or CompileError with every problem, Conflict, NotEntitled, StoreFull, StoreError.
        """
        if change.dry_run:
            built = await self._build(change.document)
            self._check(built.site, change)
            unchanged = self.live is not None and built.id == self.live.id
            outcome = self._unchanged() if unchanged else self._dry(built)
            return replace(outcome, notes=self._notes(built))
        async with self._my_turn(change.author):
            built = await self._build(change.document)
            if self.live is not None and built.id == self.live.id:
                await self._note_moved_lines(built)
                await self.publisher.settle(timeout_s=change.timeout_s)
                return replace(self._unchanged(), notes=self._notes(built))
            self._check(built.site, change)
            draft = self._draft(built, change)
            number = await asyncio.to_thread(self._keep, draft, built)
            return await self._publish(built, number, change)

    async def rollback(self, number: int, change: Change) -> Answer:
        """Bring back what revision `number` said, as a new revision. `change.document` is not looked at."""
        stored, values = await asyncio.to_thread(self._recall, number)
        if stored is None:
            raise Conflict(f"there is no revision {number}", "`xds-agent history` lists them")
        document = join_secrets(stored.document, values)
        reason = f"rollback to revision {number}" + (f": {change.reason}" if change.reason else "")
        # Whoever names a revision to return to has seen what it holds: removals are meant.
        allowed: tuple[str, ...] = ()
        if self.live is not None:
            target = await asyncio.to_thread(load_site, document)
            allowed = tuple(one.name for one in completeness.removals(self.live.site, target))
        return await self.apply(
            replace(change, document=document, reason=reason, commit=stored.commit, allow_removal=allowed)
        )

    async def refresh(self, reason: str) -> bool:
        """Serve the same site with material that is due for renewal or changed on disk; True if it did.

        An operational update: stored with its reason, exempt from waves.
        """
        if self.live is None:
            return False
        async with self._turn:
            live = self.live
            values = await asyncio.to_thread(self._values, live.fingerprints)
            built = await self._build(join_secrets(live.document, values), serving=True)
            if _same(built.snapshots, live.snapshots):
                return False
            words = "; ".join(built.prepared.reasons) or reason
            draft = self._draft(
                built, Change(document={}, author="control", reason=words), kind="operational"
            )
            number = await asyncio.to_thread(self._keep, draft, built)
            change = Change(document={}, author="control", reason=words, timeout_s=30.0)
            answer = await self._publish(built, number, change)
            return answer.outcome == "live"

    def who_applies(self) -> str:
        """Who is applying since when; empty when nobody is."""
        return self._asker

    # --- steps ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _my_turn(self, who: str) -> AsyncIterator[None]:
        """One person at a time: the second is told who is ahead. Control's own updates are waited for."""
        if self._asker:
            raise Conflict(f"{self._asker} is applying a change", "wait until it has ended and run again")
        self._asker = f"{who}, since {self.now():%H:%M:%S} UTC,"
        try:
            async with self._turn:
                yield
        finally:
            self._asker = ""

    async def _build(self, document: Mapping[str, Any], *, serving: bool = False) -> Built:
        async with self._compiling:
            return await asyncio.to_thread(self.builder.build, document, self.live, serving=serving)

    def _check(self, site: Site, change: Change) -> None:
        live = self.live
        if change.tenants is not None:
            outside = entitlement.beyond(live.site if live else None, site, change.tenants)
            if outside:
                raise NotEntitled(
                    f"this socket speaks for tenant {', '.join(sorted(change.tenants)) or 'none'} only, the "
                    f"change also touches {'; '.join(outside)}",
                    "use the socket of all tenants, or ask who owns them",
                )
        if live is None:
            return
        refused = completeness.not_allowed(completeness.removals(live.site, site), change.allow_removal)
        if refused:
            names = ",".join(dict.fromkeys(one.name for one in refused))
            raise Conflict(
                f"{'; '.join(one.text for one in refused)}: an incomplete inventory looks the same",
                f"if it is meant, say so: -e allow_removal={names}",
            )

    def _draft(self, built: Built, change: Change, kind: Kind = "change") -> Draft:
        return Draft(
            document=built.document,
            fingerprints=built.fingerprints,
            author=change.author,
            reason=change.reason,
            commit=change.commit,
            lines=built.lines,
            summary=built.summary,
            kind=kind,
        )

    def _keep(self, draft: Draft, built: Built) -> int:
        """Everything a revision needs, in one transaction."""
        now = self.now()
        with self.store.write() as session:
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

    async def _publish(self, built: Built, number: int, change: Change) -> Answer:
        """Publish, wait, and either keep it or put back what was there."""
        before = self.live
        newcomers = built.snapshots.keys() - (before.snapshots.keys() if before else set())
        # The place of the shadow and of waves: later everything below is per wave.
        self.publisher.publish(built.snapshots, number)
        grace_s = NEWCOMER_GRACE_S if newcomers else 0.0
        await self.publisher.settle(timeout_s=change.timeout_s, expected=newcomers, grace_s=grace_s)
        refusals = dict(self.publisher.refusals)
        if refusals:
            return await self._revert(built, number, change, refusals)
        nodes = self.publisher.nodes()
        try:
            await asyncio.to_thread(self._finish, number, "live", "", change.author)
        except StoreError:
            # What cannot be remembered as live must not stay so: the next boot would serve the one before.
            await self._put_back(change)
            raise
        self.live = built.live(number)
        self.trouble = ""
        return Answer(
            outcome="live", revision=built.id, number=number, changed=True, lines=built.lines,
            summary=built.summary, nodes=nodes, notes=self._notes(built),
        )  # fmt: skip

    async def _revert(
        self, built: Built, number: int, change: Change, refusals: Mapping[str, Refused]
    ) -> Answer:
        nodes = self.publisher.nodes()
        before = self.live
        problems = [
            problem
            for name in sorted(refusals)
            for problem in refusal_problems(built, before, name, refusals[name])
        ]
        await self._put_back(change)
        words = "; ".join(problem.render() for problem in problems)
        log.warning("revision %d was refused: %s", number, words)
        await asyncio.to_thread(self._finish, number, "refused", words, change.author)
        return Answer(
            outcome="refused", revision=before.id if before else "", number=number, changed=False,
            lines=built.lines, summary=built.summary, nodes=nodes, notes=self._notes(built),
            problems=problems, reverted_to=before.number if before else None,
        )  # fmt: skip

    async def _put_back(self, change: Change) -> None:
        """Publish again what was live before."""
        before = self.live
        if before is None:
            self.publisher.publish({}, 0)
            return
        self.publisher.publish(before.snapshots, before.number)
        await self.publisher.settle(timeout_s=min(change.timeout_s, REVERT_TIMEOUT_S))

    def _finish(self, number: int, outcome: revisions.Outcome, words: str, actor: str) -> None:
        with self.store.write() as session:
            revisions.finish(session, number, outcome, words)
            audit.append(
                session, actor=actor, action=f"revision.{outcome}", subject=str(number),
                detail={"words": words} if words else {}, now=self.now(),
            )  # fmt: skip

    def _dry(self, built: Built) -> Answer:
        return Answer(
            outcome="dry-run", revision=built.id, number=None, changed=True, lines=built.lines,
            summary=built.summary, nodes=self.publisher.nodes(),
        )  # fmt: skip

    def _unchanged(self) -> Answer:
        assert self.live is not None
        return Answer(
            outcome="unchanged", revision=self.live.id, number=self.live.number, changed=False,
            summary="nothing changes", nodes=self.publisher.nodes(),
        )  # fmt: skip

    async def _note_moved_lines(self, built: Built) -> None:
        """The same content on other lines: remember where, so that later refusals point there."""
        live = self.live
        assert live is not None
        if built.document.get("origins") == live.document.get("origins"):
            return

        def keep() -> None:
            with self.store.write() as session:
                revisions.update_origins(session, live.number, built.document.get("origins", {}))

        await asyncio.to_thread(keep)
        self.live = replace(live, document=built.document, site=built.site)

    def _notes(self, built: Built) -> list[str]:
        return [note.render() for note in built.site.not_acted_on] + material.stand_in_notes(built.prepared)

    # --- at boot -------------------------------------------------------------------------------------

    def _last_good(self) -> Stored | None:
        try:
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

    async def _serve_again(self, stored: Stored) -> None:
        values = await asyncio.to_thread(self._values, stored.fingerprints)
        built = await self._build(join_secrets(stored.document, values), serving=True)
        if built.prepared.issued:

            def keep() -> None:
                with self.store.write() as session:
                    certificates.keep(session, self.store.sealer, built.prepared.issued)

            await asyncio.to_thread(keep)
        self.live = replace(built.live(stored.number), id=stored.id)
        self.publisher.publish(built.snapshots, stored.number)

    def _values(self, fingerprints: Mapping[str, str]) -> dict[str, str]:
        with self.store.read() as session:
            return secrets.reveal(session, self.store.sealer, fingerprints)

    def _recall(self, number: int) -> tuple[Stored | None, dict[str, str]]:
        with self.store.read() as session:
            stored = revisions.get(session, number)
            values = secrets.reveal(session, self.store.sealer, stored.fingerprints) if stored else {}
        return stored, values


def _same(one: Mapping[str, Snapshot], other: Mapping[str, Snapshot]) -> bool:
    return {n: s.revision for n, s in one.items()} == {n: s.revision for n, s in other.items()}
