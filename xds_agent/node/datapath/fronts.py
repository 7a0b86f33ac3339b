"""Services of the maps by where their packets arrive.

A service hashed by addresses also takes the fragments for its address, which carry no port: an entry of
port 0. Of several such services at one address and protocol that of the lowest port has it, on every host
the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from xds_agent.datapath.services import Service, Tables
from xds_agent.node.datapath.wanted import Front


class Fronts:
    """What is written; whatever raises midway may be asked for again. Raises OSError, ValueError."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        # None: found in a program that ran already, not written by us.
        self._written: dict[Front, Service | None] = {}
        self._takers: dict[Front, dict[Front, Service]] = {}

    def adopt(self, live: Iterable[Front]) -> None:
        """All that the maps hold, entries of port 0 too."""
        self._written = dict.fromkeys(live)
        self._takers = {}

    def written(self) -> list[Service]:
        """What we wrote, by fronts."""
        return [service for service in self._written.values() if service is not None]

    def beside(self, wanted: Iterable[Front]) -> set[Front]:
        """What is written and none of these."""
        return self._written.keys() - set(wanted)

    def put(self, front: Front, service: Service) -> None:
        """Nothing is written that is there already."""
        if self._written.get(front) == service:
            return
        self._tables.put_service(service, fragments=False)
        self._take(front, service if service.hash_addresses and front.port else None)
        self._written[front] = service

    def delete(self, fronts: Iterable[Front]) -> None:
        """Those that are written; an entry of port 0 stays as long as somebody takes the fragments."""
        for front in self._written.keys() & set(fronts) - self._takers.keys():
            self._tables.delete_service(_named(front))
            self._take(front, None)
            del self._written[front]

    def _take(self, front: Front, service: Service | None) -> None:
        """From now on fragments of `front` belong to `service`, None: to nobody."""
        place = replace(front, port=0)
        before = self._takers.get(place, {})
        if before.get(front) == service:
            return
        takers = {port: one for port, one in before.items() if port != front}
        if service is not None:
            takers[front] = service
        if takers:
            self._tables.put_fragments(takers[min(takers, key=lambda one: one.port)])
            self._takers[place] = takers
        else:
            self._tables.delete_service(_named(place))
            self._written.pop(place, None)
            del self._takers[place]


def _named(front: Front) -> Service:
    return Service(0, front.address, front.port, front.protocol)
