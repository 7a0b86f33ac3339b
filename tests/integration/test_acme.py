"""HTTP-01 against a real ACME server (Let's Encrypt's Pebble), the answers given as the edge gives them."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.acme_server import pebble, pem_key
from tests.support.ports import free_port
from xds_agent.pki import acme

PREFIX = "/.well-known/acme-challenge/"


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
def authority(edge: Edge, tmp_path: Path) -> Iterator[acme.Authority]:
    with pebble(tmp_path / "pebble", http_port=edge.port) as (directory, ca):
        yield acme.Authority(directory, acme.new_account_key(), "edge@example.com", ca)


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


def test_an_authority_that_refuses_nonces_is_asked_again(edge: Edge, tmp_path: Path) -> None:
    """RFC 8555 section 6.5: the client should retry with the nonce of the refusal."""
    key = pem_key(ec.generate_private_key(ec.SECP384R1()))
    with pebble(tmp_path / "pebble", http_port=edge.port, refused_nonces=50) as (directory, ca):
        authority = acme.Authority(directory, acme.new_account_key(), ca_bundle=ca)
        assert acme.obtain(authority, key=key, names=["localhost"], publish=edge.publish)


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
