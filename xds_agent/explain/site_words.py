"""Words for what changes about the site as a whole: tenants, mappings, protection, ports, limits, hosts."""

from __future__ import annotations

from collections.abc import Iterator

from xds_agent.explain.fields import compact, field_changes
from xds_agent.explain.protection_words import protection_words
from xds_agent.explain.said import Said, listed
from xds_agent.model import Edge, Host, Site
from xds_agent.model.edge import Edge as _Edge

# These sections have words of their own.
_TOLD = frozenset(
    {
        *("services", "routes", "domains", "certificates", "authorities"),
        *("ports", "limits", "tenants", "mappings"),
    }
)
PROXY_ROLES = frozenset({"ingress", "egress", "l4"})


def site_words(old: Site | None, new: Site) -> Iterator[Said]:
    """Everything of the edge that belongs to no service and no name, then the hosts."""
    before = old.edge if old else _Edge()
    yield from _proxies_own(before, new.edge)
    for section, noun in (("tenants", "tenant"), ("mappings", "mapping")):
        yield from _named(before, new.edge, section, noun)
    for path, words in field_changes(before, new.edge, skip=_TOLD):
        yield Said(f"{path} {words}", path)
    yield from protection_words(old, new)
    if old is not None:
        yield from _hosts(old, new)


def _proxies_own(old: Edge, new: Edge) -> Iterator[Said]:
    for path, words in field_changes(old.ports, new.ports):
        what = "address family" if path == "family" else f"port {path}"
        yield Said(f"the proxies' own {what} {words}", f"ports.{path}")
    for path, words in field_changes(old.limits, new.limits):
        yield Said(f"each proxy's limit {path} {words}", f"limits.{path}")


def _named(old: Edge, new: Edge, section: str, noun: str) -> Iterator[Said]:
    before = {one.name: one for one in getattr(old, section)}
    after = {one.name: one for one in getattr(new, section)}
    for name in (*before, *(name for name in after if name not in before)):
        path = f"{section}[{name}]"
        if name not in after:
            yield Said(f"{noun} {name} is removed", path)
        elif name not in before:
            yield Said(f"new {noun} {name}: {compact(after[name], skip=('name',))}", path)
        else:
            for field, words in field_changes(before[name], after[name]):
                yield Said(f"{noun} {name}: {field} {words}", f"{path}.{field}")
    if [name for name in before if name in after] != [name for name in after if name in before]:
        text = f"{section} are listed in another order; nothing else follows from it"
        yield Said(text, section, reaches_proxies=False)


def _hosts(old: Site, new: Site) -> Iterator[Said]:
    for name in (*old.hosts, *(name for name in new.hosts if name not in old.hosts)):
        was, now = old.hosts.get(name), new.hosts.get(name)
        path = f"hosts.{name}"
        if was is None and now is not None:
            # A proxy that comes is told with what it gets; see proxy_words.
            if not is_proxy(now):
                yield Said(f"host {name} joins: {compact(now, skip=('name',))}", path, reaches_proxies=False)
        elif now is None and was is not None:
            if not is_proxy(was):
                yield Said(f"host {name} leaves the inventory", path, reaches_proxies=False)
        elif was is not None and now is not None and was != now:
            yield from _host(path, was, now)
    common = [[name for name in site.hosts if name in old.hosts and name in new.hosts] for site in (old, new)]
    if common[0] != common[1]:
        yield Said(
            "hosts are listed in another order; nothing else follows from it", "hosts", reaches_proxies=False
        )


def _host(path: str, was: Host, now: Host) -> Iterator[Said]:
    if was.roles != now.roles:
        words = f"{listed(sorted(was.roles)) or 'nothing'} -> {listed(sorted(now.roles)) or 'nothing'}"
        yield Said(f"host {now.name} changes its roles: {words}", f"{path}.groups", reaches_proxies=False)
    for field, words in field_changes(was, now):
        yield Said(f"host {now.name}: {field} {words}", f"{path}.{field}", reaches_proxies=False)


def is_proxy(host: Host) -> bool:
    """True for hosts that carry traffic: ingress, egress or l4."""
    return bool(PROXY_ROLES & host.roles)
