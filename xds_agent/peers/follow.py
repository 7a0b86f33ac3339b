"""The follower's side: publish what the leader does, tell it what the nodes here say, carry requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection
from typing import Any

import grpc

from xds_agent.ads.client import Target, open_channel
from xds_agent.ads.reports import Offline, Report
from xds_agent.peers.lead import SERVICE
from xds_agent.peers.outcomes import standing, told
from xds_agent.peers.publication import Decoder
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.protocol.outcomes import Outcome
from xds_agent.rollout.publisher import Publisher

log = logging.getLogger(__name__)

FIRST_WORD_S = 5.0
# Reports that a leader has not read yet: later ones are dropped, since nodes report again.
_WAITING_MOST = 10_000

_REPORTS = {pb.Hello: "hello", pb.Heartbeat: "heartbeat", pb.Answer: "answer"}


class LeaderLost(Exception):
    """The leader went away while it worked on a request; nobody here knows how that ended."""


class Follow:
    """Follows one leader at a time, as long as `run` runs."""

    def __init__(
        self, publisher: Publisher, credentials: Callable[[], grpc.ChannelCredentials],
        tell: Callable[[Collection[str], pb.ReportResponse], None], on_live: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._publisher = publisher
        self._credentials = credentials
        self._tell = tell
        self._on_live = on_live
        self._channel: grpc.aio.Channel | None = None
        # What the leader is to hear; None while there is no leader to hear it.
        self._news: asyncio.Queue[pb.FollowerSaid] | None = None
        self.leader = ""
        publisher.listeners.append(self._heard)

    @property
    def linked(self) -> bool:
        """Whether a leader has told what every node is to hold."""
        return self._channel is not None

    async def run(self, leader: Target) -> str:
        """Until the stream ends; why it did. Raises OSError when the own certificate is unreadable."""
        channel = open_channel(leader, self._credentials())
        call = channel.stream_stream(
            f"/{SERVICE}/Follow",
            request_serializer=pb.FollowerSaid.SerializeToString,
            response_deserializer=pb.LeaderSaid.FromString,
        )()
        decoder = Decoder()
        writing: asyncio.Task[None] | None = None
        try:
            while True:
                # A leader speaks at once; later it has nothing to say for hours.
                async with asyncio.timeout(FIRST_WORD_S if writing is None else None):
                    said = await call.read()
                if said is grpc.aio.EOF:
                    break
                if said.HasField("publication"):
                    self._publisher.publish(decoder.decode(said.publication), said.publication.number)
                if writing is None:
                    self._channel, self.leader = channel, leader.name
                    self._news = asyncio.Queue()
                    for one in standing(
                        self._publisher.core.nodes().values(), self._publisher.refusals.values()
                    ):
                        self._news.put_nowait(pb.FollowerSaid(outcome=one))
                    writing = asyncio.create_task(self._write(call, self._news))
                if said.nodes:
                    self._tell(list(said.nodes), said.response)
                self._on_live(said.live)
            words = str(await call.details())
        except grpc.aio.AioRpcError as error:
            words = f"{error.code().name}: {error.details()}"
        except TimeoutError:
            words = f"it said nothing for {FIRST_WORD_S:g} s"
        except ValueError as error:
            words = str(error)
        finally:
            self._channel, self._news, self.leader = None, None, ""
            if writing is not None:
                writing.cancel()
            call.cancel()
            await channel.close()
        return words

    async def forward(self, request: pb.ForwardRequest) -> pb.ForwardResponse:
        """Carry a request to the leader. Raises LeaderLost when it goes away meanwhile."""
        if self._channel is None:
            raise LeaderLost("no control host leads at this moment")
        leader = self.leader
        try:
            answer: pb.ForwardResponse = await self._channel.unary_unary(
                f"/{SERVICE}/Forward",
                request_serializer=pb.ForwardRequest.SerializeToString,
                response_deserializer=pb.ForwardResponse.FromString,
            )(request)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.CancelledError) as error:
            raise LeaderLost(f"control {leader} was lost over this request") from error
        return answer

    def reported(self, name: str, report: Report) -> bool:
        """Pass a node's report on; False when there is no leader to pass it to."""
        if self._news is None:
            return False
        if self._news.qsize() >= _WAITING_MOST:
            return True
        said = pb.NodeReport(node=name)
        if isinstance(report, Offline):
            said.since = report.since
        else:
            getattr(said.report, _REPORTS[type(report)]).CopyFrom(report)
        self._news.put_nowait(pb.FollowerSaid(report=said))
        return True

    def _heard(self, outcome: Outcome) -> None:
        if self._news is not None and (said := told(outcome)) is not None:
            self._news.put_nowait(pb.FollowerSaid(outcome=said))

    async def _write(self, call: Any, news: asyncio.Queue[pb.FollowerSaid]) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                await call.write(await news.get())
