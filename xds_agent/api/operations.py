"""What control does by itself: renews service certificates, keeps its CRL fresh, follows its PKI's files."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging

from xds_agent.pki.issuer import IssueError
from xds_agent.pki.revocation import refresh
from xds_agent.rollout.change import Conflict
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.store import StoreError, certificates

log = logging.getLogger(__name__)

LOOK_S = 60.0


class Operations:
    """Looks once a minute; a failure is logged once and tried again."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._seen = self._files()
        self._said = ""

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self, now: dt.datetime | None = None) -> None:
        """Do what is due now."""
        try:
            await self._look(now or dt.datetime.now(dt.UTC))
            self._said = ""
        except (OSError, ValueError, IssueError, StoreError, Conflict) as error:
            if str(error) != self._said:
                log.error("what control keeps fresh by itself is not: %s", error)
            self._said = str(error)

    async def _look(self, now: dt.datetime) -> None:
        pipeline = self._pipeline
        ca = pipeline.ca
        if ca.crl is not None and ca.issuing_key is not None and await asyncio.to_thread(self._sign, now):
            log.info("the revocation list %s was signed again", ca.crl)
        seen = self._files()
        if seen != self._seen:
            await pipeline.refresh("the site's authority or its revocation list changed")
            self._seen = seen
        if await asyncio.to_thread(self._due, now):
            await pipeline.refresh("certificates renewed")

    def _sign(self, now: dt.datetime) -> bool:
        ca = self._pipeline.ca
        return ca.crl is not None and refresh(ca.crl, ca.issuer(), now=now)

    def _due(self, now: dt.datetime) -> bool:
        live = self._pipeline.live
        if live is None:
            return False
        with self._pipeline.store.read() as session:
            held = certificates.load(session, self._pipeline.store.sealer)
        ours = {one.name for one in live.site.edge.certificates if one.source != "pem"}
        return any(name in ours for name in certificates.renewals(held, now))

    def _files(self) -> tuple[tuple[int, int], ...]:
        found = []
        for path in (self._pipeline.ca.ca, self._pipeline.ca.crl):
            if path is not None and path.exists():
                status = path.stat()
                found.append((status.st_ino, status.st_mtime_ns))
        return tuple(found)
