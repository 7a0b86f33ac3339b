"""A revision read into what this host is to do; what has not changed since the last one is not read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import ip_network

from xds_agent.datapath.prefixes import Network, Prefixes
from xds_agent.node.datapath.wanted import (
    Address,
    Class,
    Limits,
    Wanted,
    WantedService,
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


@dataclass(frozen=True)
class _Read:
    """A service as its resources say it."""

    service: WantedService
    place: _Place
    by_vip: bool
    vips: frozenset[Address]

    @cached_property
    def beside_a_vip(self) -> WantedService:
        """Where another service names the vip: that one goes before one that listens on every address."""
        left = tuple(front for front in self.service.fronts if front.address not in self.vips)
        return replace(self.service, fronts=left)


class Reader:
    """Reads one revision after another, by the versions of their resources; equal ones give equal objects."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._addresses: tuple[tuple[Address, ...], tuple[Address, ...]] = ((), ())
        self._before: dict[str, Mapping[str, Resource]] = {}
        self._read: dict[str, _Read] = {}
        self._services: dict[str, WantedService] = {}
        self._taken: frozenset[_Place] = frozenset()
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
        # A copy: what was read before goes on as it was.
        services = dict(self._services)
        for name in names:
            if name not in given:
                services.pop(name, None)
                self._read.pop(name, None)
                continue
            said = pb.Service.FromString(given[name].body.value)
            backends = pb.Reals.FromString(reals[name].body.value) if name in reals else pb.Reals()
            service = service_of(said, backends, by_vip if said.vip else everywhere)
            self._read[name] = _Read(service, (said.protocol, said.port), said.vip, frozenset(by_vip))
        taken = frozenset(one.place for one in self._read.values() if one.by_vip)
        for name in names & self._read.keys() if taken == self._taken else self._read.keys():
            one = self._read[name]
            beside = not one.by_vip and one.place in taken
            services[name] = one.beside_a_vip if beside else one.service
        self._services, self._taken = services, taken

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
    changed = {name for name, one in now.items() if before.get(name) is not one}
    changed = {n for n in changed if n not in before or before[n].version != now[n].version}
    return changed | (before.keys() - now.keys())
