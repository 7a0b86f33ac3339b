"""Backends that a load can tell apart: HTTP/1.1, bytes sent back, gRPC messages sent back."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from tests.support.processes import Backend

ECHO_METHOD = "/marchproxy.test.Echo/Echo"


class TcpEcho:
    """Sends back whatever comes."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.address, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self._open.discard(writer)
            writer.close()


class GrpcEcho:
    """One bidirectional method over plain HTTP/2 that sends back each message."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        service, _, method = ECHO_METHOD.strip("/").rpartition("/")
        handler = grpc.stream_stream_rpc_method_handler(_echo)
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: handler}),)
        )
        self.port = self._server.add_insecure_port(f"{self.address}:0")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)


async def _echo(_requests: Any, context: Any) -> None:
    while (data := await context.read()) is not grpc.aio.EOF:
        await context.write(data)


class Echoes:
    """Two of each kind, so that endpoints can be exchanged whole. `ports["http"]` and so on has both."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        # Made to hold its answers back by whoever clears `slow.answers`.
        self.slow = Backend("slow", address)
        self._all: dict[str, tuple[Any, ...]] = {
            "http": (Backend("one", address), Backend("two", address)),
            "grpc": (GrpcEcho(address), GrpcEcho(address)),
            "tcp": (TcpEcho(address), TcpEcho(address)),
            "slow": (self.slow,),
        }
        self.ports: dict[str, tuple[int, ...]] = {}

    async def __aenter__(self) -> Echoes:
        for kind, backends in self._all.items():
            for backend in backends:
                await backend.start()
            self.ports[kind] = tuple(backend.port for backend in backends)
        return self

    async def __aexit__(self, *_: object) -> None:
        for backends in self._all.values():
            for backend in backends:
                await backend.stop()
