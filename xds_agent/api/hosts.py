"""This control host among the others of its site: who leads, who follows, and what passes between them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from xds_agent.ads.client import Target
from xds_agent.ads.control import ControlServer
from xds_agent.ads.credentials import channel_credentials
from xds_agent.ads.reports import HEARTBEAT_S, Offline, Report
from xds_agent.api.app import create_app
from xds_agent.api.config import ServeConfig
from xds_agent.peers.follow import Follow
from xds_agent.peers.forwarding import Asgi, Forwarding, answered
from xds_agent.peers.lead import Lead
from xds_agent.peers.leadership import Leadership
from xds_agent.peers.member import Member
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.store import Store

Counted = Callable[[str], None]


@dataclass
class Hosts:
    """The parts that know of other control hosts; with one host they are idle."""

    config: ServeConfig
    store: Store
    pipeline: Pipeline
    reported: Callable[[str, Report], None]
    counted: Counted
    drifted: Callable[[int], None]
    lead: Lead = field(init=False)
    follow: Follow = field(init=False)
    member: Member = field(init=False)
    _apps: dict[frozenset[str] | None, Asgi] = field(init=False, default_factory=dict)
    _ads: ControlServer | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        others = [peer for peer in self.config.peers if peer.name != self.config.name]
        tls = self.config.tls
        self.lead = Lead(
            self.pipeline.publisher, [peer.name for peer in others], self._answer, self._reported_elsewhere,
            self._live,
        )  # fmt: skip
        self.follow = Follow(
            self.pipeline.publisher, lambda: channel_credentials(tls.certificate, tls.key, tls.ca),
            self._tell_here, lambda number: self.member.live_is(number),
        )  # fmt: skip
        self.member = Member(
            Leadership(self.store, self.config.name), self.pipeline, self.lead, self.follow,
            {peer.name: Target(peer.address, peer.name) for peer in others},
        )  # fmt: skip

    def attach(self, ads: ControlServer) -> None:
        """From now on nodes are connected here, too."""
        self._ads = ads
        self.pipeline.publisher.attach(ads.carry_out)
        self.pipeline.vitals.ask = lambda names: self.tell(names, pb.ReportResponse(heartbeat_s=HEARTBEAT_S))
        self.pipeline.questions.tell = self.tell

    def tell(self, names: Collection[str], response: pb.ReportResponse) -> None:
        """To nodes, whichever control host they are connected to."""
        self._tell_here(names, response)
        self.lead.tell(names, response)

    def hear(self, name: str, report: Report) -> None:
        """A report of a node that is connected here."""
        if not self.member.leading and self.follow.reported(name, report):
            return
        self.reported(name, report)

    def api(self, tenants: frozenset[str] | None) -> Asgi:
        """The API for one socket: answered here, or by whoever leads."""
        return Forwarding(self._app(tenants), self.member, self.follow, tenants)

    def _app(self, tenants: frozenset[str] | None) -> Asgi:
        if tenants not in self._apps:
            self._apps[tenants] = create_app(
                self.pipeline,
                name=self.config.name,
                tenants=tenants,
                counted=self.counted,
                drifted=self.drifted,
                leaderless=lambda: self.member.why_nobody_leads,
            )
        return self._apps[tenants]

    async def _answer(self, request: pb.ForwardRequest) -> pb.ForwardResponse:
        tenants = None if request.all_tenants else frozenset(request.tenants)
        return await answered(self._app(tenants), request)

    def _tell_here(self, names: Collection[str], response: pb.ReportResponse) -> None:
        if self._ads is not None:
            self._ads.tell(names, response)

    def _reported_elsewhere(self, name: str, said: pb.NodeReport) -> None:
        kind = said.report.WhichOneof("report") if said.HasField("report") else None
        self.reported(name, getattr(said.report, kind) if kind else Offline(said.since))

    def _live(self) -> int:
        live = self.pipeline.live
        return live.number if live is not None else 0
