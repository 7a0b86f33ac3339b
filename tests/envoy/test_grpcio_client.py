"""grpcio's own `xds:///` client against ControlCore: an xDS client that shares no code with ours or Envoy's.

It speaks the state of the world with explicit names over mTLS: listener, routes, cluster, endpoints, and then
an RPC reaches the backend they name. It needs no Envoy, but belongs with the other real peers.
"""

from __future__ import annotations

import asyncio
import json
import sys
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from tests.support.control import Control
from tests.support.processes import ROOT
from tests.support.resources import ads, cluster, endpoints, replaced
from xds_agent.snapshot.resource import LISTENER, ROUTES, Resource, Snapshot

_CLIENT = """
import sys, grpc
channel = grpc.insecure_channel("xds:///greeter")
call = channel.unary_unary("/greeter.Greeter/Hello")
for line in sys.stdin:
    try:
        print("answer", call(line.encode(), timeout=20).decode().strip(), flush=True)
    except grpc.RpcError as error:
        print("error", error.code().name, error.details().replace(chr(10), " "), flush=True)
"""


def client_set(*ports: int) -> Snapshot:
    """What a proxyless client needs to call `greeter`."""
    manager = http_connection_manager_pb2.HttpConnectionManager()
    manager.rds.route_config_name = "greeter"
    manager.rds.config_source.CopyFrom(ads())
    manager.http_filters.add(name="router").typed_config.Pack(router_pb2.Router(), deterministic=True)
    listener = listener_pb2.Listener(name="greeter")
    listener.api_listener.api_listener.Pack(manager, deterministic=True)
    routes = route_pb2.RouteConfiguration(name="greeter")
    virtual = routes.virtual_hosts.add(name="greeter", domains=["*"])
    route = virtual.routes.add()
    route.match.prefix = ""
    route.route.cluster = "greeter"
    return Snapshot.of(
        [
            Resource.of(LISTENER, "greeter", listener),
            Resource.of(ROUTES, "greeter", routes),
            cluster("greeter"),
            endpoints("greeter", *ports),
            # Others' resources, which it never asked for and must not be sent.
            cluster("other"),
            endpoints("other", 9),
        ]
    )


def greeter(name: str) -> tuple[grpc.Server, int]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    hello = grpc.unary_unary_rpc_method_handler(lambda request, _context: name.encode())
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("greeter.Greeter", {"Hello": hello}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


@pytest.fixture
def greeters():
    started = [greeter("one"), greeter("two")]
    yield [port for _, port in started]
    for server, _ in started:
        server.stop(None)


@pytest.fixture
async def control(pki):
    """Control under a name that resolves: this client checks it like any other."""
    control = Control(pki, name="localhost")
    await control.start()
    yield control
    await control.stop()


@pytest.fixture
async def client(pki, control, tmp_path):
    files = pki.host("client1")
    bootstrap = {
        "xds_servers": [
            {
                "server_uri": f"localhost:{control.port}",
                "channel_creds": [
                    {
                        "type": "tls",
                        "config": {
                            "ca_certificate_file": str(files.ca),
                            "certificate_file": str(files.certificate),
                            "private_key_file": str(files.key),
                        },
                    }
                ],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": "client1", "cluster": "clients"},
    }
    path = Path(tmp_path) / "xds.json"
    path.write_text(json.dumps(bootstrap))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CLIENT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={"GRPC_XDS_BOOTSTRAP": str(path), "PATH": "/usr/bin:/bin"}, cwd=ROOT,
    )  # fmt: skip

    async def call() -> str:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"hello\n")
        async with asyncio.timeout(30):
            return (await process.stdout.readline()).decode().strip()

    yield call
    process.kill()
    await process.communicate()


async def test_a_proxyless_client_finds_its_backend_and_follows_it(control, client, greeters):
    first = client_set(greeters[0])
    control.publish({"client1": first})
    assert await client() == "answer one"
    moved = replaced(first, endpoints("greeter", greeters[1]))
    control.publish({"client1": moved})
    async with asyncio.timeout(20):
        while await client() != "answer two":
            pass


async def test_a_client_that_the_revision_does_not_hold_gets_nothing(control, client, greeters):
    control.publish({"somebody-else": client_set(greeters[0])})
    answer = await client()
    assert answer.startswith("error")
