"""ACME orders of the live revision's certificates: made by control itself, never in the way of a change.

The answers of a pending order go to the proxies as an operational revision, the finished certificate as
another; until the first one is there, a certificate of the site's own CA stands in. Authorities count
failures (the best known one: five an hour and name), so a failed order is tried again ever later.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from xds_agent.model import Certificate
from xds_agent.pki import acme
from xds_agent.pki.issuer import IssueError, Issuer
from xds_agent.rollout.material import names_by_certificate
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.store import StoreError, audit, certificates, secrets
from xds_agent.store.certificates import Issued

log = logging.getLogger(__name__)

LOOK_S = 5.0
FIRST_RETRY = dt.timedelta(minutes=1)
LONGEST_RETRY = dt.timedelta(hours=6)
# Beyond the longest; a time of ever more bits overflows one day.
_DOUBLED_MOST = 10
# For the answers of an order to be with all proxies.
PUBLISH_S = 120.0


@dataclass(frozen=True)
class Failure:
    """The last refusal of an order, and when it is tried again."""

    words: str
    count: int
    retry: dt.datetime


class Orders:
    """Orders what is due, one certificate at a time."""

    def __init__(self, pipeline: Pipeline, *, look_s: float = LOOK_S) -> None:
        self._pipeline = pipeline
        self._look_s = look_s
        # Certificate name -> why it is not there yet; read by the metrics.
        self.failures: dict[str, Failure] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            try:
                await self.look()
            except Exception:
                # An order that cannot be brought to the proxies must not end control, which serves.
                log.exception("looking after ACME orders failed")

    async def look(self) -> None:
        """Order whatever is due now."""
        live = self._pipeline.live
        if live is None:
            return
        wanted = [one for one in live.site.edge.certificates if one.source == "acme"]
        names_wanted = {one.name for one in wanted}
        self.failures = {name: one for name, one in self.failures.items() if name in names_wanted}
        if not wanted:
            return
        try:
            held = await asyncio.to_thread(self._held)
            issuer = await asyncio.to_thread(self._pipeline.ca.issuer)
        except (StoreError, IssueError) as error:
            log.error("no ACME order can be made: %s", error)
            return
        names = names_by_certificate(live.site)
        now = self._pipeline.now()
        for one in wanted:
            failure = self.failures.get(one.name)
            if failure is not None and now < failure.retry:
                continue
            reason = why_order(held.get(one.name), names[one.name], issuer, now, one.key_type)
            if reason is not None:
                await self._order(one, names[one.name], reason)

    async def _order(self, certificate: Certificate, names: list[str], reason: str) -> None:
        name = certificate.name
        log.info("ordering certificate %s from %s: %s", name, certificate.directory, reason)
        publish = self._publisher(name, asyncio.get_running_loop())
        try:
            issued = await asyncio.to_thread(self._obtain, certificate, names, publish)
            await asyncio.to_thread(self._keep, issued, certificate.directory or "", reason)
        except (acme.AcmeError, StoreError) as error:
            await self._failed(name, str(error))
            return
        except Exception as error:
            # Whatever it was: the next try must wait, since authorities count them.
            log.exception("the order of certificate %s broke off", name)
            await self._failed(name, f"{type(error).__name__}: {error}")
            return
        self.failures.pop(name, None)
        await self._pipeline.updates.refresh(
            f"certificate {name}: {reason}, ordered from {certificate.directory}"
        )

    def _publisher(self, name: str, loop: asyncio.AbstractEventLoop) -> Callable[[acme.Challenges], None]:
        """What the ordering thread calls: returns when the proxies have acknowledged the answers."""

        async def bring(answers: acme.Challenges) -> None:
            pipeline = self._pipeline
            pipeline.builder.challenges = dict(answers)
            what = "answers to" if answers else "end of"
            await pipeline.updates.refresh(f"certificate {name}: {what} its ACME order")
            if answers and (words := self._unanswered()):
                pipeline.builder.challenges = {}
                raise acme.AcmeError(f"the authority was not told to look: {words}")

        def publish(answers: acme.Challenges) -> None:
            bringing = asyncio.run_coroutine_threadsafe(bring(answers), loop)
            try:
                bringing.result(PUBLISH_S)
            except TimeoutError as error:
                # Control stops or leads no more, or its proxies take too long: nobody hears this thread.
                bringing.cancel()
                raise acme.AcmeError(f"its answers were not with the proxies in {PUBLISH_S:g} s") from error

        return publish

    def _unanswered(self) -> str:
        """Why proxies do not give the answers of a pending order, though they were to be published."""
        pipeline = self._pipeline
        if pipeline.deposed.is_set():
            return "this control host leads no more"
        if pipeline.updates.refused:
            return f"proxies refused its answers: {pipeline.updates.refused}"
        if pipeline.live is not None and pipeline.live.behind is not None:
            return pipeline.live.behind.words
        return ""

    def _obtain(
        self, certificate: Certificate, names: list[str], publish: Callable[[acme.Challenges], None]
    ) -> Issued:
        directory = certificate.directory or ""
        key = certificates.make_key(certificate.key_type)
        with tempfile.TemporaryDirectory(prefix="acme-") as folder:
            bundle = None
            if certificate.directory_ca is not None:
                bundle = Path(folder) / "ca.pem"
                bundle.write_text(certificate.directory_ca)
            authority = acme.Authority(directory, self._account_key(directory), certificate.contact, bundle)
            chain = acme.obtain(authority, key=key, names=names, publish=publish)
        leaf = x509.load_pem_x509_certificates(chain)[0]
        return Issued(
            certificate.name, tuple(sorted(names)), chain, key, leaf.not_valid_before_utc,
            leaf.not_valid_after_utc,
        )  # fmt: skip

    def _account_key(self, directory: str) -> bytes:
        """The account's key at this directory, made at the first order."""
        store, ref = self._pipeline.store, f"acme account {directory}"
        with store.read() as session:
            known = secrets.latest(session, store.sealer, ref)
        if known is not None:
            return known.encode()
        key = acme.new_account_key()
        with store.write() as session:
            secrets.keep(session, store.sealer, {ref: key.decode()}, now=self._pipeline.now())
        return key

    def _held(self) -> dict[str, Issued]:
        with self._pipeline.store.read() as session:
            return certificates.load(session, self._pipeline.store.sealer)

    def _keep(self, issued: Issued, directory: str, reason: str) -> None:
        store = self._pipeline.store
        with store.write() as session:
            certificates.keep(session, store.sealer, [issued])
            detail = {
                "directory": directory, "reason": reason, "names": list(issued.names),
                "until": issued.not_after.isoformat(),
            }  # fmt: skip
            audit.append(
                session, actor="control", action="certificate.ordered", subject=issued.name, detail=detail,
                now=self._pipeline.now(),
            )  # fmt: skip

    async def _failed(self, name: str, words: str) -> None:
        now = self._pipeline.now()
        count = self.failures[name].count + 1 if name in self.failures else 1
        wait = min(FIRST_RETRY * 2 ** min(count - 1, _DOUBLED_MOST), LONGEST_RETRY)
        self.failures[name] = Failure(words, count, now + wait)
        log.error("certificate %s was not issued, tried again in %s: %s", name, wait, words)

        def note() -> None:
            with self._pipeline.store.write() as session:
                audit.append(
                    session, actor="control", action="certificate.refused", subject=name,
                    detail={"words": words, "attempt": count}, now=now,
                )  # fmt: skip

        try:
            await asyncio.to_thread(note)
        except StoreError as error:
            log.error("the refusal could not be audited: %s", error)


def why_order(
    held: Issued | None, names: list[str], issuer: Issuer, now: dt.datetime, key_type: str
) -> str | None:
    """Why a certificate is to be ordered (again), in words; None when the one held serves."""
    if held is None or issuer.pem in held.chain:
        return "the site's own CA stood in"
    if held.names != tuple(sorted(names)):
        return f"its names are now {', '.join(sorted(names))}"
    if held.due(now):
        return f"two thirds of its life were over (it ended {held.not_after:%Y-%m-%d})"
    if held.key_type != key_type:
        return f"its key is to be {key_type}"
    return None
