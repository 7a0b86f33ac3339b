"""What clients in a network of their own meet at the addresses of the clouds' load balancers."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable

from lab import checks, client, clients
from lab.checks import Check, Met, Site
from lab.commands import podman
from lab.place import HostSpec, Place

SERVICE = "envoy"
# AWS asks every ten seconds and believes the second answer, of one that fails and of one that is back.
WINDOW_S = 60.0
# Requests on connections of their own: a balancer with two edges sends all to one with a chance of 1 to 2^40.
ENOUGH = 40
# An edge that has not answered by then is taken for dead.
DEAD_S = 5.0


def redirect(front: HostSpec, site: Site) -> Met:
    return clients.inside(site.place, lambda: checks.redirect(front, site))


def tls(front: HostSpec, site: Site) -> Met:
    """An edge answers, and knows the client by its own address."""
    answer = clients.inside(site.place, lambda: _get(front, site))
    own, seen = clients.address(site.place, clients.ORDINARY), str(answer.json().get("forwarded"))
    return Met(f"{answer.status}, the edge saw {seen}", answer.status == 200 and seen == own)


def tcp(front: HostSpec, site: Site) -> Met:
    return clients.inside(site.place, lambda: checks.tcp(front, site))


def _get(front: HostSpec, site: Site) -> client.Answer:
    return client.get(front.address, checks.HTTPS_PORT, checks.SHOP, identity=site.anonymous)


EVERY_ADDRESS = (
    Check("balancer: 80 redirects to 443", f"301 to https://{checks.SHOP}", redirect),
    Check("balancer: TLS, client's address", "200, the edge saw the client", tls),
    Check("balancer: TCP", "echoed", tcp),
)
DEAD_EDGE = Check("balancer: an edge dies", "left out, and taken back", lambda *_: Met("", False))


def dead_edges(site: Site, say: Callable[[str], None]) -> dict[str, Met]:
    """Name of a balancer's address -> what clients met while Envoy stood still on one of its edges.

    Of regions with more than one edge. Until the balancer notices, requests may fail.
    """
    found: dict[str, Met] = {}
    for cloud, region in dict.fromkeys((one.cloud, *one.groups) for one in site.place.balancers):
        fronts = [one for one in site.place.balancers if (one.cloud, *one.groups) == (cloud, region)]
        edges = edges_of(site.place, fronts[0])
        if len(edges) < 2:
            continue
        met = _without(edges[0], [one.address for one in fronts], site, say)
        found |= {one.name: met for one in fronts}
    return found


def edges_of(place: Place, front: HostSpec) -> list[HostSpec]:
    """The edges of the region that a balancer's address is of."""
    of_region = f"-{front.cloud}-{front.groups[0]}-"
    return [host for host in place.in_group("ingress") if of_region in host.name]


def _without(edge: HostSpec, addresses: list[str], site: Site, say: Callable[[str], None]) -> Met:
    say(f"stopping {SERVICE} on {edge.name}")
    podman("exec", edge.container, "systemctl", "stop", SERVICE)
    try:
        out = _until(lambda seen: all(one not in ("", edge.address) for one in seen), addresses, site)
    finally:
        podman("exec", edge.container, "systemctl", "start", SERVICE)
    if out is None:
        return Met(f"requests failed for more than {WINDOW_S:g} s", False)
    back = _until(lambda seen: "" not in seen and edge.address in seen, addresses, site)
    if back is None:
        return Met(f"left out in {out:.0f} s, not taken back", False)
    return Met(f"left out in {out:.0f} s, none failed after; taken back in {back:.0f} s", True)


def _until(holds: Callable[[list[str]], bool], addresses: list[str], site: Site) -> float | None:
    """Seconds until what ENOUGH requests met holds; None if it did not within WINDOW_S."""
    began = time.monotonic()
    while (took := time.monotonic() - began) < WINDOW_S:
        seen = clients.inside(site.place, lambda: [_server(one, site) for one in addresses * ENOUGH])
        if holds(seen):
            return took
    return None


def served_by(address: str, site: Site) -> str:
    """The edge that answers a client, as the backend sees it; empty if nobody does."""
    return clients.inside(site.place, lambda: _server(address, site))


def _server(address: str, site: Site) -> str:
    try:
        answer = client.get(
            address, checks.HTTPS_PORT, checks.SHOP, identity=site.anonymous, timeout_s=DEAD_S
        )
    except (OSError, http.client.HTTPException):
        return ""
    return str(answer.json().get("client")) if answer.status == 200 else ""
