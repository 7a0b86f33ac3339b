"""What the lab asks of its proxies: each check sends real requests to one proxy and says what they met."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import grpc

from lab import client, wanted
from lab.client import Identity
from lab.place import HostSpec, Place

SHOP, PARTNERS = "shop.example.com", "partners.example.com"
CHAT, GRPC = "chat.example.com", "grpc.example.com"
HTTP_PORT, HTTPS_PORT, GRPC_PORT, ECHO_PORT = 80, 443, 8080, 7000
SPLIT_PREFIX, SPLIT_SERVICE, SPLIT_REQUESTS = "/api", "shop-v2", 1000
# A count this many standard deviations away from what the inventory says is not chance.
DEVIATIONS = 5


@dataclass(frozen=True)
class Met:
    """What a check met, in words, and whether that is as expected."""

    words: str
    as_expected: bool


@dataclass(frozen=True)
class Check:
    """A question to one proxy."""

    name: str
    expected: str
    ask: Callable[[HostSpec, Site], Met]


@dataclass(frozen=True)
class Site:
    """What clients need to know of the lab: its hosts, and the certificates they trust and show."""

    place: Place
    trust: Path

    @property
    def anonymous(self) -> Identity:
        return Identity(self.trust)

    @cached_property
    def second_version_share(self) -> float:
        """The share of /api that the inventory gives to version 2 now: users are told to edit it."""
        shares: dict[str, float] = wanted.split(self.place, SPLIT_PREFIX)
        return shares.get(SPLIT_SERVICE, 0.0)

    def partner(self, name: str) -> Identity:
        folder = self.place.state / "partners"
        return Identity(self.trust, folder / f"{name}.crt", folder / f"{name}.key")


def redirect(proxy: HostSpec, site: Site) -> Met:
    answer = client.get(proxy.address, HTTP_PORT, SHOP, "/cart?item=7")
    target = answer.headers.get("location", "nowhere")
    return Met(
        f"{answer.status} to {target}", (answer.status, target) == (301, f"https://{SHOP}/cart?item=7")
    )


def tls(proxy: HostSpec, site: Site) -> Met:
    answer = client.get(proxy.address, HTTPS_PORT, SHOP, identity=site.anonymous)
    good = answer.status == 200 and answer.tls == "TLSv1.3" and bool(answer.host)
    return Met(f"{answer.status} over {answer.tls} from {answer.host}", good)


def http2(proxy: HostSpec, site: Site) -> Met:
    protocol = client.negotiated_protocol(proxy.address, HTTPS_PORT, SHOP, site.anonymous)
    return Met(str(protocol), protocol == "h2")


def partner_accepted(proxy: HostSpec, site: Site) -> Met:
    answer = client.get(proxy.address, HTTPS_PORT, PARTNERS, identity=site.partner("client"))
    return Met(f"{answer.status} from {answer.host}", answer.status == 200)


def _refused(proxy: HostSpec, identity: Identity, alert: str) -> Met:
    words = client.refusal(proxy.address, HTTPS_PORT, PARTNERS, identity)
    return Met(words or "let in", words is not None and alert in words)


def nobody_refused(proxy: HostSpec, site: Site) -> Met:
    return _refused(proxy, site.anonymous, "certificate required")


def stranger_refused(proxy: HostSpec, site: Site) -> Met:
    return _refused(proxy, site.partner("stranger"), "unknown ca")


def revoked_refused(proxy: HostSpec, site: Site) -> Met:
    return _refused(proxy, site.partner("revoked"), "certificate revoked")


def misdirected(proxy: HostSpec, site: Site) -> Met:
    answer = client.get(proxy.address, HTTPS_PORT, PARTNERS, sni=SHOP, identity=site.anonymous)
    return Met(str(answer.status), answer.status == 421)


def echoed(answer: str | bytes, message: str) -> Met:
    """Judge the answer of a backend that says who it is, as JSON, and repeats what it got."""
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    named = re.search(r'"host": "([^"]+)"', text)
    if named and message in text:
        return Met(f"echoed by {named[1]}", True)
    return Met(f"got {text[:80]!r}", False)


def grpc_echo(proxy: HostSpec, site: Site) -> Met:
    message = f"hello through {proxy.name}"
    method = "/marchproxy.lab.Echo/Say"
    try:
        answer = client.grpc_unary(proxy.address, GRPC_PORT, GRPC, method, message.encode(), site.anonymous)
    except grpc.RpcError as problem:
        return Met(f"{problem.code().name}: {problem.details()}", False)
    return echoed(answer, message)


def websocket(proxy: HostSpec, site: Site) -> Met:
    message = f"hello through {proxy.name}"
    return echoed(client.websocket_echo(proxy.address, HTTPS_PORT, CHAT, message, site.anonymous), message)


def tcp(proxy: HostSpec, site: Site) -> Met:
    message = f"ping {proxy.name}"
    return echoed(client.tcp_echo(proxy.address, ECHO_PORT, message.encode()), message)


def split(proxy: HostSpec, site: Site) -> Met:
    versions: Counter[str] = Counter()
    with client.Connection(proxy.address, HTTPS_PORT, sni=SHOP, identity=site.anonymous) as connection:
        for _ in range(SPLIT_REQUESTS):
            answer = connection.get(SPLIT_PREFIX, SHOP)
            versions[answer.json().get("version", "?") if answer.status == 200 else str(answer.status)] += 1
    share = site.second_version_share
    good = set(versions) <= {"v1", "v2"} and is_likely(versions["v2"], SPLIT_REQUESTS, share)
    words = ", ".join(f"{count} {version}" for version, count in versions.most_common())
    return Met(words if good else f"{words}; the inventory says {share:.0%} v2", good)


def is_likely(count: int, of: int, share: float) -> bool:
    """Whether ``count`` of ``of`` requests may well have met what each meets with probability ``share``."""
    return abs(count - of * share) <= DEVIATIONS * math.sqrt(of * share * (1 - share))


def source(proxy: HostSpec, site: Site) -> Met:
    """The backend, in another network for most proxies, must see the proxy's own address."""
    answer = client.get(proxy.address, HTTPS_PORT, SHOP, identity=site.anonymous)
    seen = str(answer.json().get("client"))
    return Met(f"{answer.host} saw {seen}", seen == proxy.address)


EVERY_PROXY = (
    Check("80 redirects to 443", f"301 to https://{SHOP}", redirect),
    Check("TLS, chain verified", "200 over TLSv1.3", tls),
    Check("HTTP/2", "h2", http2),
    Check("mTLS, a partner", "200", partner_accepted),
    Check("mTLS, no certificate", "alert certificate required", nobody_refused),
    Check("mTLS, a stranger's", "alert unknown ca", stranger_refused),
    Check("mTLS, a revoked one", "alert certificate revoked", revoked_refused),
    Check("lax name, strict Host", "421", misdirected),
    Check("gRPC", "echoed", grpc_echo),
    Check("WebSocket", "echoed", websocket),
    Check("TCP", "echoed", tcp),
    Check("weighted split", f"{SPLIT_REQUESTS} requests as the inventory says", split),
    Check("source address", "the proxy's own", source),
)
