"""The gRPC health call as bytes: what a real server says is in test_prober; here, every way it may arrive."""

from __future__ import annotations

import struct

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_agent.node.probing import Check, Target
from xds_agent.node.probing.grpc_health import request, verdict

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 4, 8, 0x20


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def message(status: int) -> bytes:
    body = bytes((8, status)) if status else b""
    return struct.pack("!BI", 0, len(body)) + body


def answer(status: int = 1, code: str = "0", *, how: str = "plain", words: str = "") -> bytes:
    encoder = hpack.Encoder()
    head = encoder.encode([(":status", "200"), ("content-type", "application/grpc")])
    tail = encoder.encode([("grpc-status", code), ("grpc-message", words)])
    frames = [frame(SETTINGS, 0, 0, b"\x00\x03\x00\x00\x00\x64"), frame(SETTINGS, 1, 0, b"")]
    if how == "plain":
        frames += [frame(HEADERS, END_HEADERS, 1, head), frame(DATA, 0, 1, message(status))]
    else:
        padded = b"\x04" + bytes(5) + head + bytes(4)
        frames += [
            frame(PING, 0, 0, bytes(8)), frame(HEADERS, PADDED | PRIORITY | END_HEADERS, 1, padded),
            frame(DATA, PADDED, 1, b"\x02" + message(status)[:3] + bytes(2)),
            frame(8, 0, 0, b"\x00\x00\xff\xff"), frame(DATA, 0, 1, message(status)[3:]),
        ]  # fmt: skip
    if how == "plain":
        frames.append(frame(HEADERS, END_HEADERS | END_STREAM, 1, tail))
    else:
        frames += [frame(HEADERS, END_STREAM, 1, tail[:2]), frame(CONTINUATION, END_HEADERS, 1, tail[2:])]
    return b"".join([*frames, frame(GOAWAY, 0, 0, bytes(8))])


@pytest.mark.parametrize("how", ["plain", "padded, in pieces"])
@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (1, "0", ""),
        (2, "0", "says NOT_SERVING"),
        (0, "0", "says UNKNOWN"),
        (9, "0", "says 9"),
        (1, "5", "NOT_FOUND: no such thing"),
        (1, "99", "status 99: no such thing"),
        (1, "²", "status ²: no such thing"),
    ],
)
def test_the_whole_answer_is_waited_for_and_judged(how: str, status: int, code: str, words: str) -> None:
    whole = answer(status, code, how=how, words="no%20such thing")
    ends = len(whole) - 9 - 8
    assert verdict(whole) == verdict(whole[:ends]) == words
    assert all(verdict(whole[:length]) is None for length in range(ends))


def test_an_error_may_come_without_a_message() -> None:
    block = hpack.Encoder().encode([(":status", "200"), ("grpc-status", "12"), ("grpc-message", "")])
    only = frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_HEADERS | END_STREAM, 1, block)
    assert verdict(only) == "UNIMPLEMENTED: "
    block = hpack.Encoder().encode([(":status", "404")])
    assert verdict(frame(SETTINGS, 0, 0, b"") + frame(HEADERS, 5, 1, block)) == "answered 404"
    assert verdict(frame(SETTINGS, 0, 0, b"") + frame(RST_STREAM, 0, 1, bytes(4))) == "it reset the call"


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"\x15\x03\x01\x00\x02\x02"]
)
def test_what_speaks_another_protocol_is_told(said: bytes) -> None:
    assert verdict(said) == "it speaks no HTTP/2"


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_no_bytes_break_it_and_none_of_them_is_well(payload: bytes, rest: bytes) -> None:
    for said in (rest, frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_HEADERS | PADDED, 1, payload) + rest):
        assert verdict(said) != ""


def test_the_call_names_the_service_and_ends() -> None:
    sent = request(Target("2001:db8::1", 50051, Check("grpc", grpc_service="shop")))
    assert sent.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") and sent.endswith(
        b"\x00\x00\x00\x00\x06\x0a\x04shop"
    )
    at = 24 + 9
    length = int.from_bytes(sent[at : at + 3], "big")
    fields = dict(hpack.Decoder().decode(sent[at + 9 : at + 9 + length]))
    assert fields[":authority"] == "[2001:db8::1]" and fields[":path"] == "/grpc.health.v1.Health/Check"
