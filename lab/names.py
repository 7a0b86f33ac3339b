"""What clients learn from the clouds' DNS, and for how long they feel that a region is lost."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable

import dns.edns
import dns.exception
import dns.message
import dns.query
import dns.rdatatype

from lab import balancers, checks, client, clients
from lab.checks import Check, Met, Site
from lab.commands import podman
from lab.fabric import running
from lab.place import HostSpec, Place

SERVICE, TIMEOUT_S = "envoy", 5.0
BETWEEN_S = 0.1
# Answered so often in a row, a client has got over it.
ENOUGH = 30

Row = tuple[Check, str, Met]
"""A check, who asked, and what it met."""

EVERY_PLACE = Check("DNS: the site's name", "an address, and served there", lambda *_: Met("", False))
LOST_REGION = Check("DNS: an ingress cloud dies", "felt no longer than its window", lambda *_: Met("", False))


def resolved(place: Place, name: str, near: str) -> tuple[tuple[str, ...], int]:
    """Addresses that a client in the network of ``near`` is given for ``name``, and for how many seconds."""
    query = dns.message.make_query(name, dns.rdatatype.A)
    query.use_edns(options=[dns.edns.ECSOption(near, 32)])
    at = running.names_at(place)
    # Its own socket family and namespace: an answer cut short is asked for again over TCP.
    said, _ = clients.inside(place, lambda: dns.query.udp_with_fallback(query, at, timeout=TIMEOUT_S))
    sets = [one for one in said.answer if one.rdtype == dns.rdatatype.A]
    addresses = tuple(record.address for one in sets for record in one)
    return addresses, min((one.ttl for one in said.answer), default=0)


def measure(site: Site, say: Callable[[str], None], wanted: Callable[[Check], bool]) -> list[Row]:
    """What clients of every region met; nothing where no cloud keeps the site's name."""
    kept = {one.name: one for one in running.read(site.place).names}
    if checks.SHOP not in kept:
        return []
    found: list[Row] = []
    if wanted(EVERY_PLACE):
        say(f"asking DNS for {checks.SHOP} near {len(site.place.balancers)} addresses")
        for front in site.place.balancers:
            found.append((EVERY_PLACE, f"near {front.name}", _tried(lambda one=front: _served(one, site))))
    if wanted(LOST_REGION):
        found += _lost(site, kept[checks.SHOP].window_s, say)
    return found


def _tried(ask: Callable[[], Met]) -> Met:
    try:
        return ask()
    except (OSError, http.client.HTTPException, dns.exception.DNSException) as problem:
        return Met(f"{type(problem).__name__}: {problem}", False)


def _served(front: HostSpec, site: Site) -> Met:
    addresses, _ = resolved(site.place, checks.SHOP, front.address)
    good = bool(addresses) and all(_answers(one, site) for one in addresses)
    clouds = sorted({str(one.cloud) for one in site.place.balancers if one.address in addresses})
    return Met(f"{' and '.join(clouds)}, {'200' if good else 'not served'}", good)


def _answers(address: str, site: Site) -> bool:
    def ask() -> bool:
        answer = client.get(
            address, checks.HTTPS_PORT, checks.SHOP, identity=site.anonymous, timeout_s=TIMEOUT_S
        )
        return answer.status == http.client.OK

    try:
        return clients.inside(site.place, ask)
    except (OSError, http.client.HTTPException):
        return False


def _lost(site: Site, window_s: int, say: Callable[[str], None]) -> list[Row]:
    """Of one region that clients are sent to, and that control does not stand in: its edges stop."""
    own = {host.cloud for host in site.place.in_group("control")}
    fronts = {one.address: one for one in site.place.balancers}
    for near in site.place.balancers:
        addresses, _ = resolved(site.place, checks.SHOP, near.address)
        given = next((fronts[one] for one in addresses if one in fronts), None)
        if given is None or given.cloud in own:
            continue
        edges = balancers.edges_of(site.place, given)
        say(f"stopping {SERVICE} on {', '.join(host.name for host in edges)}")
        met = _without(edges, near.address, addresses, site, window_s)
        return [(LOST_REGION, f"near {near.name}", met)]
    return []


def _without(edges: list[HostSpec], near: str, lost: tuple[str, ...], site: Site, window_s: int) -> Met:
    for host in edges:
        podman("exec", host.container, "systemctl", "stop", SERVICE)
    try:
        felt = felt_s(site, near, limit_s=2 * window_s)
    finally:
        for host in edges:
            podman("exec", host.container, "systemctl", "start", SERVICE)
    if felt is None:
        return Met(f"requests failed for more than {2 * window_s} s", False)
    back = _until(lambda: set(resolved(site.place, checks.SHOP, near)[0]) == set(lost), 2 * window_s)
    words = f"felt for {felt:.0f} s of {window_s} s; the name {'came' if back else 'did not come'} back"
    return Met(words, back and felt <= window_s)


def felt_s(site: Site, near: str, *, limit_s: float) -> float | None:
    """Seconds until the last failed request of a client that keeps answers for their time; None: no end."""
    began = time.monotonic()
    addresses: tuple[str, ...] = ()
    fresh_until, last, good = 0.0, 0.0, 0
    while good < ENOUGH:
        now = time.monotonic()
        if now - began > limit_s:
            return None
        if now >= fresh_until:
            addresses, ttl_s = resolved(site.place, checks.SHOP, near)
            fresh_until = now + ttl_s
        served = bool(addresses) and _answers(addresses[0], site)
        good = good + 1 if served else 0
        if not served:
            last = time.monotonic() - began
        time.sleep(BETWEEN_S)
    return last


def _until(holds: Callable[[], bool], limit_s: float) -> bool:
    end = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(BETWEEN_S)
    return True
