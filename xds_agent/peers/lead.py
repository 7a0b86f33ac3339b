"""The leader's side: control hosts that follow it, and the requests they carry to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import grpc

from xds_agent.ads.gate import Gate
from xds_agent.peers.outcomes import heard
from xds_agent.peers.publication import Encoder
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.rollout.publisher import Publisher

log = logging.getLogger(__name__)

SERVICE = "marchproxy.v1.ControlService"
# What a follower is to pass on to its nodes, and has not read yet: more is no news to anybody.
_WAITING_MOST = 10_000

Answering = Callable[[pb.ForwardRequest], Awaitable[pb.ForwardResponse]]
OnNodeReport = Callable[[str, pb.NodeReport], None]


@dataclass(eq=False)
class _Follower:
    """One control host that follows. Of publications only the newest waits: being slow costs no memory."""

    name: str
    task: asyncio.Task[Any] | None
    encoder: Encoder = field(default_factory=Encoder)
    behind: bool = True
    tells: list[pb.LeaderSaid] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self, words: str = "") -> None:
        if self.task is not None:
            self.task.cancel()


class Lead:
    """Serves ControlService. While this host does not lead, everybody is turned away."""

    def __init__(
        self, publisher: Publisher, peers: Collection[str], answer: Answering, on_report: OnNodeReport,
        live: Callable[[], int],
    ) -> None:  # fmt: skip
        self._publisher = publisher
        self._peers = frozenset(peers)
        self._answer = answer
        self._on_report = on_report
        self._live = live
        self._followers: dict[str, _Follower] = {}
        self._leading = False
        publisher.on_publish.append(self._published)

    def begin(self) -> None:
        self._leading = True

    def end(self) -> None:
        """Send every follower away: somebody else may lead by now."""
        self._leading = False
        for follower in list(self._followers.values()):
            follower.close()

    def tell(self, names: Collection[str], response: pb.ReportResponse) -> None:
        """To nodes that are connected to followers."""
        for follower in self._followers.values():
            here = [name for name in names if self._publisher.connected_to(follower.name, name)]
            if here and len(follower.tells) < _WAITING_MOST:
                follower.tells.append(pb.LeaderSaid(nodes=here, response=response, live=self._live()))
                follower.news.set()

    def followers(self) -> list[str]:
        return sorted(self._followers)

    def handler(self, gate: Gate) -> grpc.GenericRpcHandler:
        """Added to the server of nodes: one port, one admission."""

        async def follow(requests: Any, context: Any) -> None:
            await self._follow(gate, context)

        async def forward(request: pb.ForwardRequest, context: Any) -> pb.ForwardResponse:
            await self._admit(gate, context)
            return await self._answer(request)

        methods = {
            "Follow": grpc.stream_stream_rpc_method_handler(
                follow,
                request_deserializer=pb.FollowerSaid.FromString,
                response_serializer=pb.LeaderSaid.SerializeToString,
            ),
            "Forward": grpc.unary_unary_rpc_method_handler(
                forward,
                request_deserializer=pb.ForwardRequest.FromString,
                response_serializer=pb.ForwardResponse.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _admit(self, gate: Gate, context: Any) -> Any:
        peer = await gate.admit(context)
        if peer.name not in self._peers:
            words = f"{peer.name} is no control host of this site (peers in serve.yml)"
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, words)
        if not self._leading:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this control host does not lead")
        return peer

    async def _follow(self, gate: Gate, context: Any) -> None:
        peer = await self._admit(gate, context)
        follower = _Follower(peer.name, asyncio.current_task())
        before = self._followers.get(peer.name)
        if before is not None:
            before.close()
        self._followers[peer.name] = follower
        follower.news.set()
        log.info("control %s follows", peer.name)
        writing = asyncio.create_task(self._write(context, follower))
        try:
            with gate.watching(peer, context.peer(), follower.close):
                while (said := await context.read()) is not grpc.aio.EOF:
                    self._hear(peer.name, said)
        except asyncio.CancelledError:
            # Sent away by `end`, or its stream broke: either way it comes again, to whoever leads.
            log.info("control %s follows no more", peer.name)
        finally:
            writing.cancel()
            if self._followers.get(peer.name) is follower:
                del self._followers[peer.name]
                self._publisher.lost_follower(peer.name)
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream of this follower ended")

    async def _write(self, context: Any, follower: _Follower) -> None:
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            while True:
                await follower.news.wait()
                follower.news.clear()
                if follower.behind:
                    follower.behind = False
                    await context.write(self._news_for(follower))
                while follower.tells:
                    await context.write(follower.tells.pop(0))

    def _news_for(self, follower: _Follower) -> pb.LeaderSaid:
        publisher = self._publisher
        said = pb.LeaderSaid(live=self._live())
        # Before the first revision nodes wait, wherever they are connected: they are no orphans.
        if publisher.published:
            said.publication.CopyFrom(follower.encoder.encode(publisher.snapshots, publisher.number))
        return said

    def _published(self) -> None:
        for follower in self._followers.values():
            follower.behind = True
            follower.news.set()

    def _hear(self, name: str, said: pb.FollowerSaid) -> None:
        kind = said.WhichOneof("said")
        if kind == "outcome":
            outcome = heard(said.outcome)
            if outcome is not None:
                self._publisher.heard_from(name, outcome)
        elif kind == "report":
            try:
                self._on_report(said.report.node, said.report)
            except Exception:
                # What one node says must not cost a whole control host its stream.
                log.exception("taking a report of %s through control %s failed", said.report.node, name)
