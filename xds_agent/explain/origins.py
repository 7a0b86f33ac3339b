"""Which lines of the inventory are behind a listener, a domain, a route, a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xds_agent.model import Route, Site
from xds_agent.snapshot.resource import CLUSTER, LISTENER

Line = tuple[str, str | None]
_NONE: Line = ("", None)


class Origins:
    """Paths inside the inventory and the places in files, for what a request meets."""

    def __init__(self, site: Site, origin_of: Callable[[str, str], str | None] | None) -> None:
        self._site = site
        self._origin_of = origin_of or (lambda type_url, name: None)

    def _line(self, path: str | None) -> Line:
        return (path, self._site.origin(path)) if path else _NONE

    def of_listener(self, name: str, port: int) -> Line:
        for service in self._site.edge.services:
            if not service.is_http and self._site.edge.listen_port(service) == port:
                return self._line(f"services[{service.name}].listen.port")
        return self._line(self._origin_of(LISTENER, name) or "ports")

    def of_domain(self, name: str | None) -> Line:
        """The declared domain that a name falls under, exact before wildcard."""
        if not name:
            return _NONE
        parent = "*." + name.partition(".")[2]
        for one in (name, parent):
            if one in self._site.edge.domain_by_name:
                return self._line(f"domains[{one}]")
        return _NONE

    def of_cluster(self, name: str) -> Line:
        return self._line(self._origin_of(CLUSTER, name))

    def of_route(self, compiled: Any, domain: str) -> Line:
        """The rule a compiled route was made of, or the service whose domain it is."""
        kind, _, name = compiled.name.partition(" ")
        if kind == "service":
            return self._line(f"services[{name}].domains")
        for index, rule in enumerate(self._site.edge.routes):
            if domain in rule.domains and _same(rule, compiled):
                return self._line(f"routes[{rule.name or index}]")
        return _NONE


def _same(rule: Route, compiled: Any) -> bool:
    """True when the compiled route matches what the rule says, by path and the names of its conditions."""
    match = compiled.match
    kind = match.WhichOneof("path_specifier")
    if kind == "safe_regex":
        path = rule.regex == match.safe_regex.regex
    elif kind == "path":
        path = rule.exact == match.path
    else:
        path = rule.prefix is not None and rule.prefix == getattr(match, kind or "prefix")
    names = sorted(one.name for one in match.headers)
    wanted = sorted([one.name for one in rule.headers] + [":method"] * bool(rule.methods))
    named = rule.name is None or rule.name == compiled.name
    return path and names == wanted and named and _methods(match) >= set(rule.methods)


def _methods(match: Any) -> set[str]:
    """Methods a compiled route takes; empty for all."""
    for one in match.headers:
        if one.name == ":method":
            text = one.string_match
            return {text.exact} if text.exact else set(text.safe_regex.regex.split("|"))
    return set()
