"""A thousand node-agent streams on one core: mTLS, and just enough HTTP/2 to speak delta ADS on each.

A stream says first what an agent without a revision says, acknowledges whatever comes, and notes when it did.
For benchmarks only: it trusts its server, reads no headers, and takes any stream error for the end.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from envoy.service.discovery.v3 import discovery_pb2

from tests.support.site_pki import SitePki
from xds_agent.protocol.assembly import Assembly
from xds_agent.snapshot.resource import EMPTY

_PATH = b"/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_ACK, _END_HEADERS = 1, 4
_BIG_WINDOW = 1 << 30
_HEADER_BYTES = 9


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


# HPACK: POST, https, then literals by index or name.
_REQUEST = (
    b"\x83\x87\x04" + bytes([len(_PATH)]) + _PATH + b"\x01\x08control1"
    + _literal(b"content-type", b"application/grpc") + _literal(b"te", b"trailers")
)  # fmt: skip
_OPENING = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + _frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, _BIG_WINDOW))
    + _frame(_WINDOW, 0, 0, struct.pack(">I", _BIG_WINDOW))
    + _frame(_HEADERS, _END_HEADERS, 1, _REQUEST)
)


def _message(data: bytes) -> bytes:
    return _frame(_DATA, 0, 1, b"\0" + struct.pack(">I", len(data)) + data)


@dataclass
class Round:
    """One change on its way to all streams: `answered` is set when the last has acknowledged `type_url`."""

    type_url: str
    waiting: int
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = 0.0
    ended: float = 0.0

    def arrived(self) -> None:
        self.began = self.began or time.monotonic()
        self.waiting -= 1
        if self.waiting == 0:
            self.ended = time.monotonic()
            self.answered.set()


class Fleet:
    """`names` are the hosts; `last_type` is what the server sends last of a change."""

    def __init__(self, pki: SitePki, names: Sequence[str], last_type: str, *, tls: bool = True) -> None:
        self._pki, self._names, self._last_type, self._tls = pki, names, last_type, tls
        self._streams: list[_Stream] = []
        self.failure = ""
        self.round = Round(last_type, 0)

    async def connect(self, port: int, host: str = "127.0.0.1") -> None:
        """All streams open, and each has acknowledged its first set."""
        loop = asyncio.get_running_loop()
        self.begin()
        for name in self._names:
            tls = {"ssl": self._context(name), "server_hostname": "control1"} if self._tls else {}
            _, stream = await loop.create_connection(lambda name=name: _Stream(self, name), host, port, **tls)
            self._streams.append(stream)
        await self.all_answered()

    def begin(self) -> Round:
        """From now on answers count for a new round."""
        self.round = Round(self._last_type, len(self._names))
        return self.round

    async def all_answered(self, patience_s: float = 120.0) -> None:
        async with asyncio.timeout(patience_s):
            await self.round.answered.wait()
        if self.failure:
            raise RuntimeError(self.failure)

    def close(self) -> None:
        for stream in self._streams:
            stream.transport.abort()

    def failed(self, words: str) -> None:
        self.failure = self.failure or words
        self.round.answered.set()

    def _context(self, name: str) -> ssl.SSLContext:
        files = self._pki.host(name)
        context = ssl.create_default_context(cafile=str(files.ca))
        context.check_hostname = False
        context.load_cert_chain(files.certificate, files.key)
        context.set_alpn_protocols(["h2"])
        return context


class _Stream(asyncio.Protocol):
    def __init__(self, fleet: Fleet, name: str) -> None:
        self._fleet, self._name = fleet, name
        self._wire, self._messages = b"", b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one in all but name.
        self.transport = cast(asyncio.Transport, transport)
        first = Assembly(EMPTY, self._name).open()
        self.transport.write(_OPENING + b"".join(_message(data) for data in first))

    def data_received(self, data: bytes) -> None:
        wire, at, out = self._wire + data, 0, []
        while len(wire) - at >= _HEADER_BYTES:
            size = int.from_bytes(wire[at : at + 3], "big")
            if len(wire) - at - _HEADER_BYTES < size:
                break
            kind, flags = wire[at + 3], wire[at + 4]
            payload = wire[at + _HEADER_BYTES : at + _HEADER_BYTES + size]
            at += _HEADER_BYTES + size
            if kind == _DATA:
                out += self._answers(payload)
            elif kind == _SETTINGS and not flags & _ACK:
                out.append(_frame(_SETTINGS, _ACK, 0))
            elif kind == _PING and not flags & _ACK:
                out.append(_frame(_PING, _ACK, 0, payload))
            elif kind in (_RESET, _GOAWAY):
                self._fleet.failed(f"{self._name}: the server ended the stream: {payload!r}")
        self._wire = wire[at:]
        if out:
            self.transport.write(b"".join(out))

    def _answers(self, payload: bytes) -> list[bytes]:
        self._messages += payload
        out = []
        while len(self._messages) >= 5:
            size = int.from_bytes(self._messages[1:5], "big")
            if len(self._messages) < 5 + size:
                break
            response = discovery_pb2.DeltaDiscoveryResponse.FromString(self._messages[5 : 5 + size])
            self._messages = self._messages[5 + size :]
            answer = discovery_pb2.DeltaDiscoveryRequest(
                type_url=response.type_url, response_nonce=response.nonce
            )
            out.append(_message(answer.SerializeToString()))
            if response.type_url == self._fleet.round.type_url:
                self._fleet.round.arrived()
        return out

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self._fleet.failed(f"{self._name}: {error}")
