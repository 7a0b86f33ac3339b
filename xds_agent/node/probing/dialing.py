"""Probes over a TCP connection: it opens (`tcp`), or a server on it answers as it should (`http`, `grpc`).

The round trip is the kernel's own (TCP_INFO): between SYN and SYN-ACK, whatever this process was doing. All
connections wait in one epoll of the dialer's own, with neither a task nor a timer each: with those, a probe
costs three times as much.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import heapq
import os
import re
import select
import socket
import struct
import time
from collections.abc import Callable
from functools import lru_cache

import h11

from xds_agent.node.probing import grpc_health
from xds_agent.node.probing.outcome import Answered, Failed, Outcome, Unable, of_error, silence
from xds_agent.node.probing.targets import Kind, Target

Done = Callable[[Outcome], None]

_HEAD_BYTES = 16_384
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)(?: [^\r\n]*)?\r?\n")
_SWITCHING = 101
# struct tcp_info: eight bytes, then words of four; the sixteenth is tcpi_rtt in microseconds.
_RTT_AT = 8 + 15 * 4
_RTT = struct.Struct("@I")
_RESET = struct.pack("ii", 1, 0)


class _Call:
    """One connection on its way."""

    __slots__ = ("done", "head", "rest", "rtt_ms", "socket", "target")

    def __init__(self, target: Target, done: Done, made: socket.socket) -> None:
        self.target, self.done, self.socket = target, done, made
        self.rtt_ms: float | None = None
        # What is still to be sent, and what has been received; None before it is connected.
        self.rest: bytes | None = None
        self.head = b""


class Dialer:
    """For one event loop. Opens its epoll when first needed; `close` it."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: dict[int, _Call] = {}
        # (deadline, number of the entry, call): those that have ended stay until their time is over.
        self._deadlines: list[tuple[float, int, _Call]] = []
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None

    def dial(self, target: Target, done: Done) -> None:
        """Once, now; `done` is called exactly once, unless the dialer is closed before."""
        family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
        try:
            made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            done(of_error(error))
            return
        call = _Call(target, done, made)
        try:
            # Closed with a reset: no probe leaves a socket in TIME_WAIT, here or there.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            problem = made.connect_ex((target.address, target.port))
            if problem not in (0, errno.EINPROGRESS):
                raise OSError(problem, os.strerror(problem))
            self._waiting().register(made.fileno(), select.EPOLLOUT)
        except OSError as error:
            made.close()
            done(of_error(error))
            return
        self._calls[made.fileno()] = call
        self._number += 1
        heapq.heappush(self._deadlines, (time.monotonic() + target.timeout_s, self._number, call))
        if self._timer is None or self._deadlines[0][2] is call:
            self._arm()

    async def ask(self, target: Target) -> Outcome:
        """Once, now."""
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.dial(target, lambda outcome: None if answered.done() else answered.set_result(outcome))
        return await answered

    def close(self) -> None:
        """Nothing more is heard of what is on its way."""
        for call in self._calls.values():
            call.socket.close()
        self._calls.clear()
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._loop = None

    def _waiting(self) -> select.epoll:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._epoll = select.epoll()
            self._loop.add_reader(self._epoll.fileno(), self._hear)
        return self._epoll

    def _hear(self) -> None:
        for number, _ in self._epoll.poll(0):
            call = self._calls.get(number)
            if call is None:
                continue
            try:
                outcome = self._advance(call)
            except OSError as error:
                outcome = of_error(error, call.rtt_ms)
            except Exception as error:
                # A call that stayed registered would be heard of again at once, for ever.
                outcome = Unable(f"this probe broke off: {error!r}")
            if outcome is not None:
                self._end(call, outcome)

    def _advance(self, call: _Call) -> Outcome | None:
        """None: something is still to come."""
        if call.rest is None:
            problem = call.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if problem:
                raise OSError(problem, os.strerror(problem))
            call.rtt_ms = rtt_ms(call.socket)
            if call.target.check.kind == "tcp":
                return Answered(call.rtt_ms)
            try:
                call.rest = _SPOKEN[call.target.check.kind](call.target)
            except (h11.LocalProtocolError, UnicodeError) as error:
                return Unable(f"this cannot be asked for: {error}")
        if call.rest:
            with contextlib.suppress(BlockingIOError):
                call.rest = call.rest[call.socket.send(call.rest) :]
            if not call.rest:
                self._epoll.modify(call.socket.fileno(), select.EPOLLIN)
            return None
        received = call.socket.recv(_HEAD_BYTES)
        call.head += received
        words = _verdict(call)
        if words is not None:
            return Failed(words, firm=True, rtt_ms=call.rtt_ms) if words else Answered(call.rtt_ms)
        if received and len(call.head) < _HEAD_BYTES:
            return None
        return Failed("closed without an answer", firm=True, rtt_ms=call.rtt_ms)

    def _end(self, call: _Call, outcome: Outcome) -> None:
        del self._calls[call.socket.fileno()]
        # Closing takes it out of the epoll too.
        call.socket.close()
        call.done(outcome)

    def _arm(self) -> None:
        """A timer for the first deadline of those that have not ended."""
        while self._deadlines and self._deadlines[0][2].socket.fileno() < 0:
            heapq.heappop(self._deadlines)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._deadlines and self._loop is not None:
            left_s = self._deadlines[0][0] - time.monotonic()
            self._timer = self._loop.call_later(max(0.0, left_s), self._expire)

    def _expire(self) -> None:
        now_s = time.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now_s:
            _, _, call = heapq.heappop(self._deadlines)
            if call.socket.fileno() >= 0:
                self._end(call, silence(call.target.timeout_s, call.rtt_ms))
        self._timer = None
        self._arm()


def rtt_ms(connection: socket.socket) -> float | None:
    """What the kernel measured while connecting; None when it has nothing (a SYN that was sent twice)."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_AT + _RTT.size)
    (microseconds,) = _RTT.unpack_from(info, _RTT_AT)
    return microseconds / 1000.0 or None


def status_of(head: bytes) -> int | None:
    """Status of the first answer that is not informational; 0 for what is no HTTP, None while it is short."""
    while True:
        line_end = head.find(b"\n")
        if line_end < 0:
            return None
        found = _STATUS.fullmatch(head, 0, line_end + 1)
        if found is None:
            return 0
        status = int(found[1])
        if status >= 200 or status == _SWITCHING:
            return status
        end = head.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = head[end + 4 :]


def _verdict(call: _Call) -> str | None:
    """Empty when all is well, else why not; None while too little has come."""
    check = call.target.check
    if check.kind == "grpc":
        return grpc_health.verdict(call.head)
    status = status_of(call.head)
    if status is None or status in check.statuses:
        return None if status is None else ""
    return f"answered {status}" if status else "closed without an answer"


@lru_cache(maxsize=8192)
def _get(target: Target) -> bytes:
    """GET over HTTP/1.1 on a connection of its own."""
    host = target.check.host or (f"[{target.address}]" if ":" in target.address else target.address)
    headers = [("Host", host), ("User-Agent", "marchproxy-probe"), ("Connection", "close")]
    parser = h11.Connection(our_role=h11.CLIENT)
    request = parser.send(h11.Request(method="GET", target=target.check.path, headers=headers))
    return (request or b"") + (parser.send(h11.EndOfMessage()) or b"")


_SPOKEN: dict[Kind, Callable[[Target], bytes]] = {"http": _get, "grpc": grpc_health.request}
