"""A URL as the connection and the request that a client would make of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from xds_agent.model import Host, Ports

_TLS = frozenset({"https", "wss", "grpc", "grpcs", "tls"})
_HTTP = frozenset({"http", "https", "ws", "wss", "grpc", "grpcs"})
_SCHEMES = _TLS | _HTTP | {"tcp", "udp"}


Place = Literal["vip", "own"]
"""Which of a host's addresses: its vip, or any other."""


class BadUrl(ValueError):
    """The URL cannot be asked about; the words say why and how to write it."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a client does: connect to a port, perhaps with TLS and a server name, and send one request."""

    port: int
    udp: bool
    tls: bool
    http: bool
    sni: str | None
    """Server name of the TLS hello, lower case; None without TLS or for an address."""
    host: str
    """Host header, lower case, without port."""
    path: str
    headers: Mapping[str, str]
    """Lower-case names, the pseudo headers included."""
    client_certificate: bool

    def __str__(self) -> str:
        method = self.headers.get(":method", "")
        return f"{method} {self.headers[':scheme']}://{self.headers[':authority']}{self.path}".strip()


def target_of(
    url: str,
    ports: Ports,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    client_certificate: bool = False,
    sni: str | None = None,
) -> Target:
    """Read a URL: http, https, ws, wss, grpc, tcp, tls, udp; https without a scheme. Raises BadUrl."""
    if "://" not in url:
        url = f"https://{url}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadUrl(f"{url} is not a URL: {error}") from error
    scheme = parts.scheme.lower()
    if scheme not in _SCHEMES:
        raise BadUrl(f"{scheme}:// is not known; write one of {', '.join(sorted(_SCHEMES))}")
    given = {name.lower(): value for name, value in (headers or {}).items()}
    name = (parts.hostname or "").lower()
    host = _without_port(given.get("host", name)).lower()
    if not name and not host:
        raise BadUrl(f"{url} names no host; write https://shop.example.com/path")
    defaults = {"http": ports.http, "ws": ports.http, "https": ports.https, "wss": ports.https}
    defaults |= {"grpc": ports.grpc, "grpcs": ports.grpc}
    if port is None:
        port = defaults.get(scheme)
    if port is None:
        raise BadUrl(f"{scheme}:// needs a port, for example {scheme}://{name or 'edge'}:7000")
    tls = scheme in _TLS
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    wire = {":method": "POST" if scheme.startswith("grpc") and method == "GET" else method.upper()}
    wire |= {
        ":path": path,
        ":scheme": "https" if tls else "http",
        ":authority": given.pop("host", parts.netloc),
    }
    if scheme.startswith("grpc"):
        wire["content-type"] = "application/grpc"
    if scheme in ("ws", "wss"):
        wire |= {"connection": "upgrade", "upgrade": "websocket"}
    asked = (sni if sni is not None else name).lower()
    return Target(
        port=port,
        udp=scheme == "udp",
        tls=tls,
        http=scheme in _HTTP,
        sni=asked if tls and asked and not _is_address(asked) else None,
        host=host,
        path=path,
        headers={**wire, **given} if scheme in _HTTP else {":scheme": scheme, ":authority": parts.netloc},
        client_certificate=client_certificate,
    )


def place_of(target: Target, hosts: Iterable[Host]) -> Place | None:
    """Which addresses the URL names, by address, name or the word vip; None where that is not decided."""
    name = (urlsplit(f"//{target.headers[':authority']}").hostname or "").lower()
    known = tuple(hosts)
    if name == "vip" or any(name == host.vip for host in known):
        return "vip"
    own = (text for host in known for text in (host.name.lower(), host.address, host.private_address))
    return "own" if name in own else None


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    return ":" in name or name.rpartition(".")[2].isdigit()
