"""A snapshot as it is in one place: that of everywhere, with the endpoint sets that were decided there."""

from __future__ import annotations

from collections.abc import Mapping

from xds_agent.compile.endpoints import load_assignment
from xds_agent.compile.inputs import Settled
from xds_agent.compile.views import Audience
from xds_agent.model import Service, Site
from xds_agent.snapshot.resource import ENDPOINTS, Resource, Snapshot
from xds_agent.steering.deciding import Decisions, Kept, Share


class Placed:
    """Remembers what one audience had, so that a decision that stays is not encoded again."""

    def __init__(self, audience: Audience) -> None:
        assert audience.place is not None
        self._place = audience.place
        self._memory: dict[str, tuple[Service, tuple[Share, ...], Resource]] = {}
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
        endpoints = dict(base.of_type(ENDPOINTS))
        memory: dict[str, tuple[Service, tuple[Share, ...], Resource]] = {}
        for name, kept in mine.items():
            if name not in endpoints:
                continue
            service, shares = settled.services[name], kept.shares
            known = self._memory.get(name)
            if known is None or known[0] is not service or known[1] != shares:
                made = load_assignment(service, site.endpoints_of(service), settled.windows, shares)
                known = (service, shares, Resource.of(ENDPOINTS, name, made))
            memory[name] = known
            endpoints[name] = known[2]
        self._memory = memory
        self._last = Snapshot.after(self._last or base, {**base.resources, ENDPOINTS: endpoints})
        return self._last
