"""A snapshot as it is in one place: that of everywhere, with the endpoint sets and reals decided there."""

from __future__ import annotations

from collections.abc import Mapping

from xds_agent.compile.datapath import reals_resource
from xds_agent.compile.endpoints import load_assignment
from xds_agent.compile.inputs import Settled
from xds_agent.compile.views import Audience
from xds_agent.model import Service, Site
from xds_agent.snapshot.resource import ENDPOINTS, REALS, Resource, Snapshot
from xds_agent.steering.deciding import Decisions, Kept, Share

_Known = tuple[Service, tuple[Share, ...], Resource]


class Placed:
    """Remembers what one audience had, so that a decision that stays is not encoded again."""

    def __init__(self, audience: Audience) -> None:
        assert audience.place is not None
        self._place = audience.place
        self._memory: dict[str, _Known] = {}
        self._base: Snapshot | None = None
        self._decided: Mapping[str, Kept] | None = None
        self._last: Snapshot | None = None

    def snapshot(self, base: Snapshot, site: Site, settled: Settled, decisions: Decisions) -> Snapshot:
        """`base` with this place's shares; a service without any keeps its set."""
        mine = decisions[self._place]
        if self._last is not None and base is self._base and mine is self._decided:
            return self._last
        self._base, self._decided = base, mine
        if settled.places_changed:
            self._memory = {}
        sets: dict[str, dict[str, Resource]] = {kind: dict(base.of_type(kind)) for kind in (ENDPOINTS, REALS)}
        memory: dict[str, _Known] = {}
        for name, kept in mine.items():
            # Envoy's or XDP's: a service has endpoints or reals.
            kind = next((kind for kind, named in sets.items() if name in named), None)
            if kind is None:
                continue
            service, shares = settled.services[name], kept.shares
            known = self._memory.get(name)
            if known is None or known[0] is not service or known[1] != shares or known[2].type_url != kind:
                known = (service, shares, _made(kind, service, site, settled, shares))
            memory[name] = known
            sets[kind][name] = known[2]
        self._memory = memory
        self._last = Snapshot.after(self._last or base, {**base.resources, **sets})
        return self._last


def _made(kind: str, service: Service, site: Site, settled: Settled, shares: tuple[Share, ...]) -> Resource:
    resolved = site.endpoints_of(service)
    if kind == REALS:
        return reals_resource(service, resolved, settled.windows, shares)
    return Resource.of(kind, service.name, load_assignment(service, resolved, settled.windows, shares))
