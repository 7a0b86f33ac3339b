"""What a compilation gives: a snapshot for every host, and where in the inventory a resource comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xds_agent.compile.listeners import GRPC, HTTPS, PLAIN
from xds_agent.compile.views import Audience, View, audience_of
from xds_agent.model import SITE_CA, Site
from xds_agent.model.ports import ENVOY_HTTP
from xds_agent.snapshot.resource import (
    ACCESS_LIST,
    CLUSTER,
    DATAPATH_SERVICE,
    ENDPOINTS,
    LISTENER,
    PROTECTION,
    REALS,
    ROUTES,
    RUNTIME,
    SECRET,
    Snapshot,
)
from xds_agent.steering.deciding import Decisions

_PORTS = {PLAIN: "ports.http", HTTPS.name: "ports.https", GRPC.name: "ports.grpc"}


@dataclass(frozen=True)
class Compiled:
    """Views of every host that has a node agent, and the snapshots they share."""

    site: Site
    views: Mapping[str, View]
    by_audience: Mapping[Audience, Snapshot]
    decisions: Decisions

    def snapshot(self, view: View) -> Snapshot:
        """Snapshot of a view. Raises KeyError for a view no host of this site has."""
        return self.by_audience[audience_of(view, self.decisions)]

    def snapshots(self) -> dict[str, Snapshot]:
        """Host -> snapshot; hosts that see the same get the same object."""
        return {host: self.snapshot(view) for host, view in self.views.items()}

    def origin_of(self, type_url: str, name: str) -> str:
        """Path in the inventory of what a resource was made of: `services[shop]`, `certificates[shop]`."""
        if type_url in (CLUSTER, ENDPOINTS, REALS, DATAPATH_SERVICE):
            return ENVOY_HTTP.get(name) or f"services[{name}]"
        if type_url == SECRET:
            return self._of_secret(name)
        if type_url == LISTENER:
            return _PORTS.get(name) or self._of_port(name)
        if type_url == ROUTES:
            return self._of_routes(name)
        if type_url == ACCESS_LIST:
            return {"deny": "protection.deny"}.get(name, "protection.allow")
        return {RUNTIME: "limits", PROTECTION: "protection"}.get(type_url, "")

    def _of_secret(self, name: str) -> str:
        kind, _, own = name.partition("/")
        if kind == "trust":
            return "" if own == SITE_CA else f"authorities[{own}]"
        return f"certificates[{own}]"

    def _of_port(self, listener: str) -> str:
        protocol, _, port = listener.partition("-")
        names = sorted(
            one.name
            for one in self.site.edge.services
            if one.protocol == protocol and one.listen is not None and str(one.listen.port) == port
        )
        return f"services[{names[0]}].listen" if names else "services"

    def _of_routes(self, name: str) -> str:
        """A chain holds many domains: its only one where that is so, else the routes."""
        listener, _, chain = name.partition("/")
        if listener not in _PORTS or not chain:
            return "domains"
        found = [one.name for one in self.site.edge.domains if one.certificate == chain.partition("/")[0]]
        return f"domains[{found[0]}]" if len(found) == 1 else "routes"
