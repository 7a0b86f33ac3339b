"""GrpcTransport: carries the protocol core over grpc.aio and knows no rule of the protocol.

Callbacks become boundary events, actions are carried out; requests and responses stay bytes. One reader and
one writer task per stream, at most one frame waiting: the core hears `Writable` once it has left, and
coalesces until then. The same class serves nodes over mTLS at control and Envoy over a Unix socket.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import grpc

from xds_agent.ads.limits import LARGEST_SENT_BYTES, MIB, SERVING
from xds_agent.protocol.boundary import (
    Action,
    Close,
    Closed,
    Core,
    Event,
    Message,
    Method,
    Opened,
    Send,
    Tick,
    Wake,
    Writable,
)

if TYPE_CHECKING:
    # The node agent has no gate, and need not load cryptography before Envoy is served.
    from xds_agent.ads.gate import Gate

log = logging.getLogger(__name__)

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
# A peer that takes nothing for this long is closed; its neighbours notice nothing.
STALLED_WRITE_S = 30.0
_STATUS = {code.value[0]: code for code in grpc.StatusCode}

# Keepalive finds a peer that vanished without a word; SO_REUSEPORT would let a second agent start beside the
# first, unseen.
SERVER_OPTIONS = (
    *SERVING,
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_concurrent_streams", 10_000),
    ("grpc.so_reuseport", 0),
)


class _Stream:
    """One open RPC: its context, the frame that waits, and how it is to end."""

    __slots__ = ("context", "ending", "frame", "reader", "wake", "writing_since")

    def __init__(self, context: Any, reader: asyncio.Task[Any]) -> None:
        self.context = context
        self.reader = reader
        self.frame: bytes | None = None
        self.wake = asyncio.Event()
        self.ending: Close | None = None
        # When the write that is under way began.
        self.writing_since: float | None = None


class GrpcTransport:
    """Drives `core` from gRPC; all calls belong to one event loop.

    Without a `gate` every peer is trusted (a Unix socket with file permissions) and has no identity.
    """

    def __init__(
        self, core: Core, *, gate: Gate | None = None, clock: Callable[[], float] = time.monotonic,
        stalled_write_s: float = STALLED_WRITE_S, largest_bytes: int = LARGEST_SENT_BYTES,
    ) -> None:  # fmt: skip
        self._core = core
        self._gate = gate
        self._clock = clock
        self._stalled_write_s = stalled_write_s
        self._largest_bytes = largest_bytes
        self._streams: dict[int, _Stream] = {}
        self._numbers = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        # One timer for the writes of all streams: a thousand begin with every change.
        self._patience: asyncio.TimerHandle | None = None

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    def handler(self) -> grpc.GenericRpcHandler:
        """Both ADS methods, raw bytes in and out; add it to a grpc.aio server."""
        methods = {
            method.value: grpc.stream_stream_rpc_method_handler(self._behaviour(method)) for method in Method
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def carry_out(self, actions: Iterable[Action]) -> None:
        """Do what the core asks; used for its own answers and for those of publish, converge and so on."""
        for action in actions:
            match action:
                case Send(streams=streams, data=data):
                    for number in streams:
                        self._send(number, data)
                case Close(stream=number):
                    self._close(number, action)
                case Wake(at=at):
                    self._wake(at)

    def close_all(self, text: str = "the server stops") -> None:
        """End every stream with UNAVAILABLE: peers reconnect, here or elsewhere."""
        for number in list(self._streams):
            self._close(number, Close(number, grpc.StatusCode.UNAVAILABLE.value[0], text))

    def stop(self) -> None:
        """Forget the timers."""
        for timer in (self._timer, self._patience):
            if timer is not None:
                timer.cancel()
        self._timer = self._patience = None

    def _behaviour(self, method: Method) -> Callable[[Any, Any], Any]:
        async def behave(_requests: Any, context: Any) -> None:
            if self._gate is None:
                await self._serve(method, context, identity=None, serial="")
                return
            peer = await self._gate.admit(context)
            await self._serve(method, context, identity=peer.name, serial=peer.serial_text, peer=peer)

        return behave

    async def _serve(
        self, method: Method, context: Any, *, identity: str | None, serial: str, peer: Any = None
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        number = next(self._numbers)
        stream = self._streams[number] = _Stream(context, task)
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        writer = asyncio.create_task(self._write(number, stream), name=f"ads-write-{number}")
        reason = "closed by the peer"
        try:
            # Tells the peer that it was let in, also when there is nothing to send it.
            await context.send_initial_metadata(())
            self._feed(Opened(number, method, identity, serial, metadata))
            if peer is None or self._gate is None:
                await self._read(number, stream)
            else:
                with self._gate.watching(peer, context.peer(), lambda words: self._deny(number, words)):
                    await self._read(number, stream)
        except asyncio.CancelledError:
            if stream.ending is None:
                reason = "connection lost"
                raise
            task.uncancel()
            reason = stream.ending.text
        finally:
            writer.cancel()
            self._streams.pop(number, None)
            self._feed(Closed(number, reason))
        if stream.ending is not None:
            await self._abort(context, stream.ending)

    async def _read(self, number: int, stream: _Stream) -> None:
        while (data := await stream.context.read()) is not grpc.aio.EOF:
            self._feed(Message(number, data))

    async def _write(self, number: int, stream: _Stream) -> None:
        write, wake = stream.context.write, stream.wake
        while True:
            frame = stream.frame
            if frame is None:
                wake.clear()
                await wake.wait()
                continue
            stream.writing_since = self._clock()
            if self._patience is None:
                self._watch()
            try:
                await write(frame)
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, grpc.RpcError, asyncio.InvalidStateError):
                # The RPC ended under the write; its reader reports that.
                return
            stream.frame = stream.writing_since = None
            self._feed(Writable(number))

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(self._stalled_write_s / 4, self._close_stalled)

    def _close_stalled(self) -> None:
        """End the streams whose write has not moved for long, and look again while any is under way."""
        self._patience = None
        writing = [(n, one) for n, one in self._streams.items() if one.writing_since is not None]
        now = self._clock()
        for number, stream in writing:
            if stream.writing_since is not None and now - stream.writing_since >= self._stalled_write_s:
                words = f"the peer took nothing for {self._stalled_write_s:.0f} s"
                self._close(number, Close(number, grpc.StatusCode.DEADLINE_EXCEEDED.value[0], words))
        if writing:
            self._watch()

    def _send(self, number: int, data: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None or stream.ending is not None:
            return
        if len(data) > self._largest_bytes:
            words = (
                f"a response of {len(data) / MIB:.1f} MiB is larger than the {self._largest_bytes / MIB:g} "
                "MiB that one may have; give this host fewer tenants, or split the site"
            )
            log.error("stream %d: %s", number, words)
            self._close(number, Close(number, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], words))
            return
        if stream.frame is not None:
            raise RuntimeError(f"stream {number}: a second frame before Writable")
        stream.frame = data
        stream.wake.set()

    def _close(self, number: int, ending: Close) -> None:
        stream = self._streams.get(number)
        if stream is None or stream.ending is not None:
            return
        stream.ending = ending
        stream.reader.cancel()

    def _deny(self, number: int, words: str) -> None:
        self._close(number, Close(number, grpc.StatusCode.PERMISSION_DENIED.value[0], words))

    async def _abort(self, context: Any, ending: Close) -> None:
        """Send the status; a peer that takes nothing does not hold us."""
        try:
            async with asyncio.timeout(1.0):
                await context.abort(_STATUS[ending.status], ending.text)
        except TimeoutError:
            log.info("a stalled peer (%s) did not take its status: %s", context.peer(), ending.text)

    def _feed(self, event: Event) -> None:
        self.carry_out(self._core.handle(event))

    def _wake(self, at: float) -> None:
        if self._timer is not None and self._timer_at <= at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        delay = max(0.0, at - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self._feed(Tick(self._clock()))
