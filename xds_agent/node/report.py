"""The Report stream: who this host is (Hello) and how it does (Heartbeat, every 10 s and on changes)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping

import grpc

from xds_agent.ads.client import REPORT_METHOD
from xds_agent.node.config import ADMIN_CLUSTER, XDS_CLUSTER
from xds_agent.proto import marchproxy_pb2 as pb

log = logging.getLogger(__name__)

HEARTBEAT_S = 10.0
# A change is reported at once, the ones right behind it together.
BETWEEN_CHANGES_S = 0.25
RETRY_S = 2.0
# Envoy's counters that a rollout compares before and after; sums over all clusters and listeners.
GATE_COUNTERS = {
    "downstream_rq_total": r"^http\..*\.downstream_rq_total$",
    "downstream_rq_5xx": r"^http\..*\.downstream_rq_5xx$",
    "upstream_cx_connect_fail": r"^cluster\..*\.upstream_cx_connect_fail$",
    "update_rejected": r"^(cluster_manager\.cds|listener_manager\.lds)\.update_rejected$",
}
GATE_PATTERN = "|".join(GATE_COUNTERS.values())
# An Envoy whose agent is away tries to reach it many times a second: that says nothing of backends.
_OWN_CLUSTERS = (f"cluster.{XDS_CLUSTER}.", f"cluster.{ADMIN_CLUSTER}.")


def gate_counters(found: Mapping[str, int]) -> dict[str, int]:
    """Sum Envoy's counters into the names of a Heartbeat."""
    sums = dict.fromkeys(GATE_COUNTERS, 0)
    for name, value in found.items():
        last = name.rpartition(".")[2]
        if last in sums and not name.startswith(_OWN_CLUSTERS):
            sums[last] += value
    return sums


class Reporter:
    """Speaks for this host to whichever control host is connected."""

    def __init__(
        self, hello: Callable[[], Awaitable[pb.Hello]], heartbeat: Callable[[bool], Awaitable[pb.Heartbeat]],
        answer: Callable[[pb.Question], Awaitable[pb.Answer]],
        assigned: Callable[[pb.ProbeAssignment], None] = lambda assignment: None,
    ) -> None:  # fmt: skip
        """`heartbeat(True)` is asked for the counters too. With thousands of clusters Envoy's main thread
        pays for reading them, so the heartbeat that is due carries them, not the one of a change."""
        self._hello = hello
        self._heartbeat = heartbeat
        self._answer = answer
        # Answers to control's questions go out at once; of one stream only one may write.
        self._writing = asyncio.Lock()
        self._assigned = assigned
        self._answering: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._asked = False
        self._interval_s = HEARTBEAT_S

    def changed(self) -> None:
        """The state is another one: report it now."""
        self._changed.set()

    async def run(self, channel: grpc.aio.Channel) -> None:
        """Report on `channel` until cancelled; a stream that breaks is opened again."""
        while True:
            try:
                await self._stream(channel)
            except grpc.aio.AioRpcError as error:
                log.info("report stream: %s: %s", error.code().name, error.details())
            except asyncio.InvalidStateError:
                # What grpc.aio raises for a write to a stream that ended a moment before.
                log.info("report stream: it ended")
            await asyncio.sleep(RETRY_S)

    async def _stream(self, channel: grpc.aio.Channel) -> None:
        call = channel.stream_stream(
            REPORT_METHOD,
            request_serializer=pb.ReportRequest.SerializeToString,
            response_deserializer=pb.ReportResponse.FromString,
        )()
        answers = asyncio.create_task(self._answers(call))
        try:
            said = await self._hello()
            await self._write(call, pb.ReportRequest(hello=said))
            due = True
            while not answers.done():
                self._changed.clear()
                self._asked = False
                await self._write(call, pb.ReportRequest(heartbeat=await self._heartbeat(due)))
                await asyncio.sleep(BETWEEN_CHANGES_S)
                due = await self._pause(answers) or self._asked
                if due and (again := await self._hello()) != said:
                    said = again
                    await self._write(call, pb.ReportRequest(hello=said))
            answers.result()
        finally:
            answers.cancel()
            call.cancel()

    async def _answers(self, call: grpc.aio.StreamStreamCall) -> None:
        first = True
        async for answer in call:
            if answer.heartbeat_s:
                self._interval_s = float(answer.heartbeat_s)
            if answer.HasField("question"):
                task = asyncio.create_task(self._find_out(call, answer.question))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            elif answer.HasField("assignment"):
                self._assigned(answer.assignment)
            elif not first:
                # Control judges a wave: it wants the counters of now.
                self._asked = True
                self._changed.set()
            first = False

    async def _find_out(self, call: grpc.aio.StreamStreamCall, question: pb.Question) -> None:
        answer = await self._answer(question)
        # Control has given up on what it asked on a stream that ended meanwhile.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._write(call, pb.ReportRequest(answer=answer))

    async def _write(self, call: grpc.aio.StreamStreamCall, said: pb.ReportRequest) -> None:
        async with self._writing:
            await call.write(said)

    async def _pause(self, answers: asyncio.Task[None]) -> bool:
        """Until the next heartbeat is due (True), the state changes, or the stream ends."""
        changed = asyncio.create_task(self._changed.wait())
        try:
            done, _ = await asyncio.wait(
                (changed, answers), timeout=self._interval_s, return_when=asyncio.FIRST_COMPLETED
            )
            return not done
        finally:
            changed.cancel()
