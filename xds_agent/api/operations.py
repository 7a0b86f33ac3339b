"""What control does by itself: renews service certificates, keeps its CRL fresh, follows its PKI's files,
and begins and ends maintenance windows."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Callable

from xds_agent.compile import CompileError, next_change
from xds_agent.model import ModelError
from xds_agent.peers import shared_crl
from xds_agent.pki.issuer import IssueError
from xds_agent.pki.revocation import refresh
from xds_agent.rollout.change import Conflict
from xds_agent.rollout.denying import forget_ended
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.store import SealError, StoreError, certificates

log = logging.getLogger(__name__)

LOOK_S = 5.0
# After a proxy refused an update it is tried again; a certificate that is stored is not due any more.
AGAIN = dt.timedelta(minutes=10)
# What is told and tried again. An authority's file that cannot be read must not end control, which serves.
_TOLD = (OSError, ValueError, IssueError, StoreError, SealError, Conflict, ModelError, CompileError)


class Operations:
    """Looks every few seconds; a failure is logged once and tried again."""

    def __init__(self, pipeline: Pipeline, leading: Callable[[], bool] = lambda: True) -> None:
        self._pipeline = pipeline
        self._leading = leading
        self._seen = self._files()
        self._looked = pipeline.now()
        self._said = ""
        # When what was refused is tried again.
        self._again: dt.datetime | None = None

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Do what is due now."""
        try:
            await self._look(self._pipeline.now())
            self._said = ""
        except _TOLD as error:
            if str(error) != self._said:
                log.error("what control keeps fresh by itself is not: %s", error)
            self._said = str(error)

    async def _look(self, now: dt.datetime) -> None:
        """One refresh serves whatever is due; each reason is a reason of the stored revision."""
        pipeline = self._pipeline
        reasons = []
        if await asyncio.to_thread(self._take_list):
            log.info("the revocation list %s is the newer one of another control host now", pipeline.ca.crl)
        if not self._leading():
            return
        if await asyncio.to_thread(self._sign, now):
            log.info("the revocation list %s was signed again", pipeline.ca.crl)
        seen = self._files()
        if seen != self._seen:
            reasons.append("the site's authority or its revocation list changed")
        if await asyncio.to_thread(self._due, now):
            reasons.append("certificates are due for renewal")
        if self._window(now):
            reasons.append("a maintenance window began or ended")
        if await asyncio.to_thread(forget_ended, pipeline, now):
            reasons.append("what was denied by hand is over")
        if self._again is not None and now >= self._again:
            reasons.append("an update before this one was refused, or did not reach the proxies")
        if reasons:
            await pipeline.updates.refresh("; ".join(reasons))
            self._again = None
        # Whoever asked for it: a window, a denial, an order.
        if not pipeline.updates.owed:
            self._again = None
        elif self._again is None:
            self._again = now + AGAIN
        self._seen, self._looked = seen, now

    def _sign(self, now: dt.datetime) -> bool:
        ca = self._pipeline.ca
        if ca.crl is None or ca.issuing_key is None:
            return False
        signed = refresh(ca.crl, ca.issuer(), now=now)
        shared_crl.give(self._pipeline.store, ca.crl, ca.issuer())
        return signed

    async def take_list(self) -> None:
        """Have the revocation list that another control host signed just now. Raises nothing: without the
        database the list is the one of seconds ago."""
        try:
            await asyncio.to_thread(self._take_list)
        except _TOLD as error:
            log.error("the revocation list of other control hosts is not known: %s", error)

    def _take_list(self) -> bool:
        ca = self._pipeline.ca
        if ca.crl is None or ca.issuing_key is None:
            return False
        return shared_crl.take(self._pipeline.store, ca.crl, ca.issuer())

    def _due(self, now: dt.datetime) -> bool:
        live = self._pipeline.live
        if live is None:
            return False
        ours = {one.name for one in live.site.edge.certificates if one.source != "pem"}
        with self._pipeline.store.read() as session:
            return not ours.isdisjoint(certificates.renewals(session, now))

    def _window(self, now: dt.datetime) -> bool:
        live = self._pipeline.live
        if live is None:
            return False
        change = next_change(live.site, self._looked)
        return change is not None and change <= now

    def _files(self) -> tuple[tuple[int, int], ...]:
        found = []
        for path in (self._pipeline.ca.ca, self._pipeline.ca.crl):
            if path is not None and path.exists():
                status = path.stat()
                found.append((status.st_ino, status.st_mtime_ns))
        return tuple(found)
