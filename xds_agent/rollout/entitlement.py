"""Whose edge a change touches: a socket of some tenants refuses what reaches beyond them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from xds_agent.model import Site

# What no tenant owns.
_SITE_WIDE = ("tenants", "protection", "clouds", "maintenance", "rollout", "ports", "limits")

# (owner, what): owner None is the whole site.
Touch = tuple[str | None, str]


def beyond(old: Site | None, new: Site, allowed: Iterable[str]) -> list[str]:
    """What the change touches outside the allowed tenants, in words; empty when it may go ahead."""
    mine = set(allowed)
    outside = sorted({(owner or "", what) for owner, what in touched(old, new) if owner not in mine})
    return [
        f"{what} (of tenant {owner})" if owner else f"{what} (of the whole site)" for owner, what in outside
    ]


def touched(old: Site | None, new: Site) -> list[Touch]:
    """Every part that differs, with each tenant that owns it before or after."""
    found: list[Touch] = []
    for site, other in ((old, new), (new, old)):
        if site is None:
            continue
        found += _named("service", _by_name(site.edge.services), _names(other, "services"))
        found += _named("domain", _by_name(site.edge.domains), _names(other, "domains"))
        found += _named("mapping", _by_name(site.edge.mappings), _names(other, "mappings"))
        found += _routes(site, other)
        users = _users(site)
        for kind, attribute in (("certificate", "certificates"), ("authority", "authorities")):
            theirs = _names(other, attribute)
            for name, one in _by_name(getattr(site.edge, attribute)).items():
                if theirs.get(name) != one:
                    found += [(owner, f"{kind} {name}") for owner in users.get((kind, name), {None})]
        for attribute in _SITE_WIDE:
            if other is None or getattr(other.edge, attribute) != getattr(site.edge, attribute):
                found.append((None, attribute))
        if other is None or dict(other.hosts) != dict(site.hosts):
            found.append((None, "hosts"))
    return found


def _by_name(items: Iterable[Any]) -> dict[str, Any]:
    return {one.name: one for one in items}


def _names(site: Site | None, attribute: str) -> dict[str, Any]:
    return {} if site is None else _by_name(getattr(site.edge, attribute))


def _named(kind: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Touch]:
    return [(one.tenant, f"{kind} {name}") for name, one in ours.items() if theirs.get(name) != one]


def _routes(site: Site, other: Site | None) -> list[Touch]:
    """Routes have no name of their own: the tenants of their domains own them."""
    counts = Counter(route.model_dump_json() for route in (other.edge.routes if other else ()))
    found: list[Touch] = []
    for route in site.edge.routes:
        text = route.model_dump_json()
        if counts[text] > 0:
            counts[text] -= 1
            continue
        for name in route.domains:
            domain = site.edge.domain_by_name.get(name)
            found.append((domain.tenant if domain else None, f"a route of {name}"))
    return found


def _users(site: Site) -> dict[tuple[str, str], set[str | None]]:
    """Tenants that use each certificate and authority."""
    users: dict[tuple[str, str], set[str | None]] = {}
    for domain in site.edge.domains:
        users.setdefault(("certificate", domain.certificate), set()).add(domain.tenant)
        if domain.client_ca:
            users.setdefault(("authority", domain.client_ca), set()).add(domain.tenant)
    for service in site.edge.services:
        tls = service.upstream_tls
        if tls is None:
            continue
        if tls.client_certificate:
            users.setdefault(("certificate", tls.client_certificate), set()).add(service.tenant)
        if tls.ca:
            users.setdefault(("authority", tls.ca), set()).add(service.tenant)
    return users
