"""What the compiler makes, accepted by a real Envoy, and answering as the inventory says."""

from __future__ import annotations

import dataclasses
import http.client
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import golden
from tests.support.free_ports import on_free_ports
from tests.support.processes import envoy_binary
from tests.support.real_material import Ca, real_material
from tests.support.tiny_ads import EnvoyOnAds
from xds_agent.compile import Compiler, Material, Trust
from xds_agent.model import SITE_CA, Site, load_site

pytestmark = pytest.mark.envoy


@pytest.mark.parametrize("name", golden.CASES)
def test_envoy_takes_every_golden_site(envoy_path: Path, name: str) -> None:
    case = golden.case(name)
    site = on_free_ports(case.site)
    material, _ = real_material(site)
    compiled = Compiler().compile(site, material, now=case.now)
    for snapshot in {one.revision: one for one in compiled.snapshots().values()}.values():
        with EnvoyOnAds(envoy_path, snapshot) as envoy:
            envoy.wait_settled()


# Ways through the edge that the edge answers itself: no backend is needed to see which one was met.
EDGE: dict[str, Any] = {
    "certificates": [{"name": "wild"}, {"name": "exact"}],
    "authorities": [{"name": "partners", "certificate": "-----BEGIN CERTIFICATE-----"}],
    "domains": [
        {"name": "*.example.com", "certificate": "wild"},
        {"name": "lax.example.com", "certificate": "exact"},
        {
            "name": "strict.example.com", "certificate": "exact",
            "client_auth": "required", "client_ca": "partners",
        },
        {
            "name": "named.example.com", "certificate": "exact", "client_auth": "required",
            "client_ca": "partners", "client_names": ["spiffe://partners/orders"],
        },
        {
            "name": "maybe.example.com", "certificate": "exact",
            "client_auth": "optional", "client_ca": "partners",
        },
        {"name": "quiet.example.com", "certificate": "exact", "redirect_http": False},
    ],
    "services": [
        {
            "name": "tokens", "domains": ["quiet.example.com"],
            "endpoints": [{"address": "127.0.0.1", "port": 1}],
            "auth": {"type": "jwt", "issuer": "https://id.example.com", "jwks": "{}"},
        }
    ],
    "routes": [
        *(
            {"domains": [f"{name}.example.com"], "prefix": "/", "respond": {"status": 200, "body": name}}
            for name in ("*", "lax", "strict", "named", "maybe")
        ),
        {"domains": ["lax.example.com"], "exact": "/api", "respond": {"status": 200, "body": "exact"}},
        {"domains": ["lax.example.com"], "prefix": "/api", "respond": {"status": 200, "body": "api"}},
        {"domains": ["lax.example.com"], "prefix": "/api/long", "respond": {"status": 200, "body": "long"}},
        {"domains": ["lax.example.com"], "regex": "/a.i/l.*", "respond": {"status": 200, "body": "regex"}},
        {
            "domains": ["lax.example.com"], "prefix": "/robots",
            "headers": [{"name": "x-human", "prefix": "y", "negate": True}],
            "respond": {"status": 200, "body": "robots"},
        },
        {"domains": ["lax.example.com"], "prefix": "/move", "redirect": {"prefix": "/", "status": 308}},
        {
            "domains": ["maybe.example.com"], "prefix": "/secure", "client_certificate": "required",
            "respond": {"status": 200, "body": "secure"},
        },
    ],
}  # fmt: skip


@dataclasses.dataclass
class Edge:
    """The edge above on a real Envoy, and clients with and without certificates."""

    site: Site
    folder: Path
    trusted: Path

    def client(self, name: str) -> tuple[str, str]:
        return str(self.folder / f"{name}.crt"), str(self.folder / f"{name}.key")

    def get(
        self, host: str, path: str = "/", *, sni: str | None = None, client: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, str]:  # fmt: skip
        """(status, body or location); raises ssl.SSLError or OSError where the handshake fails."""
        context = ssl.create_default_context(cafile=str(self.trusted))
        context.check_hostname = False
        if client is not None:
            context.load_cert_chain(*self.client(client))
        with socket.create_connection(("127.0.0.1", self.site.edge.ports.https), timeout=5) as plain:
            name = None if sni == "" else sni or host
            with context.wrap_socket(plain, server_hostname=name) as tls:
                return _ask(tls, host, path, headers or {})

    def plain(self, host: str, path: str = "/") -> tuple[int, str]:
        with socket.create_connection(("127.0.0.1", self.site.edge.ports.http), timeout=5) as plain:
            return _ask(plain, host, path, {})


