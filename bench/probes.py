"""What a probe costs the node agent: CPU time of its process for each, at the budget's pace, over loopback.

Loopback is dear: the kernel does the other end's half of a connection in the time of who connects. `alone_us`
is a connection opened and closed by hand, the process woken for each: probes that are due together share
that. Servers are processes of their own.
"""

from __future__ import annotations

import asyncio
import select
import socket
import subprocess
import sys
import time

import uvloop

from xds_agent.node.probing import PROBES_PER_S, Check, Prober, Target

NAME = "probes"
GOALS = {"percent_of_core": ("<=", 3.0)}

_SECONDS, _QUICK_SECONDS = 10.0, 2.0
_TARGETS = round(PROBES_PER_S * 0.95)
_SERVER = """
import socket
listener = socket.create_server(("0.0.0.0", 0), backlog=512)
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    try:
        if connection.recv(1024):
            connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n")
    except OSError:
        pass
    connection.close()
"""

_GRPC_SERVER = """
import threading
from concurrent import futures
import grpc
server = grpc.server(futures.ThreadPoolExecutor(2))
check = grpc.unary_unary_rpc_method_handler(lambda request, context: bytes((8, 1)))
health = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})
server.add_generic_rpc_handlers((health,))
print(server.add_insecure_port("0.0.0.0:0"), flush=True)
server.start()
threading.Event().wait()
"""


def measure(*, quick: bool = False) -> dict[str, float]:
    """Microseconds a probe, and percent of a core at the budget; --quick takes 2 s each."""
    seconds = _QUICK_SECONDS if quick else _SECONDS
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            tcp_us = uvloop.run(_cost_us([_target(n, port, Check("tcp")) for n in range(_TARGETS)], seconds))
            http_us = uvloop.run(
                _cost_us([_target(n, port, Check("http", path="/healthz")) for n in range(_TARGETS)], seconds)
            )
            alone_us = _alone_us(port)
        finally:
            server.kill()
    with subprocess.Popen([sys.executable, "-c", _GRPC_SERVER], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            grpc_us = uvloop.run(
                _cost_us([_target(n, port, Check("grpc")) for n in range(_TARGETS)], seconds)
            )
        finally:
            server.kill()
    return {
        "tcp_us": tcp_us,
        "http_us": http_us,
        "grpc_us": grpc_us,
        "alone_us": alone_us,
        "percent_of_core": max(tcp_us, http_us) * PROBES_PER_S / 1e4,
        "grpc_percent_of_core": grpc_us * PROBES_PER_S / 1e4,
        "probes_per_s": PROBES_PER_S,
    }


def _target(number: int, port: int, check: Check) -> Target:
    return Target(f"127.0.0.{number + 1}", port, check, interval_s=1.0)


async def _cost_us(targets: list[Target], seconds: float) -> float:
    prober = Prober()
    prober.watch("bench", targets)
    running = asyncio.create_task(prober.run())
    try:
        await asyncio.sleep(1.0)
        sent, cpu_s = prober.sent, time.process_time()
        await asyncio.sleep(seconds)
        return (time.process_time() - cpu_s) / (prober.sent - sent) * 1e6
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _alone_us(port: int, rounds: int = 500) -> float:
    waiting = select.epoll()
    began = time.process_time()
    for _ in range(rounds):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            connection.connect_ex(("127.0.0.1", port))
            waiting.register(connection.fileno(), select.EPOLLOUT)
            waiting.poll(1.0)
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        time.sleep(1.0 / PROBES_PER_S)
    return (time.process_time() - began) / rounds * 1e6
