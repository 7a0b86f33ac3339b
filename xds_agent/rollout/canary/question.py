"""A request for a canary, and what came back: values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scheme = Literal["https", "grpc", "tcp"]


@dataclass(frozen=True)
class Question:
    """One request, as a client of the proxy would make it."""

    scheme: Scheme
    host: str
    """Server name and Host; empty for tcp."""
    port: int
    address: str = "127.0.0.1"
    """Where on the proxy its listener is reached."""
    path: str = "/"
    method: Literal["GET", "HEAD"] = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    own_certificate: bool = False
    """Show the proxy host's own certificate: the name asks for one of the site's CA."""
    expected: int | None = None
    """Status that the edge itself answers by its configuration; None where a backend is to answer."""
    refused: bool = False
    """The TLS handshake is to be refused: a certificate is wanted that the agent cannot have."""
    line: str = ""
    """Path in the inventory that is behind it."""

    def __str__(self) -> str:
        if self.scheme == "tcp":
            return f"tcp port {self.port}"
        said = "".join(f" with {name}: {value}" for name, value in self.headers)
        method = "POST" if self.scheme == "grpc" else self.method
        return f"{method} {self.scheme}://{self.host}{self.path}{said}"


@dataclass(frozen=True)
class Reply:
    """What a request met. Exactly one of `status`, `refused` and `failed` says something."""

    status: int = 0
    """HTTP status; where Envoy answered gRPC, what that stands for in HTTP; 200 for tcp that stays open."""
    by_envoy: bool = False
    """No backend gave it: Envoy did."""
    refused: str = ""
    """Alert that ended the TLS handshake."""
    failed: str = ""
    """Why there was no answer at all."""
    words: str = ""
    """The beginning of what Envoy itself said."""

    def __str__(self) -> str:
        if self.failed:
            return f"no answer ({self.failed})"
        if self.refused:
            return f"the TLS handshake was refused ({self.refused})"
        who = "by Envoy" if self.by_envoy else "by the backend"
        return f"{self.status} {who}" + (f" ({self.words})" if self.words else "")