def _ask(connection: socket.socket, host: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    lines = [f"GET {path} HTTP/1.1", f"host: {host}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.getheader("location") or answer.read().decode()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    binary = envoy_binary()
    assert binary is not None
    folder = tmp_path_factory.mktemp("edge")
    hosts = {"edge1": {"address": "127.0.0.1", "groups": ["ingress"]}}
    site = on_free_ports(load_site({"schema": 1, "edge": EDGE, "hosts": hosts, "origins": {}}))
    partners = Ca.new("partners")
    clients = {
        "good": partners.issue(["client"]),
        "orders": partners.issue(["client"], "spiffe://partners/orders"),
        "revoked": partners.issue(["client"]),
        "stranger": Ca.new("strangers").issue(["client"]),
    }
    for name, pair in clients.items():
        (folder / f"{name}.crt").write_bytes(pair.chain)
        (folder / f"{name}.key").write_bytes(pair.key)
    material, authorities = real_material(site, {"partners": partners})
    trusts = {**material.trusts, "partners": Trust(partners.pem, partners.crl(clients["revoked"]))}
    trusted = folder / "ca.crt"
    trusted.write_bytes(authorities[SITE_CA].pem)
    material = Material(material.key_pairs, trusts, {"tok": b"tok.print"})
    snapshot = Compiler().compile(site, material).snapshots()["edge1"]
    with EnvoyOnAds(binary, snapshot) as envoy:
        envoy.wait_settled()
        yield Edge(site, folder, trusted)


@pytest.mark.parametrize(
    ("host", "sni", "expected"),
    [
        ("lax.example.com", None, (200, "lax")),
        ("other.example.com", None, (200, "*")),
        ("LAX.example.com:8443", "lax.example.com", (200, "lax")),
        # A wildcard's connection does not lead to a name that is declared for itself, whatever its policy.
        ("strict.example.com", "other.example.com", (421, "")),
        ("lax.example.com", "other.example.com", (421, "")),
        ("strict.example.com", "lax.example.com", (421, "")),
        ("maybe.example.com", "lax.example.com", (421, "")),
        ("other.example.com", "lax.example.com", (421, "")),
        ("lax.example.com", "", (421, "")),
        ("lax.example.com", "lax.example.org", (421, "")),
    ],
)
def test_a_host_is_served_only_under_its_own_policy(
    edge: Edge, host: str, sni: str | None, expected: tuple[int, str]
) -> None:
    assert edge.get(host, sni=sni) == expected


@pytest.mark.parametrize(
    ("host", "client", "expected"),
    [
        ("strict.example.com", "good", (200, "strict")),
        ("strict.example.com", None, None),
        ("strict.example.com", "revoked", None),
        ("strict.example.com", "stranger", None),
        ("named.example.com", "orders", (200, "named")),
        ("named.example.com", "good", None),
        ("maybe.example.com", None, (200, "maybe")),
        ("maybe.example.com", "good", (200, "maybe")),
        ("maybe.example.com", "stranger", None),
        ("lax.example.com", "stranger", (200, "lax")),
    ],
)
def test_client_certificates(
    edge: Edge, host: str, client: str | None, expected: tuple[int, str] | None
) -> None:
    if expected is None:
        with pytest.raises(OSError):
            edge.get(host, client=client)
    else:
        assert edge.get(host, client=client) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api", "exact"),
        ("/api/x", "api"),
        ("/apix", "lax"),
        ("/api/long/x", "regex"),
        ("/robots.txt", "lax"),
        ("/robots", "robots"),
        ("/move/a/b", "https://lax.example.com/a/b"),
        ("/move", "https://lax.example.com/"),
    ],
)
def test_routes_are_tried_in_the_stated_order(edge: Edge, path: str, expected: str) -> None:
    assert edge.get("lax.example.com", path)[1] == expected


def test_a_negated_condition_holds_for_other_values_only(edge: Edge) -> None:
    assert edge.get("lax.example.com", "/robots", headers={"x-human": "no"})[1] == "robots"
    assert edge.get("lax.example.com", "/robots", headers={"x-human": "yes"})[1] == "lax"


def test_a_path_of_an_optional_name_may_require_the_certificate(edge: Edge) -> None:
    assert edge.get("maybe.example.com", "/secure", client="good") == (200, "secure")
    assert edge.get("maybe.example.com", "/secure")[0] == 403


def test_a_service_whose_tokens_are_not_read_yet_serves_nobody(edge: Edge) -> None:
    assert edge.get("quiet.example.com")[0] == 403


def test_plain_http_redirects_and_answers_acme(edge: Edge) -> None:
    port = edge.site.edge.ports.https
    assert edge.plain("lax.example.com", "/x?y=1") == (301, f"https://lax.example.com:{port}/x?y=1")
    # "quiet" is covered by the wildcard, and still not redirected: it said so.
    assert edge.plain("quiet.example.com")[0] == 404
    assert edge.plain("unknown.example.org")[0] == 404
    for host in ("lax.example.com", "unknown.example.org"):
        assert edge.plain(host, "/.well-known/acme-challenge/tok") == (200, "tok.print")


@pytest.mark.parametrize("path", ["/a%2fb", "/a%5Cb"])
def test_escaped_slashes_are_refused(edge: Edge, path: str) -> None:
    assert edge.get("lax.example.com", path)[0] == 400
