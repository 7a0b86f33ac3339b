"""URLs as connections: ports of the inventory, server names, Host headers, and words for what is no URL."""

from __future__ import annotations

import pytest

from xds_agent.explain.target import BadUrl, target_of
from xds_agent.model import Ports

PORTS = Ports(https=8443)


@pytest.mark.parametrize(
    ("url", "port", "tls", "sni", "host", "path"),
    [
        ("https://Shop.example.com/a?b=1", 8443, True, "shop.example.com", "shop.example.com", "/a?b=1"),
        ("shop.example.com", 8443, True, "shop.example.com", "shop.example.com", "/"),
        ("http://shop.example.com:8081/", 8081, False, None, "shop.example.com", "/"),
        ("https://10.0.0.1/", 8443, True, None, "10.0.0.1", "/"),
        ("grpc://g.example.com/pkg.S/M", 8080, True, "g.example.com", "g.example.com", "/pkg.S/M"),
        ("tcp://edge:7000", 7000, False, None, "edge", "/"),
        ("tls://db.example.com:5432", 5432, True, "db.example.com", "db.example.com", "/"),
    ],
)
def test_urls(url: str, port: int, tls: bool, sni: str | None, host: str, path: str) -> None:
    target = target_of(url, PORTS)
    found = (target.port, target.tls, target.sni, target.host, target.path)
    assert found == (port, tls, sni, host, path)


def test_the_host_header_may_differ_from_the_name_asked_for_in_tls() -> None:
    target = target_of("https://lax.example.com/", PORTS, headers={"Host": "strict.example.com:443"})
    assert (target.sni, target.host) == ("lax.example.com", "strict.example.com")


def test_websocket_and_grpc_say_so_in_their_headers() -> None:
    assert target_of("wss://chat.example.com/", PORTS).headers["upgrade"] == "websocket"
    grpc = target_of("grpc://g.example.com/a.B/C", PORTS)
    assert (grpc.headers[":method"], grpc.headers["content-type"]) == ("POST", "application/grpc")


@pytest.mark.parametrize("url", ["ftp://x/", "https://", "tcp://edge", "https://x:99999/", "https://[::1/"])
def test_what_is_no_url_is_said_in_words(url: str) -> None:
    with pytest.raises(BadUrl) as caught:
        target_of(url, PORTS)
    assert url.partition(":")[0] in str(caught.value)
