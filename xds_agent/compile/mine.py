"""What one audience holds of the services: kept from one compilation to the next, and patched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xds_agent.compile import tcp, udp
from xds_agent.compile.parts import Parts
from xds_agent.model import Service
from xds_agent.snapshot.resource import DATAPATH_SERVICE, REALS, Resource


@dataclass(frozen=True, slots=True)
class Mine:
    """Parts of an audience's services by name, and the collections that its snapshot is made of."""

    parts: dict[str, Parts]
    datapath: dict[str, dict[str, Resource]]
    # What XDP and tc do beside Envoy, by the service's name.
    marked: dict[str, Resource]
    clusters: dict[str, Resource]
    endpoints: dict[str, Resource]
    secrets: frozenset[str]
    # TCP and UDP services by the name of their listener, sorted.
    by_port: dict[str, list[Service]]

    @classmethod
    def of(cls, parts: Iterable[Parts]) -> Mine:
        """Collect parts."""
        named = {one.service.name: one for one in parts}
        return cls(
            parts=named,
            datapath=_datapath(named),
            marked=_marked(named),
            clusters={name: one.cluster for name, one in named.items() if one.cluster is not None},
            endpoints={name: one.endpoints for name, one in named.items() if one.endpoints is not None},
            secrets=frozenset(name for one in named.values() if one.secrets for name in one.secrets),
            by_port=_by_port(named.values()),
        )

    def exchanged(self, touched: Sequence[Parts]) -> Mine:
        """With other parts in place of those of the same names."""
        if not touched:
            return self
        parts = dict(self.parts)
        parts.update((one.service.name, one) for one in touched)
        if any(_shape(self.parts[one.service.name]) != _shape(one) for one in touched):
            return Mine.of(parts.values())
        clusters, endpoints = dict(self.clusters), dict(self.endpoints)
        for one in touched:
            if one.cluster is not None:
                clusters[one.service.name] = one.cluster
            if one.endpoints is not None:
                endpoints[one.service.name] = one.endpoints
        datapath = _datapath(parts) if any(one.datapath for one in touched) else self.datapath
        marked = _marked(parts) if any(one.marked for one in touched) else self.marked
        return Mine(parts, datapath, marked, clusters, endpoints, self.secrets, self.by_port)


def _datapath(parts: Mapping[str, Parts]) -> dict[str, dict[str, Resource]]:
    """Services of XDP's tiers and their reals, by type."""
    served = {name: one.datapath for name, one in parts.items() if one.datapath is not None}
    return {
        DATAPATH_SERVICE: {name: service for name, (service, _) in served.items()},
        REALS: {name: reals for name, (_, reals) in served.items()},
    }


def _marked(parts: Mapping[str, Parts]) -> dict[str, Resource]:
    return {name: one.marked for name, one in parts.items() if one.marked is not None}


def _shape(one: Parts) -> tuple[object, ...]:
    """What decides which collections a service is in."""
    own = None if one.service.is_http else one.service
    return one.tier.by_xdp, one.marked is None, one.endpoints is None, one.secrets, own


def _by_port(parts: Iterable[Parts]) -> dict[str, list[Service]]:
    """What XDP serves has no listener."""
    found: dict[str, list[Service]] = {}
    for one in parts:
        service = one.service
        if service.is_http or one.tier.by_xdp:
            continue
        listen = service.listen
        if listen is None or listen.port is None:
            continue
        if service.protocol == "tcp":
            found.setdefault(tcp.listener_name(listen.port), []).append(service)
        elif service.protocol == "udp":
            found.setdefault(udp.listener_name(listen.port), []).append(service)
    return {name: sorted(found[name], key=lambda one: one.name) for name in sorted(found)}
