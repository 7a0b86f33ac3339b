"""The gRPC health protocol (grpc.health.v1): one call on an HTTP/2 connection of its own, as bytes. Pure.

All of the call is known before; a gRPC library takes milliseconds of CPU for it, ten times what the rest of a
probe costs. What comes back is read frame by frame (RFC 9113), and its header fields by hpack.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

import hpack

from xds_agent.node.probing.targets import Target

_METHOD = "/grpc.health.v1.Health/Check"
_SERVING = 1
_STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_CODES = {
    str(code): name
    for code, name in enumerate(
        (
            "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
            "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
            "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
        )
    )
}  # fmt: skip

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Length (eight bits, then sixteen), type, flags, stream.
_FRAME = struct.Struct("!BHBBI")
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _CONTINUATION = 0, 1, 3, 4, 9
_END_STREAM, _END_HEADERS, _PADDED, _PRIORITY = 0x01, 0x04, 0x08, 0x20
_PRIORITY_BYTES = 5
_STREAM = 1
_PREFIX = struct.Struct("!BI")
_NO_HTTP2 = "it speaks no HTTP/2"


class _Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


@dataclass
class _Answer:
    """What has come of the call."""

    fields: dict[str, str] = field(default_factory=dict)
    block: bytes = b""
    message: bytes = b""
    ends: bool = False
    decoder: hpack.Decoder = field(default_factory=hpack.Decoder)


@lru_cache(maxsize=8192)
def request(target: Target) -> bytes:
    """All that is sent."""
    authority = target.check.host or (f"[{target.address}]" if ":" in target.address else target.address)
    headers = [
        (":method", "POST"), (":scheme", "http"), (":path", _METHOD), (":authority", authority),
        ("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", "marchproxy-probe"),
    ]  # fmt: skip
    asked = _asked(target.check.grpc_service)
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, _STREAM, hpack.Encoder().encode(headers))
        + _frame(_DATA, _END_STREAM, _STREAM, _PREFIX.pack(0, len(asked)) + asked)
    )


def verdict(received: bytes) -> str | None:
    """Empty when the server serves, else why not, in words; None while the answer is not whole."""
    answer = _Answer()
    try:
        for at, frame in enumerate(_frames(received)):
            if at == 0 and frame.kind != _SETTINGS:
                return _NO_HTTP2
            if frame.stream == _STREAM and (words := _taken(answer, frame)) is not None:
                return words
    except (hpack.HPACKError, IndexError, UnicodeDecodeError):
        return _NO_HTTP2
    # What is no frame may look like the beginning of a long one.
    return _NO_HTTP2 if len(received) > 3 and received[3] != _SETTINGS else None


def _taken(answer: _Answer, frame: _Frame) -> str | None:
    """With one more frame; the verdict when it was the last."""
    if frame.kind == _RST_STREAM:
        return "it reset the call"
    if frame.kind == _DATA:
        answer.message += _unpadded(frame)
        answer.ends |= bool(frame.flags & _END_STREAM)
    elif frame.kind in (_HEADERS, _CONTINUATION):
        answer.block += _unpadded(frame) if frame.kind == _HEADERS else frame.payload
        answer.ends |= frame.kind == _HEADERS and bool(frame.flags & _END_STREAM)
        if not frame.flags & _END_HEADERS:
            return None
        answer.fields |= {str(name): str(value) for name, value in answer.decoder.decode(answer.block)}
        answer.block = b""
    return _judged(answer) if answer.ends and not answer.block else None


def _judged(answer: _Answer) -> str:
    status, code = answer.fields.get(":status"), answer.fields.get("grpc-status")
    if status != "200":
        return f"answered {status}"
    if code != "0":
        name = _CODES.get(code or "", f"status {code}")
        return f"{name}: {unquote(answer.fields.get('grpc-message', ''))}"
    said = _said(answer.message[_PREFIX.size :])
    return "" if said == _SERVING else f"says {_STATUS.get(said, said)}"


def _frames(received: bytes) -> Iterator[_Frame]:
    """Those that are whole."""
    at = 0
    while at + _FRAME.size <= len(received):
        high, low, kind, flags, stream = _FRAME.unpack_from(received, at)
        begin = at + _FRAME.size
        at = begin + (high << 16 | low)
        if at > len(received):
            return
        yield _Frame(kind, flags, stream & 0x7FFF_FFFF, received[begin:at])


def _unpadded(frame: _Frame) -> bytes:
    begin, end = 0, len(frame.payload)
    if frame.flags & _PADDED:
        begin, end = 1, end - frame.payload[0]
    if frame.kind == _HEADERS and frame.flags & _PRIORITY:
        begin += _PRIORITY_BYTES
    return frame.payload[begin:end]


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def _asked(service: str) -> bytes:
    """HealthCheckRequest {string service = 1}; a name has fewer than 128 bytes or two of length."""
    name = service.encode()
    if not name:
        return b""
    length = bytes((len(name),)) if len(name) < 128 else bytes((len(name) & 127 | 128, len(name) >> 7))
    return b"\x0a" + length + name


def _said(message: bytes) -> int:
    """HealthCheckResponse {ServingStatus status = 1}; absent is UNKNOWN."""
    return message[1] if len(message) >= 2 and message[0] == 0x08 else 0
