"""Echo requests (ping), over a ping socket where the kernel lets this group, else a raw one.

One socket per family for all targets; an answer is known by its address, its number and eight bytes that no
one else can guess.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from dataclasses import dataclass, field

from xds_agent.node.probing.outcome import Answered, Failed, Outcome, Unable
from xds_agent.node.probing.targets import Target

_HEADER = struct.Struct("!BBHHH")
# family -> (protocol, type of a request, of an answer, of "cannot be reached")
_TYPES = {
    socket.AF_INET: (socket.IPPROTO_ICMP, 8, 0),
    socket.AF_INET6: (socket.IPPROTO_ICMPV6, 128, 129),
}
_SECRET_BYTES = 8
_PACKET_BYTES = 2048
_NOT_ALLOWED = "this host may not ping: its group is not in net.ipv4.ping_group_range, nor has it CAP_NET_RAW"


@dataclass
class _Open:
    socket: socket.socket
    raw: bool
    loop: asyncio.AbstractEventLoop
    waiting: dict[tuple[str, int, bytes], asyncio.Future[float]] = field(default_factory=dict)


class Pinger:
    """Opens its sockets when first needed; `close` them."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self._sequence = 0

    async def icmp(self, target: Target) -> Outcome:
        """One echo request."""
        family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
        try:
            opened = self._opened(family)
        except PermissionError:
            return Unable(_NOT_ALLOWED)
        self._sequence = (self._sequence + 1) & 0xFFFF
        secret = os.urandom(_SECRET_BYTES)
        key = (target.address, self._sequence, secret)
        answered: asyncio.Future[float] = opened.loop.create_future()
        opened.waiting[key] = answered
        started = time.perf_counter()
        try:
            opened.socket.sendto(_echo(family, self._sequence, secret), (target.address, 0))
            return Answered((await answered - started) * 1000.0)
        except ConnectionRefusedError:
            return Failed("cannot be reached", firm=True)
        finally:
            del opened.waiting[key]

    def close(self) -> None:
        """No more answers are heard."""
        for opened in self._open.values():
            opened.loop.remove_reader(opened.socket)
            opened.socket.close()
        self._open.clear()

    def _opened(self, family: int) -> _Open:
        known = self._open.get(family)
        if known is not None:
            return known
        protocol = _TYPES[socket.AddressFamily(family)][0]
        flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        raw = False
        try:
            made = socket.socket(family, socket.SOCK_DGRAM | flags, protocol)
        except PermissionError:
            made, raw = socket.socket(family, socket.SOCK_RAW | flags, protocol), True
        opened = _Open(made, raw, asyncio.get_running_loop())
        opened.loop.add_reader(made, self._hear, opened, family)
        self._open[family] = opened
        return opened

    def _hear(self, opened: _Open, family: int) -> None:
        at = time.perf_counter()
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                packet, source = opened.socket.recvfrom(_PACKET_BYTES)
                if opened.raw and family == socket.AF_INET and packet:
                    # A raw IPv4 socket shows the IP header too.
                    packet = packet[(packet[0] & 0x0F) * 4 :]
                key = _answer(packet, _TYPES[socket.AddressFamily(family)][2], source[0])
                waiting = opened.waiting.get(key) if key is not None else None
                if waiting is not None and not waiting.done():
                    waiting.set_result(at)


def _echo(family: int, sequence: int, secret: bytes) -> bytes:
    """For a ping socket the kernel sets identifier and checksum; a raw one needs ours over IPv4."""
    kind = _TYPES[socket.AddressFamily(family)][1]
    identifier = os.getpid() & 0xFFFF
    packet = _HEADER.pack(kind, 0, 0, identifier, sequence) + secret
    return _HEADER.pack(kind, 0, _checksum(packet), identifier, sequence) + secret


def _answer(packet: bytes, kind: int, source: str) -> tuple[str, int, bytes] | None:
    if len(packet) != _HEADER.size + _SECRET_BYTES:
        return None
    found, _code, _sum, _identifier, sequence = _HEADER.unpack_from(packet)
    return (source, sequence, packet[_HEADER.size :]) if found == kind else None


def _checksum(packet: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
