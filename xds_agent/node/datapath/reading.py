"""A revision read into what this host is to do; what has not changed since the last one is not read again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network

from xds_agent.datapath.prefixes import Network, Prefixes
from xds_agent.node.datapath.wanted import (
    Address,
    Class,
    Limits,
    Services,
    Wanted,
    WantedService,
    differing,
    limits_of,
    list_of,
    service_of,
)
from xds_agent.proto import datapath_pb2 as pb
from xds_agent.snapshot.resource import (
    ACCESS_LIST,
    DATAPATH_SERVICE,
    DATAPATH_TYPES,
    PROTECTION,
    REALS,
    Resource,
    Snapshot,
)

_Place = tuple[int, int]
"""Protocol and port, as a resource says them."""


@dataclass(slots=True)
class _Read:
    """A service as its resources say it."""

    service: WantedService
    place: _Place
    by_vip: bool
    beside: WantedService | None = None

    def beside_a_vip(self, vips: Collection[Address]) -> WantedService:
        """Where another service names the vip: that one goes before one that listens on every address. Asked
        again, the same object."""
        if self.beside is None:
            left = tuple(front for front in self.service.fronts if front.address not in vips)
            self.beside = replace(self.service, fronts=left)
        return self.beside


class Reader:
    """Reads one revision after another, by the versions of their resources; equal ones give equal objects."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._addresses: tuple[tuple[Address, ...], tuple[Address, ...]] = ((), ())
        self._before: dict[str, Mapping[str, Resource]] = {}
        self._read: dict[str, _Read] = {}
        self._services = Services({}, {})
        # A tuple, which has mostly one: ten thousand sets would take two mebibytes.
        self._at: dict[_Place, tuple[str, ...]] = {}
        self._limits = Limits()
        self._lists: tuple[tuple[Prefixes, Class], ...] = ()
        self._timed: tuple[tuple[Network, int], ...] = ()

    def read(self, snapshot: Snapshot, *, own: Iterable[Address], vips: Iterable[Address]) -> Wanted:
        """`own`: addresses of the interfaces; `vips`: those of services on a vip.

        Raises google.protobuf.message.DecodeError, ValueError for what no version of the compiler makes.
        """
        by_vip = tuple(vips)
        everywhere = tuple(dict.fromkeys((*own, *by_vip)))
        if (everywhere, by_vip) != self._addresses:
            self._forget()
        # What fails midway is read anew.
        before, self._before = self._before, {}
        given = {kind: snapshot.of_type(kind) for kind in DATAPATH_TYPES}
        changed = {kind: _differing(before.get(kind, {}), given[kind]) for kind in DATAPATH_TYPES}
        if not before:
            self._forget()
        if names := changed[DATAPATH_SERVICE] | changed[REALS]:
            self._services_of(names, given[DATAPATH_SERVICE], given[REALS], everywhere, by_vip)
        if changed[PROTECTION]:
            said = [pb.Protection.FromString(one.body.value) for one in given[PROTECTION].values()]
            self._limits = limits_of(said[-1]) if said else Limits()
        if changed[ACCESS_LIST]:
            self._lists_of(given[ACCESS_LIST])
        self._before, self._addresses = given, (everywhere, by_vip)
        return Wanted(self._services, self._limits, self._lists, self._timed, frozenset(everywhere))

    def _services_of(
        self, names: set[str], given: Mapping[str, Resource], reals: Mapping[str, Resource],
        everywhere: tuple[Address, ...], by_vip: tuple[Address, ...],
    ) -> None:  # fmt: skip
        edited: dict[str, WantedService | None] = {}
        # Whoever shares a place with one that comes, goes or moves may be another one by it.
        places = {one.place for name in names if (one := self._read.get(name))}
        for name in names:
            if name not in given:
                if name in self._services:
                    edited[name] = None
                self._leave(name)
                continue
            said = pb.Service.FromString(given[name].body.value)
            backends = pb.Reals.FromString(reals[name].body.value) if name in reals else pb.Reals()
            service = service_of(said, backends, by_vip if said.vip else everywhere)
            self._leave(name)
            place: _Place = said.protocol, said.port
            self._read[name] = _Read(service, place, said.vip)
            self._at[place] = (*self._at.get(place, ()), name)
            places.add(place)
        for place in places:
            there = {name: self._read[name] for name in self._at.get(place, ())}
            taken = any(one.by_vip for one in there.values())
            for name, one in there.items():
                found = one.beside_a_vip(by_vip) if taken and not one.by_vip else one.service
                if found is not self._services.get(name):
                    edited[name] = found
        # Another one: what was read before goes on as it was.
        self._services = Services(self._services, edited)

    def _leave(self, name: str) -> None:
        if (one := self._read.pop(name, None)) is None:
            return
        if left := tuple(other for other in self._at[one.place] if other != name):
            self._at[one.place] = left
        else:
            del self._at[one.place]

    def _lists_of(self, given: Mapping[str, Resource]) -> None:
        said = [pb.AccessList.FromString(one.body.value) for one in given.values()]
        # Probes of clouds and the site's own hosts stay exempt, whatever list names them too: last.
        self._lists = tuple(sorted(map(list_of, said), key=lambda one: one[1] == "exempt"))
        self._timed = tuple((ip_network(one.network), one.until) for list_ in said for one in list_.timed)


def wanted_of(snapshot: Snapshot, *, own: Iterable[Address], vips: Iterable[Address]) -> Wanted:
    """Of one revision alone; as `Reader.read`."""
    return Reader().read(snapshot, own=own, vips=vips)


def _differing(before: Mapping[str, Resource], now: Mapping[str, Resource]) -> set[str]:
    """Names that came, went, or have another version."""
    if before is now:
        return set()
    return {
        name
        for name in differing(before, now)
        if name not in before or name not in now or before[name].version != now[name].version
    }
