"""Every kind of probe against real sockets: well, not well, silent, not allowed."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from tests.support.ports import free_port
from xds_agent.node.probing import (
    Answered,
    Check,
    Failed,
    OverBudget,
    Prober,
    Result,
    Target,
    Unable,
    dialing,
)
from xds_agent.node.probing.dialing import status_of

ROOT = Path(__file__).parents[3]
HERE = "127.0.0.1"
PATIENCE_S = 30.0


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    """A server that reads a request and says `answer`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await reader.readuntil(b"\r\n\r\n")
            assert asked.startswith(b"GET /healthz HTTP/1.1\r\nHost: shop.internal\r\n")
            writer.write(answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, HERE, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def health_server(answer: bytes | grpc.StatusCode) -> AsyncIterator[int]:
    async def check(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        assert request == b"\x0a\x04shop"
        if isinstance(answer, grpc.StatusCode):
            await context.abort(answer, "no such thing")
        return answer  # type: ignore[return-value]

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method}),)
    )
    port = server.add_insecure_port(f"{HERE}:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@asynccontextmanager
async def datagrams(answers: bool) -> AsyncIterator[int]:
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            if answers:
                self.transport.sendto(data, addr)  # type: ignore[attr-defined]

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=(HERE, 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


HTTP = Check("http", path="/healthz", host="shop.internal", statuses=(200, 204))


def http(port: int) -> Target:
    return Target(HERE, port, HTTP, timeout_s=PATIENCE_S)


async def test_tcp_knows_open_from_closed() -> None:
    with socket.create_server((HERE, 0)) as listener:
        found = await Prober().probe(Target(HERE, listener.getsockname()[1], timeout_s=PATIENCE_S))
    assert isinstance(found, Answered)
    assert found.rtt_ms is not None
    assert 0.0 < found.rtt_ms < 60_000.0
    refused = await Prober().probe(Target(HERE, free_port(), timeout_s=PATIENCE_S))
    assert refused == Failed("connection refused", firm=True)


@pytest.mark.parametrize(
    ("answer", "well", "words"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", True, ""),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", True, ""),
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", False, "answered 503"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", False, "closed without an answer"),
        (b"", False, "closed without an answer"),
    ],
)  # fmt: skip
async def test_http_judges_by_the_status(answer: bytes, well: bool, words: str) -> None:
    async with answering(answer) as port:
        found = await Prober().probe(http(port))
    assert isinstance(found, Answered) is well
    if isinstance(found, Failed):
        assert (found.words, found.firm) == (words, True)
        assert found.rtt_ms is not None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\x08\x01", None),
        (b"\x08\x02", "says NOT_SERVING"),
        (b"", "says UNKNOWN"),
        (grpc.StatusCode.NOT_FOUND, "NOT_FOUND: no such thing"),
    ],
)
async def test_grpc_health_is_asked_by_the_standard_protocol(
    answer: bytes | grpc.StatusCode, words: str | None
) -> None:
    async with health_server(answer) as port:
        check = Check("grpc", grpc_service="shop")
        found = await Prober().probe(Target(HERE, port, check, timeout_s=PATIENCE_S))
    assert isinstance(found, Answered) is (words is None)
    if isinstance(found, Failed):
        assert (found.words, found.firm) == (words, True)


async def test_udp_knows_answer_refusal_and_silence() -> None:
    check = Check("udp", payload=b"well?")
    async with datagrams(answers=True) as port:
        assert isinstance(await Prober().probe(Target(HERE, port, check, timeout_s=PATIENCE_S)), Answered)
    refused = await Prober().probe(Target(HERE, free_port(), check, timeout_s=PATIENCE_S))
    assert refused == Failed("connection refused", firm=True)
    async with datagrams(answers=False) as port:
        silent = await Prober().probe(Target(HERE, port, check, timeout_s=0.05))
    assert silent == Failed("no answer within 50 ms", firm=False)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="ICMP needs root or a ping group")
@pytest.mark.parametrize("address", [HERE, "::1"])
async def test_icmp_hears_its_own_echo(address: str) -> None:
    prober = Prober()
    target = Target(address, 0, Check("icmp"), timeout_s=PATIENCE_S)
    try:
        found = await asyncio.gather(*(prober.probe(target) for _ in range(20)))
    finally:
        prober.close()
    assert all(isinstance(one, Answered) and one.rtt_ms is not None and one.rtt_ms > 0 for one in found)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="gives up its own rights")
def test_a_host_that_may_not_ping_says_so_and_nobody_is_down() -> None:
    script = (
        "import asyncio\n"
        "from xds_agent.node.probing import Check, Prober, Target\n"
        "print(asyncio.run(Prober().probe(Target('127.0.0.1', 0, Check('icmp')))))"
    )
    # An empty network namespace has an empty ping group, and without CAP_NET_RAW there is no raw socket.
    command = [
        "unshare",
        "--net",
        "setpriv",
        "--bounding-set=-all",
        "--inh-caps=-all",
        sys.executable,
        "-c",
        script,
    ]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert said.stdout.startswith("Unable(words='this host may not ping"), said.stdout + said.stderr


