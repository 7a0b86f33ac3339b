"""Control's side of NodeService: what nodes report of themselves, who fell silent, and Renew.

The certificate names the reporter; nothing in a report can speak for another host.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

import grpc

from xds_agent.ads.gate import Gate
from xds_agent.pki.issuer import IssueError
from xds_agent.pki.renewal import RenewalHandler
from xds_agent.proto import marchproxy_pb2 as pb

log = logging.getLogger(__name__)

SERVICE = "marchproxy.v1.NodeService"
HEARTBEAT_S = 10
OFFLINE_AFTER_S = 30.0
_WAITING_MOST = 16


@dataclass(frozen=True, slots=True)
class Offline:
    """Nothing was heard of the node for 30 s; `since` is when it last spoke (Unix seconds)."""

    since: float


Report = pb.Hello | pb.Heartbeat | pb.Answer | Offline
OnReport = Callable[[str, Report], None]


class Reports:
    """Serves Report and Renew, and tells `on_report` what each node says or that it has fallen silent."""

    def __init__(
        self, gate: Gate, on_report: OnReport, *, renewal: RenewalHandler | None = None,
        before_renewal: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._gate = gate
        self._on_report = on_report
        self._renewal = renewal
        self._before_renewal = before_renewal
        # Silence is measured by the one that no correction of the date moves; people are told the date.
        self._clock, self._wall = clock, wall
        self._heard: dict[str, float] = {}
        # Open streams, each with what its node is to be told.
        self._streams: dict[int, tuple[str, asyncio.Queue[pb.ReportResponse]]] = {}

    def ask(self, names: Collection[str]) -> None:
        """Let these nodes send a heartbeat with counters at once; who is not connected is not asked."""
        self.tell(names, pb.ReportResponse(heartbeat_s=HEARTBEAT_S))

    def tell(self, names: Collection[str], response: pb.ReportResponse) -> None:
        """Send this to these nodes, where they are connected."""
        for name, waiting in self._streams.values():
            # A node that does not read must not fill our memory.
            if name in names and waiting.qsize() < _WAITING_MOST:
                waiting.put_nowait(response)

    def handler(self) -> grpc.GenericRpcHandler:
        """Add it to the grpc.aio server that serves ADS."""
        methods = {
            "Report": grpc.stream_stream_rpc_method_handler(
                self._report,
                request_deserializer=pb.ReportRequest.FromString,
                response_serializer=pb.ReportResponse.SerializeToString,
            ),
            "Renew": grpc.unary_unary_rpc_method_handler(
                self._renew,
                request_deserializer=pb.RenewRequest.FromString,
                response_serializer=pb.RenewResponse.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def run(self) -> None:
        """Look for silent nodes every second, for as long as the server runs."""
        while True:
            await asyncio.sleep(1.0)
            self.look()

    def look(self) -> None:
        """Report each node once that was last heard more than 30 s ago."""
        now = self._clock()
        for name, heard in list(self._heard.items()):
            if now - heard > OFFLINE_AFTER_S:
                del self._heard[name]
                self._tell(name, Offline(self._wall() - (now - heard)))

    def hear(self, name: str, request: pb.ReportRequest) -> None:
        """Take one message of a node's stream."""
        self._heard[name] = self._clock()
        kind = request.WhichOneof("report")
        if kind == "hello":
            self._tell(name, request.hello)
        elif kind == "heartbeat":
            self._tell(name, request.heartbeat)
        elif kind == "answer":
            self._tell(name, request.answer)

    async def _report(self, _requests: Any, context: Any) -> None:
        peer = await self._gate.admit(context)
        task = asyncio.current_task()
        assert task is not None
        ending: list[str] = []

        def close(words: str) -> None:
            ending.append(words)
            task.cancel()

        waiting: asyncio.Queue[pb.ReportResponse] = asyncio.Queue()
        asking: asyncio.Task[None] | None = None
        self._streams[id(waiting)] = (peer.name, waiting)
        try:
            with self._gate.watching(peer, context.peer(), close):
                await context.write(pb.ReportResponse(heartbeat_s=HEARTBEAT_S))
                asking = asyncio.create_task(_pass_on(context, waiting))
                while (request := await context.read()) is not grpc.aio.EOF:
                    self.hear(peer.name, request)
        except asyncio.CancelledError:
            if not ending:
                raise
            task.uncancel()
        finally:
            del self._streams[id(waiting)]
            if asking is not None:
                asking.cancel()
        if ending:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, ending[0])

    async def _renew(self, request: pb.RenewRequest, context: Any) -> pb.RenewResponse:
        if self._before_renewal is not None:
            await self._before_renewal()
        peer = await self._gate.admit(context)
        if self._renewal is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this control host has no issuing CA")
        assert self._renewal is not None
        try:
            return self._renewal.renew(peer.name, request.csr, now=dt.datetime.now(dt.UTC))
        except IssueError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
            raise

    def _tell(self, name: str, report: Report) -> None:
        try:
            self._on_report(name, report)
        except Exception:
            # What the listener does with a report must not cost the node its stream.
            log.exception("taking a report of %s failed", name)


async def _pass_on(context: Any, waiting: asyncio.Queue[pb.ReportResponse]) -> None:
    with contextlib.suppress(grpc.RpcError):
        while True:
            await context.write(await waiting.get())
