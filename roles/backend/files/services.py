"""WebSocket, gRPC, TCP and UDP services whose every answer names the host and cloud that gave it.

Debian's own python3-websockets and python3-grpcio are all it needs, so that a backend shares nothing with the
agent it is used to try.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
from http import HTTPStatus

import grpc
import websockets

# grpc.health.v1.HealthCheckResponse{status: SERVING}, field 1 as varint 1.
SERVING = b"\x08\x01"


async def serve_websocket(port: int, who: dict[str, str]) -> None:
    """Echo each message beside the answering host; /healthz answers ordinary requests."""

    async def echo(socket: websockets.WebSocketServerProtocol) -> None:
        async for message in socket:
            text = message if isinstance(message, str) else message.decode(errors="replace")
            await socket.send(json.dumps({**who, "echo": text}))

    async def plain(path: str, _headers: object) -> tuple[HTTPStatus, list[tuple[str, str]], bytes] | None:
        if path != "/healthz":
            return None
        return HTTPStatus.OK, [(f"x-backend-{key}", value) for key, value in who.items()], b"ok\n"

    await websockets.serve(echo, None, port, process_request=plain)


async def serve_grpc(port: int, who: dict[str, str]) -> grpc.aio.Server:
    """grpc.health.v1.Health/Check, and marchproxy.lab.Echo/Say: bytes in, JSON with the same text out."""

    async def check(_request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return SERVING

    async def say(request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return json.dumps({**who, "echo": request.decode(errors="replace")}).encode()

    server = grpc.aio.server()
    for service, method, behaviour in (
        ("grpc.health.v1.Health", "Check", check),
        ("marchproxy.lab.Echo", "Say", say),
    ):
        handler = grpc.unary_unary_rpc_method_handler(behaviour)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    server.add_insecure_port(f"[::]:{port}")
    await server.start()
    return server


async def serve_tcp(port: int, who: dict[str, str]) -> None:
    """One line that names the host, then whatever arrives."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write((json.dumps(who) + "\n").encode())
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    await asyncio.start_server(echo, None, port)


class UdpEcho(asyncio.DatagramProtocol):
    """Sends each datagram back behind a line that names the host."""

    def __init__(self, who: dict[str, str]) -> None:
        self.line = (json.dumps(who) + "\n").encode()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        self.transport.sendto(self.line + data, source)


async def serve_udp(port: int, who: dict[str, str]) -> None:
    """As TCP, on the same port."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: UdpEcho(who), local_addr=("0.0.0.0", port))


def ready() -> None:
    """Tell systemd (Type=notify) that every port answers; without systemd nobody is told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            manager.sendall(b"READY=1")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True, help="name of this host in answers")
    parser.add_argument("--cloud", required=True, help="its cloud in answers")
    for service in ("websocket", "grpc", "tcp"):
        parser.add_argument(f"--{service}", type=int, required=True, help=f"port of the {service} service")
    asked = parser.parse_args()
    who = {"host": asked.host, "cloud": asked.cloud}
    await serve_websocket(asked.websocket, who)
    await serve_tcp(asked.tcp, who)
    await serve_udp(asked.tcp, who)
    server = await serve_grpc(asked.grpc, who)
    ready()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