async def running(prober: Prober, body: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.create_task(prober.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await body()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_server_that_dies_and_comes_back_is_told() -> None:
    told: asyncio.Queue[tuple[Target, Result]] = asyncio.Queue()
    prober = Prober()
    prober.listen(lambda target, result: told.put_nowait((target, result)))
    port = free_port()
    target = Target(HERE, port, interval_s=0.05, timeout_s=5.0)
    prober.watch("test", [target, Target(HERE, port, interval_s=1.0)])

    async def body() -> None:
        for wanted in (True, False, True):
            if wanted:
                with socket.create_server((HERE, port)):
                    found, result = await told.get()
            else:
                found, result = await told.get()
            assert (found.key, result.healthy) == (target.key, wanted)
        assert prober.result(target).window.count > 0

    await running(prober, body)


async def test_askers_share_probes_and_an_unwanted_target_is_forgotten() -> None:
    with socket.create_server((HERE, 0)) as listener:
        target = Target(HERE, listener.getsockname()[1], interval_s=0.05, timeout_s=5.0)
        prober = Prober(limit_per_s=25.0)
        known = asyncio.Event()
        prober.listen(lambda *_: known.set())
        prober.watch("one", [target])
        prober.watch("other", [target])
        with pytest.raises(OverBudget, match=r"= 40\.0 probes a second"):
            prober.watch("third", [Target(HERE, 9, interval_s=0.05)])

        async def body() -> None:
            await known.wait()

        await running(prober, body)
        prober.watch("one", [])
        assert prober.result(target).healthy is True
        prober.watch("other", [])
        assert prober.result(target).healthy is None


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", None),
        (b"HTTP/1.1 200 O", None),
        (b"HTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.0 404\r\n", 404),
        (b"HTTP/1.1 100 Continue\r\nx: y\r\n", None),
        (b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\nHTTP/1.1 503 No\r\n", 503),
        (b"HTTP/1.1 101 Switching Protocols\r\n", 101),
        (b"HTTP/2.0 200 OK\r\n", 0),
        (b"HTTP/1.1 2000 OK\r\n", 0),
        (b"HTTP/1.1 099 OK\r\n", 0),
        (b"\n", 0),
    ],
)
def test_the_first_line_of_the_final_answer_says_the_status(head: bytes, status: int | None) -> None:
    assert status_of(head) == status


async def test_what_cannot_be_written_as_a_request_says_nothing_of_the_backend() -> None:
    with socket.create_server((HERE, 0)) as listener:
        port = listener.getsockname()[1]
        check = Check("http", path="/ok\r\nx-injected: yes")
        found = await Prober().probe(Target(HERE, port, check, timeout_s=PATIENCE_S))
    assert isinstance(found, Unable)


@pytest.mark.parametrize("error", [None, RuntimeError("a bug")])
async def test_a_call_that_breaks_off_ends_and_spins_no_loop(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stays in the epoll is heard of again at once: that was 18,000 exceptions a second."""
    raised: list[object] = []

    def breaks(target: Target) -> bytes:
        raise error or AssertionError

    if error is not None:
        monkeypatch.setitem(dialing._SPOKEN, "http", breaks)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: raised.append(context))
    prober = Prober()
    try:
        with socket.create_server((HERE, 0)) as listener:
            check = Check("http", path="/gesundheit/größe")
            target = Target(HERE, listener.getsockname()[1], check, timeout_s=PATIENCE_S)
            found = await prober.probe(target)
        assert isinstance(found, Unable)
        assert (prober._dialer._calls, raised) == ({}, [])
    finally:
        prober.close()
        loop.set_exception_handler(None)


def test_probes_that_fail_at_once_start_no_second_chain_of_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one of them frees the last place under way, which asks for a turn by itself."""
    timers: list[SimpleNamespace] = []

    def call_later(wait_s: float, turn: Callable[[], None]) -> SimpleNamespace:
        timer = SimpleNamespace(turn=turn, due=True)
        timer.cancel = lambda: setattr(timer, "due", False)
        timers.append(timer)
        return timer

    now_s = 0.0
    prober = Prober(clock=lambda: now_s, draw=lambda: 0.0)
    refused = Failed("connection refused", firm=True)
    monkeypatch.setattr("xds_agent.node.probing.prober._AT_ONCE", 1)
    monkeypatch.setattr(prober._dialer, "dial", lambda target, done: done(refused))
    monkeypatch.setattr(prober, "_loop", SimpleNamespace(call_later=call_later))
    prober.watch("test", [Target(HERE, port, interval_s=1.0) for port in range(1, 9)])
    for turn in range(1, 6):
        (due,) = [timer for timer in timers if timer.due]
        due.due, now_s = False, float(turn)
        due.turn()
    assert prober.sent > 8
    assert sum(timer.due for timer in timers) == 1


async def test_a_server_that_accepts_and_says_nothing_is_silent() -> None:
    with socket.create_server((HERE, 0)) as listener:
        target = Target(HERE, listener.getsockname()[1], HTTP, timeout_s=0.05)
        prober = Prober()
        found = await asyncio.gather(*(prober.probe(target) for _ in range(3)))
    assert all(isinstance(one, Failed) and not one.firm and one.rtt_ms is not None for one in found)
    assert {one.words for one in found if isinstance(one, Failed)} == {"no answer within 50 ms"}
