"""Probes over a TCP connection: it opens (`tcp`), or a web server on it answers as it should (`http`).

The round trip is the kernel's own (TCP_INFO): between SYN and SYN-ACK, whatever this process was doing.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h11

from xds_agent.node.probing.outcome import Answered, Failed, Outcome
from xds_agent.node.probing.targets import Target

_HEAD_BYTES = 16_384
# struct tcp_info: eight bytes, then words of four; the sixteenth is tcpi_rtt in microseconds.
_RTT_AT = 8 + 15 * 4
_RTT = struct.Struct("@I")


async def tcp(target: Target) -> Outcome:
    """Opens a connection and closes it."""
    async with _connected(target) as connection:
        return Answered(rtt_ms(connection))


async def http(target: Target) -> Outcome:
    """GET over HTTP/1.1 on a connection of its own; the status decides."""
    async with _connected(target) as connection:
        rtt = rtt_ms(connection)
        status = await _status(connection, target)
    if status is None:
        return Failed("closed without an answer", firm=True, rtt_ms=rtt)
    if status in target.check.statuses:
        return Answered(rtt)
    return Failed(f"answered {status}", firm=True, rtt_ms=rtt)


def rtt_ms(connection: socket.socket) -> float | None:
    """What the kernel measured while connecting; None when it has nothing (a SYN that was sent twice)."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_AT + _RTT.size)
    (microseconds,) = _RTT.unpack_from(info, _RTT_AT)
    return microseconds / 1000.0 or None


@asynccontextmanager
async def _connected(target: Target) -> AsyncIterator[socket.socket]:
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        # Closed with a reset: no probe leaves a socket in TIME_WAIT, here or there.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.get_running_loop().sock_connect(connection, (target.address, target.port))
        yield connection
    finally:
        connection.close()


async def _status(connection: socket.socket, target: Target) -> int | None:
    loop = asyncio.get_running_loop()
    parser = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
    host = target.check.host or (f"[{target.address}]" if ":" in target.address else target.address)
    headers = [("Host", host), ("User-Agent", "marchproxy-probe"), ("Connection", "close")]
    request = parser.send(h11.Request(method="GET", target=target.check.path, headers=headers))
    assert request is not None
    await loop.sock_sendall(connection, request + (parser.send(h11.EndOfMessage()) or b""))
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Response):
            return event.status_code
        if event is h11.NEED_DATA:
            parser.receive_data(await loop.sock_recv(connection, _HEAD_BYTES))
        elif not isinstance(event, h11.InformationalResponse):
            return None
