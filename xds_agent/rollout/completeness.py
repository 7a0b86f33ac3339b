"""An incomplete view never removes.

An inventory read without one of its files, sources or hosts looks exactly like one from which they were
taken out. What would disappear must therefore be named.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from xds_agent.model import Site

PROXY_ROLES = frozenset({"ingress", "egress", "l4"})


@dataclass(frozen=True)
class Removal:
    """Something that would disappear; `name` is what allow_removal must name."""

    name: str
    text: str


def removals(old: Site, new: Site) -> list[Removal]:
    """Services and proxies that would go, and services that would lose over a tenth of their endpoints."""
    found = []
    services = new.edge.service_by_name
    for service in old.edge.services:
        successor = services.get(service.name)
        if successor is None:
            found.append(Removal(service.name, f"service {service.name} would be removed"))
            continue
        before, after = len(old.endpoints_of(service)), len(new.endpoints_of(successor))
        if (before - after) * 10 > before:
            text = f"service {service.name} would keep {after} of its {before} endpoints"
            found.append(Removal(service.name, text))
    kept = proxies(new)
    found += [Removal(name, f"proxy {name} would be removed") for name in sorted(proxies(old) - kept)]
    return found


def not_allowed(found: Collection[Removal], allowed: Collection[str]) -> list[Removal]:
    return [one for one in found if one.name not in allowed]


def proxies(site: Site) -> set[str]:
    """Names of the hosts that are proxies."""
    return {name for name, host in site.hosts.items() if PROXY_ROLES & set(host.groups)}
