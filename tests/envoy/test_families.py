"""`ports.family: dual` on a real Envoy, put on and taken back while it serves."""

from __future__ import annotations

import dataclasses
import http.client
import socket
from pathlib import Path

import pytest

from tests.support.free_ports import on_free_ports
from tests.support.real_material import real_material
from tests.support.tiny_ads import EnvoyOnAds
from xds_agent.compile import Compiler
from xds_agent.model import load_site
from xds_agent.snapshot.resource import Snapshot

pytestmark = pytest.mark.envoy

EDGE = {
    "certificates": [{"name": "shop"}],
    "domains": [{"name": "shop.example.com", "certificate": "shop"}],
    "services": [
        {"name": "shop", "domains": ["shop.example.com"], "endpoints": [{"address": "127.0.0.1", "port": 1}]}
    ],
}
HOSTS = {"edge1": {"address": "127.0.0.1", "groups": ["ingress"]}}


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


def _redirected(address: str, port: int) -> str:
    connection = http.client.HTTPConnection(address, port, timeout=10)
    connection.request("GET", "/", headers={"host": "shop.example.com"})
    answer = connection.getresponse()
    connection.close()
    return answer.getheader("location") or ""


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback")
def test_listeners_take_ipv6_and_give_it_back_while_serving(envoy_path: Path) -> None:
    site = on_free_ports(load_site({"schema": 1, "edge": EDGE, "hosts": HOSTS, "origins": {}}))
    material, _ = real_material(site)
    compiler, port = Compiler(), site.edge.ports.http

    def snapshot(family: str) -> Snapshot:
        ports = site.edge.ports.model_copy(update={"family": family})
        edge = site.edge.model_copy(update={"ports": ports})
        return compiler.compile(dataclasses.replace(site, edge=edge), material).snapshots()["edge1"]

    wanted = f"https://shop.example.com:{site.edge.ports.https}/"
    with EnvoyOnAds(envoy_path, snapshot("ipv4")) as envoy:
        envoy.wait_settled()
        assert _redirected("127.0.0.1", port) == wanted
        with pytest.raises(OSError):
            _redirected("::1", port)
        envoy.ads.push(snapshot("dual"))
        envoy.wait_settled()
        assert _redirected("::1", port) == wanted
        assert _redirected("127.0.0.1", port) == wanted
        envoy.ads.push(snapshot("ipv4"))
        envoy.wait_settled()
        assert _redirected("127.0.0.1", port) == wanted
