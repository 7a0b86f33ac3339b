"""Which lines of the inventory are behind a listener, a domain, a route, a cluster."""

from __future__ import annotations

from collections.abc import Callable

from xds_agent.explain.target import Target
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

    def of_route(self, name: str, domain: str, path: str, target: Target) -> Line:
        """The route by its compiled name where that is a path of the inventory, else by what it matches."""
        if name.startswith(("routes[", "services[")):
            return self._line(name)
        return _NONE


def label(index: int, route: Route) -> str:
    """How paths of the inventory call a route."""
    return f"routes[{route.name or index}]"
