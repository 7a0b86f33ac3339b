"""Virtual hosts of every domain, remade only where what they lead to has changed."""

from __future__ import annotations

from collections.abc import Mapping

from xds_agent.compile.inputs import Settled
from xds_agent.compile.table import Rules, Table
from xds_agent.compile.virtual_hosts import virtual_host
from xds_agent.model import Service

Frames = Mapping[str, Mapping[str, bytes]]
_Key = tuple[Rules, tuple[Service, ...]]


class Hosts:
    """Frames (encoded virtual hosts) by listener and domain, with what each was made of."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], _Key] = {}
        self._frames: dict[str, dict[str, bytes]] = {}

    def frames(self, table: Table, settled: Settled) -> Frames:
        """Frames of every domain. Mappings that did not change are the same objects as before."""
        if settled.names_changed or not self._frames:
            self._all(table, settled.services)
            return self._frames
        stale = {place for name in settled.touched for place in table.users.get(name, ())}
        if stale:
            self._frames = {kind: dict(frames) for kind, frames in self._frames.items()}
            for kind, name in stale:
                self._frames[kind][name] = self._frame(kind, name, table.hosts[kind][name], settled.services)
        return self._frames

    def _all(self, table: Table, services: Mapping[str, Service]) -> None:
        old_keys, old = self._keys, self._frames
        self._keys, self._frames = {}, {}
        for kind, hosts in table.hosts.items():
            here = self._frames[kind] = {}
            for name, rules in hosts.items():
                key = (rules, tuple(services[one] for one in rules.services))
                if name in old.get(kind, ()) and old_keys[kind, name] == key:
                    self._keys[kind, name], here[name] = key, old[kind][name]
                else:
                    here[name] = self._frame(kind, name, rules, services)

    def _frame(self, kind: str, name: str, rules: Rules, services: Mapping[str, Service]) -> bytes:
        self._keys[kind, name] = (rules, tuple(services[one] for one in rules.services))
        owner = None if rules.owner is None else services[rules.owner]
        return virtual_host(name, owner, rules.routes, services)
