"""Keeps what nodes say in the database, off the event loop and in batches.

Serving never waits for it: when the disk is full it says so once and tries again, and nothing is lost but
the latest of each node's facts.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Callable
from typing import Any

from xds_agent.ads.gate import Refusal
from xds_agent.ads.reports import HEARTBEAT_S, OFFLINE_AFTER_S, Offline, Report
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.protocol.outcomes import Acknowledged, Connected, Orphan, Outcome, Refused
from xds_agent.rollout.publisher import Publisher
from xds_agent.rollout.vitals import Vitals
from xds_agent.store import Store, StoreError, audit, nodes
from xds_agent.store.schema import HostCertificateRow

log = logging.getLogger(__name__)

FLUSH_S = 1.0
# A host that one control host has not heard for so long has moved to another one if it spoke within this.
_MOVED_WITHIN_S = OFFLINE_AFTER_S - HEARTBEAT_S
# A stranger that knocks every 50 ms must not fill the disk with its own audit.
_REPEATED_REFUSAL_S = 300.0


class Recorder:
    """Collects in the event loop, writes in a thread."""

    def __init__(
        self, store: Store, publisher: Publisher, vitals: Vitals | None = None,
        words_of: Callable[[Refused], str] = lambda refusal: refusal.words,
        leading: Callable[[], bool] = lambda: True, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._store = store
        self._clock = clock
        self._words_of = words_of
        # Nodes are noted once, by the control host that leads and hears of all of them.
        self._leading = leading
        self._publisher = publisher
        self._vitals = vitals
        self._notes: dict[str, dict[str, Any]] = {}
        self._events: list[tuple[dt.datetime, str, str, str, dict[str, Any]]] = []
        self._refused: dict[tuple[str, str], dt.datetime] = {}
        self._complained = False
        # Certificates that were shown and are not stored yet: serial number -> whose, until when.
        self._shown: dict[str, tuple[str, dt.datetime]] = {}
        self._stored: set[str] = set()
        # When the certificate of each host ends, as it last said itself.
        self.certificates: dict[str, dt.datetime] = {}
        # When each node last spoke, to whichever control host.
        self._spoke: dict[str, float] = {}
        # What each node last acknowledged.
        self._held: dict[str, str] = {}

    def heard(self, outcome: Outcome) -> None:
        """Listener of the publisher."""
        now = dt.datetime.now(dt.UTC)
        if isinstance(outcome, Orphan):
            # Its certificate is ours, but the live revision does not hold its name.
            self._turned_away(now, outcome.node, "", outcome.reason)
            return
        if isinstance(outcome, Connected):
            self._speaks(outcome.node)
        if not self._leading():
            return
        note = self._notes.setdefault(outcome.node, {})
        note["last_seen"] = now
        snapshot = self._publisher.snapshots.get(outcome.node)
        if snapshot is not None:
            note["wanted"] = snapshot.revision
        if isinstance(outcome, Acknowledged):
            self._acknowledged(note, outcome)
        elif isinstance(outcome, Refused):
            words = note["last_error"] = self._words_of(outcome)
            detail = {"revision": outcome.revision, "resources": list(outcome.names), "words": words}
            self._events.append((now, outcome.node, "node.refused", outcome.node, detail))

    def _acknowledged(self, note: dict[str, Any], outcome: Acknowledged) -> None:
        """What it last refused is told until it takes something new; going back to what it had is not."""
        note["acknowledged"] = outcome.revision
        if self._held.get(outcome.node) != outcome.revision:
            note["last_error"] = ""
        self._held[outcome.node] = outcome.revision

    def reported(self, name: str, report: Report) -> None:
        """`on_report` of the ADS server."""
        now = dt.datetime.now(dt.UTC)
        if isinstance(report, Offline):
            if self._clock() - self._spoke.get(name, -OFFLINE_AFTER_S) > _MOVED_WITHIN_S:
                self._publisher.silence(name, silent=True)
            return
        self._speaks(name)
        if not self._leading():
            return
        note = self._notes.setdefault(name, {})
        note["last_seen"] = now
        if isinstance(report, pb.Answer):
            return
        if isinstance(report, pb.Hello):
            note["facts"] = _facts(report)
            return
        if self._vitals is not None:
            self._vitals.heard(name, report.envoy_state, report.counters)
        if report.certificate_not_after:
            until = dt.datetime.fromtimestamp(report.certificate_not_after, dt.UTC)
            note["certificate_until"] = self.certificates[name] = until

    def _speaks(self, name: str) -> None:
        self._spoke[name] = self._clock()
        self._publisher.silence(name, silent=False)

    def seen(self, name: str, serial: str, until: dt.datetime) -> None:
        """`on_seen` of the ADS server: what `revoke` must know of a host."""
        if serial not in self._stored:
            self._shown[serial] = (name, until)

    def refused(self, refusal: Refusal) -> None:
        """`on_refused` of the ADS server: someone was turned away before any stream."""
        now = dt.datetime.now(dt.UTC)
        self._turned_away(now, refusal.identity or refusal.peer, refusal.serial, refusal.reason)

    async def run(self) -> None:
        """Write every second, for as long as control runs."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what was collected; kept for the next time when the database refuses."""
        notes, self._notes = self._notes, {}
        events, self._events = self._events, []
        shown, self._shown = self._shown, {}
        if not notes and not events and not shown:
            return
        try:
            await asyncio.to_thread(self._write, notes, events, shown)
            self._stored |= shown.keys()
            self._complained = False
        except StoreError as error:
            for name, note in notes.items():
                self._notes[name] = {**note, **self._notes.get(name, {})}
            self._events = (events + self._events)[-1000:]
            self._shown = {**shown, **self._shown}
            if not self._complained:
                log.error("what the nodes report is not stored: %s", error)
            self._complained = True

    def _write(
        self, notes: dict[str, dict[str, Any]], events: list[Any],
        shown: dict[str, tuple[str, dt.datetime]],
    ) -> None:  # fmt: skip
        with self._store.write() as session:
            for serial, (name, until) in shown.items():
                session.merge(HostCertificateRow(serial=serial, name=name, not_after=until))
            for name, note in notes.items():
                nodes.note(session, name, **note)
            for at, actor, action, subject, detail in events:
                audit.append(session, actor=actor, action=action, subject=subject, detail=detail, now=at)

    def _turned_away(self, now: dt.datetime, who: str, serial: str, reason: str) -> None:
        before = self._refused.get((who.rpartition(":")[0] or who, reason))
        if before is not None and (now - before).total_seconds() < _REPEATED_REFUSAL_S:
            return
        if len(self._refused) > 1000:
            self._refused.clear()
        self._refused[(who.rpartition(":")[0] or who, reason)] = now
        detail = {"reason": reason, "serial": serial}
        self._events.append((now, who, "peer.refused", who, detail))


def _facts(hello: pb.Hello) -> dict[str, Any]:
    return {
        "agent": hello.agent_version,
        "envoy": hello.envoy_version,
        "kernel": hello.kernel,
        "distribution": hello.distribution,
        "machine": hello.machine,
        "btf": hello.btf,
        "nics": [
            {"name": n.name, "driver": n.driver, "mtu": n.mtu, "rx_queues": n.rx_queues, "xdp": n.xdp}
            for n in hello.nics
        ],
    }
