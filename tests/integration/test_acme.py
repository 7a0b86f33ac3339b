"""HTTP-01 against a real ACME server (Let's Encrypt's Pebble), the answers given as the edge gives them."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from xds_agent.pki import acme

SOURCE = Path(__file__).parent.parent / "support" / "pebble"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "marchproxy"
PREFIX = "/.well-known/acme-challenge/"


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture(scope="module")
def pebble_binary() -> Path:
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        pytest.skip("Pebble is built with Go 1.24 or later, which is not installed")
    target = CACHE / "pebble-2.8.0"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        module = "github.com/letsencrypt/pebble/v2/cmd/pebble"
        build = subprocess.run(
            [go, "build", "-o", f"{target}.new", module], cwd=SOURCE, capture_output=True, text=True
        )
        if build.returncode:
            pytest.skip(f"Pebble does not build here: {build.stderr.strip()[-200:]}")
        Path(f"{target}.new").replace(target)
    return target


def self_signed(directory: Path) -> Path:
    """The ACME server's own TLS certificate for localhost; it is its own CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "server.key").write_bytes(pem_key(key))
    path = directory / "server.crt"
    path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    return path


class Edge:
    """Answers challenges on the port the authority asks, as the proxies' port 80 does."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.published: list[int] = []
        edge = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = edge.answers.get(self.path.removeprefix(PREFIX), b"")
                self.send_response(200 if body else 404)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def publish(self, answers: Mapping[str, bytes]) -> None:
        self.published.append(len(answers))
        self.answers = dict(answers)


@pytest.fixture
def edge() -> Iterator[Edge]:
    edge = Edge()
    yield edge
    edge.server.shutdown()
    edge.server.server_close()


@pytest.fixture
def authority(pebble_binary: Path, edge: Edge, tmp_path: Path) -> Iterator[acme.Authority]:
    ca = self_signed(tmp_path)
    port = free_port()
    config = {
        "pebble": {
            "listenAddress": f"127.0.0.1:{port}",
            "managementListenAddress": f"127.0.0.1:{free_port()}",
            "certificate": str(ca),
            "privateKey": str(tmp_path / "server.key"),
            "httpPort": edge.port,
            "tlsPort": free_port(),
            "retryAfter": {"authz": 1, "order": 1},
            "profiles": {"default": {"description": "default", "validityPeriod": 7776000}},
        }
    }
    (tmp_path / "pebble.json").write_text(json.dumps(config))
    environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"}
    with (tmp_path / "pebble.log").open("wb") as output:
        server = subprocess.Popen(
            [pebble_binary, "-config", tmp_path / "pebble.json"],
            stdout=output, stderr=output, env=environment,
        )  # fmt: skip
    try:
        wait_until_up(port, ca)
        directory = f"https://localhost:{port}/dir"
        yield acme.Authority(directory, acme.new_account_key(), "edge@example.com", ca)
    finally:
        server.terminate()
        server.wait(10)


def wait_until_up(port: int, ca: Path) -> None:
    context = ssl.create_default_context(cafile=str(ca))
    deadline = time.monotonic() + 20
    while True:
        try:
            connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=5)
            connection.request("GET", "/dir")
            connection.getresponse().read()
            connection.close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_a_certificate_is_issued_and_the_answers_are_withdrawn(authority: acme.Authority, edge: Edge) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    chain = acme.obtain(authority, key=pem_key(key), names=["localhost"], publish=edge.publish)
    leaf = x509.load_pem_x509_certificates(chain)[0]
    assert leaf.public_key() == key.public_key()
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert edge.published == [1, 0]


def test_the_account_is_found_again_at_renewal(authority: acme.Authority, edge: Edge) -> None:
    key = pem_key(ec.generate_private_key(ec.SECP384R1()))
    for _ in range(2):
        acme.obtain(authority, key=key, names=["localhost"], publish=edge.publish)


def test_a_name_that_does_not_lead_here_is_named_and_leaves_no_answer_behind(
    authority: acme.Authority, edge: Edge
) -> None:
    key = pem_key(ec.generate_private_key(ec.SECP384R1()))

    def publish_wrongly(answers: Mapping[str, bytes]) -> None:
        edge.publish(dict.fromkeys(answers, b"wrong"))

    with pytest.raises(acme.AcmeError, match="localhost"):
        acme.obtain(authority, key=key, names=["localhost"], publish=publish_wrongly)
    assert edge.answers == {}


def test_an_authority_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    away = acme.Authority(f"https://localhost:{free_port()}/dir", acme.new_account_key())
    key = pem_key(ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(acme.AcmeError, match="https://localhost"):
        acme.obtain(away, key=key, names=["localhost"], publish=lambda _: None)
