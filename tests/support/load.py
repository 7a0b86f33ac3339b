"""Steady load through an edge: HTTP/1.1, HTTP/2, gRPC streams and TCP, on loopback; every loss has words.

Lost is a request that failed and a connection that ended, however politely ("connection: close", GOAWAY):
whoever changes a configuration only in ways that close nothing has no excuse for either.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import grpc
import h2.config
import h2.connection
import h2.events
import h2.exceptions

from tests.support.echoes import ECHO_METHOD

# What a worker that met a refusal waits before it tries again: a dead edge must not make a hot loop.
_AFTER_LOSS_S = 0.02
# A machine may be slow; a request that hangs is found out all the same.
_ANSWER_WITHIN_S = 60.0
_READ_BYTES = 65536
# Limits for a proxy under load, whose clients may stand still for as long as a request may take.
PATIENT = {"handshake_timeout": "60s", "headers_timeout": "60s"}


class Failed(Exception):
    """A request was not answered as it should have been."""


@dataclass
class Tally:
    """What became of the load."""

    answered: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    words: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return self.answered.total() + self.lost.total()

    def lose(self, kind: str, words: str) -> None:
        self.lost[kind] += 1
        if len(self.words) < 50:
            self.words.append(f"{kind}: {words}")


@dataclass(frozen=True)
class Doors:
    """Where each kind of load knocks. Without `ca` HTTP goes in the clear, to `http` by host."""

    http: int
    http_host: str
    grpc: int = 0
    grpc_host: str = ""
    tcp: int = 0
    ca: bytes = b""
    address: str = "127.0.0.1"

    def tls(self, *alpn: str) -> ssl.SSLContext | None:
        if not self.ca:
            return None
        context = ssl.create_default_context(cadata=self.ca.decode())
        context.set_alpn_protocols(list(alpn))
        return context


class Load:
    """Runs workers until `stop`, which lets each finish what it has begun."""

    def __init__(self, doors: Doors) -> None:
        self.doors = doors
        self.tally = Tally()
        self._pause_s = 0.0
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(
        self, *, keep_alive: int = 0, fresh: int = 0, http2: int = 0, streams: int = 0, tcp: int = 0,
        held: int = 0, pause_s: float = 0.0,
    ) -> None:  # fmt: skip
        """So many workers of each kind, once; `held` are gRPC streams and TCP connections, half of each, that
        stay open to the end. `pause_s` is between two requests of a worker."""
        self._pause_s = pause_s
        kinds: list[tuple[int, Callable[[], Awaitable[None]], str]] = [
            (keep_alive, self._keep_alive, "http1"),
            (fresh, self._fresh, "fresh"),
            (http2, self._http2, "http2"),
            (streams, self._stream, "grpc"),
            (tcp, self._tcp, "tcp"),
            (held // 2, self._held_stream, "held-grpc"),
            (held - held // 2, self._held_tcp, "held-tcp"),
        ]
        for count, work, kind in kinds:
            for _ in range(count):
                self._tasks.append(asyncio.create_task(self._worker(kind, work), name=kind))

    async def warm(self, patience_s: float = 20.0) -> None:
        """Until every worker's kind has been answered."""
        kinds = {task.get_name() for task in self._tasks}
        async with asyncio.timeout(patience_s):
            while not kinds <= self.tally.answered.keys():
                assert not self.tally.lost, self.tally.words
                await asyncio.sleep(0.01)

    async def stop(self) -> Tally:
        self._stopping.set()
        await asyncio.gather(*self._tasks)
        return self.tally

    # --- workers

    async def _worker(self, kind: str, work: Callable[[], Awaitable[None]]) -> None:
        """`work` goes on until it is told to stop, or fails, and is then begun anew."""
        while not self._stopping.is_set():
            try:
                await work()
            except TimeoutError:
                self.tally.lose(kind, f"no answer within {_ANSWER_WITHIN_S:g} s")
            except (OSError, EOFError, Failed, h2.exceptions.ProtocolError) as error:
                self.tally.lose(kind, f"{type(error).__name__}: {error}")
            except grpc.aio.AioRpcError as error:
                self.tally.lose(kind, f"{error.code().name}: {error.details()}")
            else:
                continue
            await asyncio.sleep(_AFTER_LOSS_S)

    async def _go_on(self, kind: str, pause_s: float | None = None) -> bool:
        """Count an answer, and pause; False when it is time to stop."""
        self.tally.answered[kind] += 1
        pause_s = self._pause_s if pause_s is None else pause_s
        if pause_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
        return not self._stopping.is_set()

    async def _open(
        self, port: int, host: str, *alpn: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = self.doors.tls(*alpn)
        return await asyncio.wait_for(
            asyncio.open_connection(self.doors.address, port, ssl=tls, server_hostname=host if tls else None),
            _ANSWER_WITHIN_S,
        )

    async def _keep_alive(self) -> None:
        reader, writer = await self._open(self.doors.http, self.doors.http_host, "http/1.1")
        try:
            while True:
                await self._get(reader, writer)
                if not await self._go_on("http1"):
                    return
        finally:
            writer.close()

    async def _fresh(self) -> None:
        """A new connection for each request: handshakes see what listeners and certificates go through."""
        reader, writer = await self._open(self.doors.http, self.doors.http_host, "http/1.1")
        try:
            await self._get(reader, writer)
        finally:
            writer.close()
        await self._go_on("fresh", 0.01)

    async def _get(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\nhost: %s\r\n\r\n" % self.doors.http_host.encode())
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            _, _, rest = head.partition(b"content-length:")
            body = await reader.readexactly(int(rest.split(b"\r\n")[0] or 0))
        if head.split()[1] != b"200":
            raise Failed(f"{head.split()[1].decode()} {body.decode(errors='replace')}")
        if b"connection: close" in head:
            raise Failed("the edge closes the connection")

    async def _http2(self) -> None:
        reader, writer = await self._open(self.doors.http, self.doors.http_host, "h2")
        try:
            client = _Http2(reader, writer, self.doors)
            while True:
                async with asyncio.timeout(_ANSWER_WITHIN_S):
                    for _ in range(await client.batch()):
                        self.tally.answered["http2"] += 1
                self.tally.answered["http2"] -= 1
                if not await self._go_on("http2"):
                    return
        finally:
            writer.close()

    async def _stream(self) -> None:
        """Streams of ten messages, one after the other on one connection."""
        async with self._channel() as channel:
            while True:
                call = channel.stream_stream(ECHO_METHOD)()
                for number in range(10):
                    await self._message(call, b"%d" % number)
                    going_on = await self._go_on("grpc")
                await call.done_writing()
                if await call.read() is not grpc.aio.EOF or await call.code() is not grpc.StatusCode.OK:
                    raise Failed(f"the stream ended with {await call.code()}")
                if not going_on:
                    return

    async def _held_stream(self) -> None:
        async with self._channel() as channel:
            call = channel.stream_stream(ECHO_METHOD)()
            while True:
                await self._message(call, b"held")
                if not await self._go_on("held-grpc", 0.5):
                    call.cancel()
                    return

    def _channel(self) -> grpc.aio.Channel:
        where, name = f"{self.doors.address}:{self.doors.grpc}", self.doors.grpc_host
        # A pool that is shared would make one connection of all streams.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.default_authority", name)]
        if not self.doors.ca:
            return grpc.aio.insecure_channel(where, options=options)
        options.append(("grpc.ssl_target_name_override", name))
        return grpc.aio.secure_channel(where, grpc.ssl_channel_credentials(self.doors.ca), options=options)

    async def _message(self, call: grpc.aio.StreamStreamCall, data: bytes) -> None:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            try:
                await call.write(data)
                back = await call.read()
            except asyncio.InvalidStateError:
                back = grpc.aio.EOF
            if back is grpc.aio.EOF:
                raise Failed(f"the stream ended: {await call.code()} {await call.details()}")
        if back != data:
            raise Failed(f"{data!r} came back as {back!r}")

    async def _tcp(self) -> None:
        """Connections of ten echoes."""
        reader, writer = await asyncio.open_connection(self.doors.address, self.doors.tcp)
        try:
            for number in range(10):
                await self._echo(reader, writer, b"%d\n" % number)
                if not await self._go_on("tcp"):
                    return
        finally:
            writer.close()

    async def _held_tcp(self) -> None:
        reader, writer = await asyncio.open_connection(self.doors.address, self.doors.tcp)
        try:
            while True:
                await self._echo(reader, writer, b"held\n")
                if not await self._go_on("held-tcp", 0.5):
                    return
        finally:
            writer.close()

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            back = await reader.readexactly(len(data))
        if back != data:
            raise Failed(f"{data!r} came back as {back!r}")


class _Http2:
    """One HTTP/2 connection on which batches of requests are in flight together."""

    SIZE = 5

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doors: Doors) -> None:
        self._reader, self._writer = reader, writer
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._headers = [
            (":method", "GET"), (":path", "/"), (":authority", doors.http_host),
            (":scheme", "https" if doors.ca else "http"),
        ]  # fmt: skip
        self._h2.initiate_connection()
        self._statuses: dict[int, str] = {}

    async def batch(self) -> int:
        """So many requests at once, all answered 200. Raises Failed, OSError, EOFError."""
        waiting = set()
        for _ in range(self.SIZE):
            number = self._h2.get_next_available_stream_id()
            self._h2.send_headers(number, self._headers, end_stream=True)
            waiting.add(number)
        while waiting:
            self._writer.write(self._h2.data_to_send())
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise EOFError("the edge closed the connection")
            for event in self._h2.receive_data(data):
                self._take(event, waiting)
        return self.SIZE

    def _take(self, event: h2.events.Event, waiting: set[int]) -> None:
        match event:
            case h2.events.ResponseReceived(headers=headers):
                self._statuses[event.stream_id] = str(dict(headers)[":status"])
            case h2.events.DataReceived():
                if self._statuses[event.stream_id] != "200":
                    raise Failed(f"{self._statuses[event.stream_id]} {event.data.decode(errors='replace')}")
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded(stream_id=number):
                if (status := self._statuses.pop(number)) != "200":
                    raise Failed(status)
                waiting.discard(number)
            case h2.events.StreamReset(error_code=code):
                raise Failed(f"the stream was reset ({code})")
            case h2.events.ConnectionTerminated(error_code=code):
                raise Failed(f"the edge closes the connection (GOAWAY {code})")
