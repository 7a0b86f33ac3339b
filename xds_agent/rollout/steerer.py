"""Steering at work: lets nodes measure, decides anew when something changed, and publishes what moves.

A decision is state: published, then kept with its reason in the store and in the audit. It is made from what
was decided before, so that whoever takes over goes on instead of beginning again.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from xds_agent.compile.maintenance import Windows, active, drained
from xds_agent.model import ResolvedEndpoint, Site
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.rollout.loads import Loads
from xds_agent.steering.asking import Ask, Assignment, Pace
from xds_agent.steering.deciding import (
    UNDECIDED,
    Decisions,
    Drained,
    Kept,
    Seat,
    decide_edited,
    decide_some,
    is_restless,
    moves,
)
from xds_agent.steering.evidence import Evidence
from xds_agent.steering.site import Scene, scene_of
from xds_agent.steering.world import Region
from xds_agent.store import StoreError, audit, placements

if TYPE_CHECKING:
    from xds_agent.rollout.pipeline import Pipeline

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""Between looks: at most two placements a second are published, each with all moves of that look."""
SWEEP_S = 10.0
"""Everything is looked at so often, or as often as its slices allow, whether or not something was heard."""
SLICE = 200
"""Seats of a sweep in one look: a large site must not keep control from everything else."""
REFUSED_S, REFUSED_MOST_S = 60.0, 3600.0
"""After most proxies refused a placement nothing is tried for so long, then for twice as long and so on."""
_AUDITED_MOST = 20

_HEALTH = {pb.EndpointReport.WELL: True, pb.EndpointReport.DOWN: False}


