"""The gRPC health protocol (grpc.health.v1), on a channel of its own for every probe."""

from __future__ import annotations

import time

import grpc

from xds_agent.node.probing.dialing import Dialer
from xds_agent.node.probing.outcome import Answered, Failed, Outcome
from xds_agent.node.probing.targets import Target

_METHOD = "/grpc.health.v1.Health/Check"
_SERVING = 1
_STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_SILENT = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


async def grpc_health(dialer: Dialer, target: Target) -> Outcome:
    """The round trip is that of a TCP connection opened before: gRPC shows none of its own."""
    started = time.monotonic()
    opened = await dialer.ask(target)
    if not isinstance(opened, Answered):
        return opened
    left_s = max(0.001, target.timeout_s - (time.monotonic() - started))
    where = f"[{target.address}]" if ":" in target.address else target.address
    options: list[tuple[str, int | str]] = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
    ]
    if target.check.host:
        options.append(("grpc.default_authority", target.check.host))
    async with grpc.aio.insecure_channel(
        f"ipv{6 if ':' in where else 4}:{where}:{target.port}", options
    ) as channel:
        ask = channel.unary_unary(_METHOD)
        try:
            answer = await ask(_request(target.check.grpc_service), timeout=left_s)
        except grpc.aio.AioRpcError as error:
            words = f"{error.code().name}: {error.details()}"
            return Failed(words, firm=error.code() not in _SILENT, rtt_ms=opened.rtt_ms)
    status = _status(answer)
    if status == _SERVING:
        return opened
    return Failed(f"says {_STATUS.get(status, status)}", firm=True, rtt_ms=opened.rtt_ms)


def _request(service: str) -> bytes:
    """HealthCheckRequest {string service = 1}; a name has fewer than 128 bytes or two of length."""
    name = service.encode()
    if not name:
        return b""
    length = bytes((len(name),)) if len(name) < 128 else bytes((len(name) & 127 | 128, len(name) >> 7))
    return b"\x0a" + length + name


def _status(answer: bytes) -> int:
    """HealthCheckResponse {ServingStatus status = 1}; absent is UNKNOWN."""
    return answer[1] if len(answer) >= 2 and answer[0] == 0x08 else 0
