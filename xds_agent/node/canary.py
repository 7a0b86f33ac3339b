"""Asks this host's own Envoy what control wants to know: requests as a client would make them.

HTTP/1.1 over TLS without ALPN, which every listener of the edge takes; gRPC too, since Envoy speaks HTTP/2
with the backend whatever its client spoke. Certificates are not verified: what is asked is what the edge
serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import ssl
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from xds_agent.node.config import Tls
from xds_agent.proto import marchproxy_pb2 as pb

TIMEOUT_S = 5.0
# A tcp connection that Envoy has nothing behind is closed at once; one that lasts this long is kept.
KEPT_S = 0.3
# A handshake that was not refused by then is done: Envoy waits for a request.
LET_IN_S = 1.0
_HEAD_BYTES = 64 * 1024
_WORDS = 120
# An empty gRPC message: not compressed, no bytes.
_EMPTY_MESSAGE = bytes(5)
# What Envoy answers gRPC by itself, as the status it would have given to anybody else.
_GRPC_STATUS = {2: 500, 4: 504, 7: 403, 8: 429, 12: 404, 13: 500, 14: 503, 16: 401}
# Only what came from a backend carries it.
_FROM_BACKEND = "x-envoy-upstream-service-time"
_UNFIT = re.compile(r"[\x00-\x20\x7f]")


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


async def ask_all(requests: Iterable[pb.CanaryRequest], tls: Tls) -> list[pb.CanaryReply]:
    """Every request, at once; never raises for what Envoy makes of them."""
    return await asyncio.gather(*(_ask(request, tls) for request in requests))


async def _ask(request: pb.CanaryRequest, tls: Tls) -> pb.CanaryReply:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            if request.scheme == "tcp":
                return await _connect(request)
            return _reply(request, await _exchange(request, tls))
    except TimeoutError:
        return pb.CanaryReply(failed=f"nothing came within {TIMEOUT_S:g} s")
    except ssl.SSLError as error:
        words = (error.reason or str(error)).lower().replace("_", " ")
        # An alert is Envoy's decision; anything else is a connection that broke.
        return pb.CanaryReply(refused=words) if "alert" in words else pb.CanaryReply(failed=words)
    except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError) as error:
        return pb.CanaryReply(failed=str(error) or type(error).__name__)


async def _connect(request: pb.CanaryRequest) -> pb.CanaryReply:
    """Whether a connection is taken and not closed again before anything was said."""
    reader, writer = await asyncio.open_connection(request.address, request.port)
    try:
        async with asyncio.timeout(KEPT_S):
            if not await reader.read(1):
                return pb.CanaryReply(failed="the connection was closed at once", by_envoy=True)
    except TimeoutError:
        pass
    finally:
        writer.close()
    return pb.CanaryReply(status=200)


async def _exchange(request: pb.CanaryRequest, tls: Tls) -> _Answer:
    head, body = _written(request)
    context = await asyncio.to_thread(_context, tls, request.own_certificate)
    reader, writer = await asyncio.open_connection(
        request.address, request.port, ssl=context, server_hostname=request.host, limit=_HEAD_BYTES
    )
    try:
        if request.handshake_only:
            await _alert(reader)
            return _Answer(200, {}, b"let in")
        writer.write(head + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        said = b""
        if _FROM_BACKEND not in headers and request.method != "HEAD":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEPT_S):
                    said = await reader.read(_WORDS)
        return _Answer(int(lines[0].split(" ", 2)[1]), headers, said)
    finally:
        writer.close()


async def _alert(reader: asyncio.StreamReader) -> None:
    """Wait for the alert that ends a handshake, which in TLS 1.3 comes after the client's side of it is done.

    Who sends something meanwhile meets a broken pipe instead. Raises ssl.SSLError for the alert.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LET_IN_S):
            await reader.read(1)


def _written(request: pb.CanaryRequest) -> tuple[bytes, bytes]:
    """Head and body. Raises ValueError for what would be another request than it seems."""
    grpc = request.scheme == "grpc"
    headers = {
        "host": request.host,
        "user-agent": "marchproxy-canary",
        "connection": "close",
        **request.headers,
    }
    if grpc:
        headers |= {"content-type": "application/grpc", "te": "trailers", "content-length": "5"}
    if _UNFIT.search(request.path) or any("\r" in v or "\n" in v for pair in headers.items() for v in pair):
        raise ValueError("the request has characters that none can have")
    lines = [f"{'POST' if grpc else request.method or 'GET'} {request.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "", "")).encode("latin-1"), _EMPTY_MESSAGE if grpc else b""


def _reply(request: pb.CanaryRequest, answer: _Answer) -> pb.CanaryReply:
    by_envoy = _FROM_BACKEND not in answer.headers
    status = answer.status
    words = " ".join(answer.body.decode("utf-8", "replace").split())
    said = answer.headers.get("grpc-status", "")
    if request.scheme == "grpc" and by_envoy and status == 200 and said.isdigit():
        status = _GRPC_STATUS.get(int(said), 200)
        words = answer.headers.get("grpc-message", "")
    return pb.CanaryReply(status=status, by_envoy=by_envoy, words=words if by_envoy else "")


@functools.lru_cache(maxsize=1)
def _anonymous() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _context(tls: Tls, own_certificate: bool) -> ssl.SSLContext:
    """Made anew with a certificate: it may have been renewed. Raises OSError when it cannot be read."""
    if not own_certificate:
        return _anonymous()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(tls.certificate, tls.key)
    return context