class Steerer:
    """Of one control host. For the event loop, but for `decide`, which a build calls from its thread."""

    def __init__(
        self, pipeline: Pipeline, *, leads: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.evidence = Evidence()
        self.decisions: Decisions = UNDECIDED
        self.loads = Loads()
        self.scene: Scene | None = None
        self.tell: Callable[[Collection[str], pb.ReportResponse], None] = lambda names, response: None
        self._pipeline = pipeline
        self._leads = leads
        self.clock = clock
        self.now = pipeline.now
        self._site: Site | None = None
        self._assigned: Mapping[str, Assignment] = {}
        self._swept_s = float("-inf")
        self._sweep: list[Seat] = []
        self._not_before_s = float("-inf")
        self._refused = 0
        # Decided and published, and not in the store yet; None: the seat is gone.
        self._owed: dict[Seat, Kept | None] = {}
        self._owing = ""
        pipeline.builder.decide = self.decide
        pipeline.steerer = self

    async def load(self) -> None:
        """What was decided before, and what is drained by hand; call it before anything is published."""

        def read() -> Decisions:
            with self._pipeline.store.read() as session:
                return placements.load(session)

        self.decisions, self._owed = await asyncio.to_thread(read), {}
        await self._pipeline.windows.load()

    def decide(self, site: Site, now: dt.datetime) -> tuple[Scene, Decisions]:
        """Decisions for a site that may become live. Pure but for what is known; any thread."""
        scene = scene_of(site)
        live = self._pipeline.live
        return scene, decide_edited(
            self.scene or (live.scene if live is not None else None), scene, self.decisions,
            self.evidence.known, now.timestamp(), drained_in(active(site, now)),
        )  # fmt: skip

    def carried(self, site: Site, scene: Scene, decisions: Decisions) -> Decisions:
        """These decisions, of what is live, as they are for a site that an edit is making of it."""
        now = self._pipeline.now()
        return decide_edited(
            self.scene, scene, decisions, self.evidence.known, now.timestamp(), drained_in(active(site, now)),
        )  # fmt: skip

    def heard(self, name: str, report: object) -> None:
        """What a node says of itself; a Hello is one that has just come and knows no assignment."""
        if isinstance(report, pb.Hello):
            self._assign({name})
        elif isinstance(report, pb.Heartbeat):
            now_s = self.clock()
            for one in report.endpoints:
                self.evidence.hear(
                    name, one.probe, now_s, healthy=_HEALTH.get(one.health), samples_ms=one.samples_ms,
                    p50_ms=one.rtt_ms_p50, p95_ms=one.rtt_ms_p95, words=one.words,
                )  # fmt: skip
            if report.loads:
                self.loads.heard(name, filter(self._is_steered, report.loads), now_s)

    async def run(self) -> None:
        """Look for as long as control runs; a failure is said once and tried again."""
        said = ""
        while True:
            try:
                await self.look()
                said = ""
            except Exception as error:
                # Proxies go on by what they have; control goes on with everything else.
                if str(error) != said:
                    log.exception("steering could not decide")
                said = str(error)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Decide what has to be decided now, and publish it if requests are to go elsewhere."""
        live = self._pipeline.live
        if live is None or not self._leads():
            return
        if live.site is not self._site:
            self._follow(live.site, live.scene)
            await self._adopt(live.decisions)
        assert self.scene is not None
        await self._pay()
        now_s, wall = self.clock(), self._pipeline.now()
        seats = self._due(now_s, wall.timestamp())
        if not seats or now_s < self._not_before_s:
            return
        known = self.evidence.known
        after = await asyncio.to_thread(
            decide_some, self.scene, self.decisions, known, wall.timestamp(), seats,
            drained_in(active(live.site, wall)),
        )  # fmt: skip
        moving = moves(self.decisions, after)
        if not moving:
            self.decisions = after
            return
        refusal = await self._pipeline.updates.place(after, of=live)
        if refusal is None:
            return
        if refusal:
            wait_s = min(REFUSED_S * 2.0**self._refused, REFUSED_MOST_S)
            self._not_before_s, self._refused = now_s + wait_s, self._refused + 1
            log.error("a placement was refused, nothing moves for %d s: %s", wait_s, refusal)
            await asyncio.to_thread(self._note, "placement.refused", moving, refusal)
            return
        self._refused = 0
        await self._adopt(after)

    def _due(self, now_s: float, wall_s: float) -> list[Seat]:
        """Seats that something heard, or time alone, may change."""
        assert self.scene is not None
        scene = self.scene
        self.evidence.grow_old(now_s)
        health, rtts = self.evidence.settle(now_s)
        if not self._sweep and now_s - self._swept_s >= SWEEP_S:
            self._swept_s = now_s
            self.evidence.loads(self.loads.rates(now_s, scene.nodes_at))
            self._sweep = list(scene.seats())
        self._sweep, due = self._sweep[SLICE:], self._sweep[:SLICE]
        seats = {
            (place, name)
            for place, ask in health | rtts
            for name in scene.users.get(ask, ())
            if place in scene.seen_from(name)
            and ((place, ask) in health or scene.services[name].policy.measures)
        }
        for place, named in self.decisions.items():
            seats.update((place, name) for name, kept in named.items() if is_restless(kept, wall_s))
        return sorted({*seats, *due})

    def _is_steered(self, said: pb.ServiceLoad) -> bool:
        """Whatever else a node names is not remembered."""
        steered = self.scene.services.get(said.service) if self.scene is not None else None
        return steered is not None and Region(said.cloud, said.region) in steered.groups

    def _follow(self, site: Site, scene: Scene) -> None:
        self.scene, self._site = scene, site
        self.evidence.follow(scene)
        self.evidence.settle(self.clock())
        before, self._assigned = self._assigned, scene.assignments
        nodes = {*before, *self._assigned}
        self._assign({node for node in nodes if before.get(node) != self._assigned.get(node)})
        self._swept_s, self._sweep = float("-inf"), []

    def _assign(self, nodes: Collection[str]) -> None:
        if self.scene is None:
            return
        for node in nodes:
            asks = self._assigned.get(node, {})
            assignment = pb.ProbeAssignment(
                probes=[_probe(ask, pace) for ask, pace in asks.items()],
                limit_per_s=self.scene.site.edge.limits.probes_per_second,
                services=sorted(self.scene.services),
            )
            self.tell({node}, pb.ReportResponse(assignment=assignment))

    async def _adopt(self, after: Decisions) -> None:
        """From now on this is what was decided before, also for whoever starts next."""
        before, self.decisions = self.decisions, after
        moving = moves(before, after)
        seats = {(place, name) for place, named in after.items() for name in named}
        gone = [
            (place, name) for place, named in before.items() for name in named if (place, name) not in seats
        ]
        self._owed |= {**moving, **dict.fromkeys(gone)}
        await self._pay()

    async def _pay(self) -> None:
        """Write down what was decided; with the database away requests go on where they go, and it is written
        down later."""
        owed = dict(self._owed)
        if not owed:
            return
        moving = {seat: kept for seat, kept in owed.items() if kept is not None}
        gone = [seat for seat, kept in owed.items() if kept is None]
        try:
            await asyncio.to_thread(self._keep, moving, gone)
        except StoreError as error:
            if str(error) != self._owing:
                log.error("%d placements are not in the database yet: %s", len(owed), error)
            self._owing = str(error)
            return
        self._owed, self._owing = {}, ""

    def _keep(self, moving: Mapping[Seat, Kept], gone: Collection[Seat]) -> None:
        with self._pipeline.store.write() as session:
            self._pipeline.ledger.fence(session)
            placements.keep(session, moving, gone)
        if moving:
            self._note("placement.changed", moving)

    def _note(self, action: str, moving: Mapping[Seat, Kept], words: str = "") -> None:
        """To the audit: a row for each service, up to a number that a reader can still take in."""
        by_service: dict[str, dict[str, str]] = {}
        for (place, service), kept in moving.items():
            by_service.setdefault(service, {})[str(place)] = kept.reason
        rows: list[tuple[str, dict[str, object]]] = [
            (name, {"seen_from": by_service[name], **({"words": words} if words else {})})
            for name in sorted(by_service)[:_AUDITED_MOST]
        ]
        if len(by_service) > _AUDITED_MOST:
            rows.append(("others", {"services": len(by_service) - _AUDITED_MOST}))
        now = self._pipeline.now()
        with self._pipeline.store.write() as session:
            for name, detail in rows:
                audit.append(session, actor="control", action=action, subject=name, detail=detail, now=now)


def _probe(ask: Ask, pace: Pace) -> pb.Probe:
    return pb.Probe(
        id=ask.id, address=ask.address, port=ask.port, kind=ask.kind, path=ask.path, host=ask.host,
        statuses=ask.statuses, grpc_service=ask.grpc_service, interval_ms=round(pace.interval_s * 1000),
        timeout_ms=max(1, round(pace.timeout_s * 1000)), unhealthy_after=pace.unhealthy_after,
        healthy_after=pace.healthy_after,
    )  # fmt: skip


def drained_in(windows: Windows) -> Drained:
    """Whether an endpoint is taken out by one of these windows."""

    def is_drained(endpoint: ResolvedEndpoint) -> bool:
        return bool(windows) and drained(endpoint, windows)

    return is_drained
