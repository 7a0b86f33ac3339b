"""Clients that speak to one proxy by address while naming another host: what a browser does, without DNS."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from websockets.sync.client import connect as websocket_connect

# Of a machine whose two cores boot hosts meanwhile: a pause is no lost request.
TIMEOUT_S = 20.0
# A server that has not refused a certificate by then has accepted it, and waits for a request.
LET_IN_S = 10.0


@dataclass(frozen=True)
class Identity:
    """Whom a client trusts, and the certificate it shows if asked."""

    trust: Path
    certificate: Path | None = None
    key: Path | None = None

    def context(self, protocols: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.trust))
        context.set_alpn_protocols(list(protocols))
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context


@dataclass(frozen=True)
class Answer:
    """What came back from an HTTP request."""

    status: int
    headers: dict[str, str]
    body: bytes
    tls: str | None = None

    @property
    def host(self) -> str:
        return self.headers.get("x-backend-host", "")

    @property
    def cloud(self) -> str:
        return self.headers.get("x-backend-cloud", "")

    def json(self) -> dict[str, Any]:
        decoded = json.loads(self.body)
        return decoded if isinstance(decoded, dict) else {}


class Connection:
    """A kept HTTP/1.1 connection to ``address``:``port``; over TLS where an identity is given."""

    def __init__(
        self, address: str, port: int, *, sni: str | None = None, identity: Identity | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:  # fmt: skip
        self._http = http.client.HTTPConnection(address, port, timeout=timeout_s)
        plain = socket.create_connection((address, port), timeout=timeout_s)
        self._tls: ssl.SSLSocket | None = None
        if identity is not None:
            try:
                self._tls = identity.context().wrap_socket(plain, server_hostname=sni)
            except BaseException:
                plain.close()
                raise
        self._http.sock = self._tls or plain

    def get(self, path: str, host: str) -> Answer:
        self._http.request("GET", path, headers={"Host": host, "User-Agent": "marchproxy-lab"})
        response = self._http.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read(), self._tls.version() if self._tls else None)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def get(
    address: str,
    port: int,
    host: str,
    path: str = "/",
    *,
    sni: str | None = None,
    identity: Identity | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """One GET on a connection of its own; ``sni`` is ``host`` unless said otherwise."""
    with Connection(address, port, sni=sni or host, identity=identity, timeout_s=timeout_s) as connection:
        return connection.get(path, host)


def negotiated_protocol(address: str, port: int, name: str, identity: Identity) -> str | None:
    """The protocol a client offering HTTP/2 and HTTP/1.1 gets."""
    with (
        socket.create_connection((address, port), timeout=TIMEOUT_S) as plain,
        identity.context(("h2", "http/1.1")).wrap_socket(plain, server_hostname=name) as secure,
    ):
        return secure.selected_alpn_protocol()


def refusal(address: str, port: int, name: str, identity: Identity) -> str | None:
    """The alert that refuses this client's certificate, in the server's words; None if it is let in.

    In TLS 1.3 a server says so after the client's side of the handshake is done. Nothing is sent meanwhile:
    a reset connection would take the alert with it.
    """
    try:
        with (
            socket.create_connection((address, port), timeout=TIMEOUT_S) as plain,
            identity.context().wrap_socket(plain, server_hostname=name) as secure,
        ):
            secure.settimeout(LET_IN_S)
            secure.recv(1)
    except TimeoutError:
        return None
    except ssl.SSLError as alert:
        return (alert.reason or str(alert)).lower().replace("_", " ")
    return None


def websocket_echo(
    address: str, port: int, host: str, message: str, identity: Identity, path: str = "/"
) -> str:
    """Open a WebSocket, send one message, return the first that comes back."""
    plain = socket.create_connection((address, port), timeout=TIMEOUT_S)
    with websocket_connect(
        f"wss://{host}{path}",
        sock=plain,
        ssl=identity.context(),
        server_hostname=host,
        open_timeout=TIMEOUT_S,
    ) as connection:
        connection.send(message)
        return str(connection.recv(timeout=TIMEOUT_S))


def grpc_unary(address: str, port: int, host: str, method: str, request: bytes, identity: Identity) -> bytes:
    """One unary call with ready-made bytes, over TLS, to ``method`` ("/package.Service/Method")."""
    credentials = grpc.ssl_channel_credentials(identity.trust.read_bytes())
    options = [("grpc.ssl_target_name_override", host), ("grpc.default_authority", host)]
    with grpc.secure_channel(f"{address}:{port}", credentials, options=options) as channel:
        answer: bytes = channel.unary_unary(method)(request, timeout=TIMEOUT_S)
        return answer


def tcp_echo(address: str, port: int, message: bytes) -> bytes:
    """Send ``message`` over TCP, end the sending side, and return all that comes back."""
    with socket.create_connection((address, port), timeout=TIMEOUT_S) as connection:
        connection.sendall(message)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received
