"""What explain says of a request is what a real Envoy does with it: for many requests, drawn at random."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import ssl
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.processes import Backend
from tests.support.site_pki import key_pem, new_key
from xds_agent.compile import Compiler, KeyPair, Material, Trust
from xds_agent.explain.explanation import Explanation
from xds_agent.explain.request import explain
from xds_agent.model import Site, load_site
from xds_agent.protocol.control import Acknowledged

pytestmark = pytest.mark.envoy

SEED = 20261125
REQUESTS = 400
SERVICES = ("main", "second", "strict", "careful", "wild", "exact-wild", "closed")
HOSTS = (
    *("a.example.com", "b.example.com", "strict.example.com", "opt.example.com"),
    *("any.wild.example.com", "x.wild.example.com", "nobody.example.net"),
)
PATHS = (
    *("/", "/api", "/api/", "/api/v1/items?q=1", "/apix", "/API", "/exact", "/exact/", "/exact?x"),
    *("/re/12", "/re/ab", "/old/page?a=b", "/move", "/gone", "/private/x", "/split", "/a/../api"),
    *("//api", "/%61pi", "/x%2fy", "/./exact", "/beta", "/not-beta", "/present", "/closed"),
)
METHODS = ("GET", "GET", "GET", "POST", "DELETE")
HEADERS: tuple[dict[str, str], ...] = ({}, {}, {"x-beta": "yes"}, {"x-beta": "no"}, {"x_under": "1"})


@dataclass(frozen=True)
class Request:
    """One request over a connection of its own."""

    tls: bool
    sni: str
    host: str
    path: str
    method: str
    headers: tuple[tuple[str, str], ...]
    certificate: bool


@dataclass(frozen=True)
class Met:
    """What came back: a status with Location and body, or no answer at all (status 0)."""

    status: int
    location: str = ""
    body: str = ""


def _edge(ports: dict[str, int], backends: dict[str, int]) -> dict[str, Any]:
    common = {"domains": ["a.example.com", "b.example.com"]}
    lax, client = {"certificate": "one"}, {"client_ca": "site-ca"}
    services: list[dict[str, Any]] = [
        {"name": name, "endpoints": [{"address": "127.0.0.1", "port": backends[name]}]} for name in SERVICES
    ]
    for service, domains in zip(
        services,
        (
            ["a.example.com", "b.example.com"],
            [],
            ["strict.example.com"],
            ["opt.example.com"],
            ["*.wild.example.com"],
            ["x.wild.example.com"],
            [],
        ),
        strict=True,
    ):
        service["domains"] = domains
    services[-1]["auth"] = {"type": "jwt", "issuer": "https://id.example.com", "jwks": '{"keys": []}'}
    return {
        "ports": ports,
        "certificates": [{"name": "one"}, {"name": "two"}],
        "domains": [
            {"name": "a.example.com", **lax},
            {"name": "b.example.com", **lax},
            {"name": "strict.example.com", "certificate": "two", "client_auth": "required", **client},
            {"name": "opt.example.com", **lax, "client_auth": "optional", **client},
            {"name": "*.wild.example.com", **lax},
            {"name": "x.wild.example.com", "certificate": "two", "redirect_http": False},
        ],
        "services": services,
        "routes": [
            {**common, "prefix": "/api", "service": "second"},
            {**common, "prefix": "/api", "methods": ["POST"], "respond": {"status": 405}},
            {**common, "exact": "/exact", "respond": {"status": 418, "body": "teapot"}},
            {**common, "regex": "/re/[0-9]+", "methods": ["GET", "DELETE"], "service": "second"},
            {**common, "prefix": "/old", "redirect": {"prefix": "/new", "status": 308}},
            {
                **common,
                "exact": "/move",
                "redirect": {"host": "www.example.com", "path": "/x", "strip_query": True},
            },
            {**common, "exact": "/gone", "respond": {"status": 410}},
            {**common, "exact": "/closed", "service": "closed"},
            {**common, "exact": "/split", "split": {"main": 50, "second": 50}},
            {
                **common,
                "exact": "/beta",
                "headers": [{"name": "x-beta", "exact": "yes"}],
                "respond": {"status": 202},
            },
            {
                **common,
                "exact": "/not-beta",
                "headers": [{"name": "x-beta", "exact": "yes", "negate": True}],
                "respond": {"status": 203},
            },
            {**common, "exact": "/present", "headers": [{"name": "x-beta"}], "respond": {"status": 204}},
            {
                "domains": ["opt.example.com"],
                "prefix": "/private",
                "client_certificate": "required",
                "service": "careful",
            },
        ],
    }


def _site(ports: dict[str, int], backends: dict[str, int]) -> Site:
    hosts = {"edge1": {"address": "127.0.0.1", "groups": ["ingress"]}}
    return load_site({"schema": 1, "edge": _edge(ports, backends), "hosts": hosts, "origins": {}})


def _material(pki: Any) -> Material:
    pairs = {}
    for name in ("one", "two"):
        key = new_key()
        chain = pki.issuer.sign_service(
            key.public_key(), names=[f"{name}.example.com"], now=dt.datetime.now(dt.UTC)
        )
        pairs[name] = KeyPair(chain, key_pem(key))
    authority = Trust((pki.folder / "ca.crt").read_bytes(), None)
    return Material(pairs, {"site-ca": authority})


def _drawn(count: int) -> list[Request]:
    """Requests of every kind; half of the connections ask for the name they then speak of."""
    chance = random.Random(SEED)
    # Rare in the draw, and the one that must never be told wrong.
    private = ("opt.example.com", "opt.example.com", "/private/x", "GET", ())
    found = [Request(True, *private, certificate) for certificate in (False, True)]
    for _ in range(count):
        host = chance.choice(HOSTS)
        found.append(
            Request(
                tls=chance.random() < 0.85,
                sni=chance.choice((host, host, chance.choice(HOSTS), "")),
                host=host,
                path=chance.choice(PATHS),
                method=chance.choice(METHODS),
                headers=tuple(chance.choice(HEADERS).items()),
                certificate=chance.random() < 0.3,
            )
        )
    return found


class Client:
    """Sends one request as it stands, over HTTP/1.1."""

    def __init__(self, pki: Any, ports: dict[str, int]) -> None:
        self._ports = ports
        files = pki.host("client")
        self._contexts = {}
        for certificate in (False, True):
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if certificate:
                context.load_cert_chain(files.certificate, files.key)
            self._contexts[certificate] = context

    async def send(self, request: Request) -> Met:
        try:
            async with asyncio.timeout(20):
                return await self._send(request)
        except (OSError, EOFError):
            return Met(0)

    async def _send(self, request: Request) -> Met:
        port = self._ports["https" if request.tls else "http"]
        context = self._contexts[request.certificate] if request.tls else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=request.sni if request.tls else None
        )
        lines = [f"{request.method} {request.path} HTTP/1.1", f"host: {request.host}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in request.headers]
        lines += ["content-length: 0"] if request.method == "POST" else []
        try:
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip()
            first, *rest = head.split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in rest)
            # Not to the end of the connection: Envoy leaves the closing of it to the client for a second.
            body = await reader.readexactly(int(fields.get("content-length", 0)))
        finally:
            writer.close()
        return Met(int(first.split()[1]), fields.get("location", ""), body.decode())


def _expected(request: Request, site: Site, snapshot: Any, ports: dict[str, int]) -> Explanation:
    scheme = "https" if request.tls else "http"
    url = f"{scheme}://{request.host}:{ports[scheme]}{request.path}"
    (one,) = explain(
        site,
        {"edge1": snapshot},
        url,
        method=request.method,
        headers={**dict(request.headers), "host": request.host},
        client_certificate=request.certificate,
        sni=request.sni,
    )
    return one


def _agree(said: Explanation, met: Met) -> bool:
    if said.verdict == "forwarded":
        names = {backend.cluster for backend in said.backends}
        return met.status == 200 and met.body in names
    if said.verdict == "redirected":
        return met.status == said.status and said.sentence == f"{met.status} to {met.location}"
    if said.verdict == "answered":
        return met.status == said.status
    return said.verdict == "refused" and met.status == 0


@pytest.fixture
async def running(control: Any, node: Any, pki: Any) -> Any:
    """The site, live on a real Envoy: (site, snapshot, ports)."""
    backends = {name: Backend(name) for name in SERVICES}
    for backend in backends.values():
        await backend.start()
    ports = {name: free_port() for name in ("http", "https", "grpc")}
    site = _site(ports, {name: backend.port for name, backend in backends.items()})
    snapshot = Compiler().compile(site, _material(pki)).snapshots()["edge1"]
    answer = await control.apply("edge1", snapshot)
    assert isinstance(answer, Acknowledged), answer
    yield site, snapshot, ports
    for backend in backends.values():
        await backend.stop()


async def test_explain_says_what_envoy_does(running: Any, pki: Any) -> None:
    site, snapshot, ports = running
    client = Client(pki, ports)
    differences, verdicts = [], set()
    requests = _drawn(REQUESTS)
    at_once = asyncio.Semaphore(8)

    async def send(request: Request) -> Met:
        async with at_once:
            return await client.send(request)

    answers = await asyncio.gather(*map(send, requests))
    for request, met in zip(requests, answers, strict=True):
        said = _expected(request, site, snapshot, ports)
        verdicts.add((said.verdict, said.status))
        if not _agree(said, met):
            differences.append(f"{request}\n  explain: {said.verdict} {said.sentence}\n  envoy: {met}")
    assert not differences, f"{len(differences)} of {REQUESTS}:\n" + "\n".join(differences[:10])
    # The draw reaches every kind of end; else the agreement would say little.
    kinds = {verdict for verdict, _ in verdicts}
    statuses = {status for _, status in verdicts}
    assert kinds == {"forwarded", "redirected", "answered", "refused"}
    assert statuses >= {None, 301, 308, 400, 403, 404, 405, 410, 418, 421}
