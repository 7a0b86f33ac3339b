"""The floor under change_to_ack: a bare echo over the same two hops (mTLS, then a Unix socket), three
processes, no protocol. `python -m bench.echo_floor middle|leaf ...` are the two further processes."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import grpc
import uvloop

from tests.support.site_pki import SitePki
from xds_agent.ads.client import Target, open_channel
from xds_agent.ads.credentials import channel_credentials, server_credentials
from xds_agent.ads.server import SERVER_OPTIONS

METHOD = "/floor.Echo/Echo"
# About what one endpoint set weighs.
FRAME = b"x" * 400
_PAUSE_S = 0.003


def _handler(behaviour: object) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        "floor.Echo", {"Echo": grpc.stream_stream_rpc_method_handler(behaviour)}
    )


async def _leaf(socket: str) -> None:
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        call = channel.stream_stream(METHOD)(wait_for_ready=True)
        await call.write(b"here")
        while (data := await call.read()) is not grpc.aio.EOF:
            await call.write(data)


async def _middle(address: str, pki: str, socket: str) -> None:
    files = Path(pki)
    credentials = channel_credentials(files / "floor/host.crt", files / "floor/host.key", files / "ca.crt")

    async def relay(_requests: object, context: grpc.aio.ServicerContext) -> None:
        await context.read()
        async with open_channel(Target(address, "control1"), credentials) as channel:
            call = channel.stream_stream(METHOD)()
            await call.write(b"here")
            while (data := await call.read()) is not grpc.aio.EOF:
                await context.write(data)
                await call.write(await context.read())

    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((_handler(relay),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    await server.wait_for_termination()


async def measure(pki: SitePki, rounds: int) -> list[float]:
    """Milliseconds of each round trip."""
    own, times, done = pki.host("control1"), [], asyncio.Event()
    pki.host("floor")

    async def top(_requests: object, context: grpc.aio.ServicerContext) -> None:
        await context.read()
        for _ in range(rounds + 50):
            started = time.perf_counter()
            await context.write(FRAME)
            await context.read()
            times.append((time.perf_counter() - started) * 1e3)
            await asyncio.sleep(_PAUSE_S)
        done.set()

    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((_handler(top),))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(own.certificate, own.key, own.ca))
    await server.start()
    with tempfile.TemporaryDirectory(prefix="mpf-") as folder:
        socket = f"{folder}/echo.sock"
        children = [
            await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.echo_floor", *arguments)
            for arguments in (("middle", f"127.0.0.1:{port}", str(pki.folder), socket), ("leaf", socket))
        ]
        try:
            async with asyncio.timeout(120):
                await done.wait()
        finally:
            for child in children:
                child.kill()
            await asyncio.gather(*(child.wait() for child in children))
            await server.stop(None)
    return times[50:]


if __name__ == "__main__":
    uvloop.run({"middle": _middle, "leaf": _leaf}[sys.argv[1]](*sys.argv[2:]))
