"""Which services lose their open connections by changing who serves them, read from what proxies get.

Between Envoy and XDP no connection moves: neither knows what the other has open. Nor does XDP go on with
connections to an address, port or way of forwarding that a service has no longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from xds_agent.compile import tcp, udp
from xds_agent.model import Service, Site
from xds_agent.model.tiers import tier_of
from xds_agent.proto import datapath_pb2 as pb
from xds_agent.snapshot.resource import DATAPATH_SERVICE, LISTENER, REALS, Resource, Snapshot

Where = Literal["flows", "sessions", "connections", "nowhere"]
_BALANCED: dict[int, Where] = {pb.NAT: "flows", pb.GUE: "nowhere", pb.DSR: "nowhere"}
_Front = tuple[int, bool, int, int]


@dataclass(frozen=True, slots=True)
class Reset:
    """Connections of one service on one proxy that break, and who counts them now."""

    proxy: str
    service: str
    why: str
    counted: Where
    """flows: XDP; sessions, connections: Envoy; nowhere: no table holds them (gue, dsr)."""
    listener: str = ""
    shared: bool = False
    """The listener serves others too."""


def resets(
    old: Site | None, new: Site, before: Mapping[str, Snapshot], after: Mapping[str, Snapshot]
) -> tuple[Reset, ...]:
    """Sorted by service and proxy. Hosts of one view are judged once."""
    if old is None:
        return ()
    judged: dict[tuple[str, str], tuple[Reset, ...]] = {}
    found = []
    for name, now in after.items():
        was = before.get(name)
        if was is None or was.revision == now.revision:
            continue
        key = (was.revision, now.revision)
        if key not in judged:
            judged[key] = tuple(_of_snapshot(old, new, was, now))
        found += [
            Reset(name, one.service, one.why, one.counted, one.listener, one.shared) for one in judged[key]
        ]
    return tuple(sorted(found, key=lambda one: (one.service, one.proxy)))


def _of_snapshot(old: Site, new: Site, was: Snapshot, now: Snapshot) -> Iterator[Reset]:
    ours, theirs = was.of_type(DATAPATH_SERVICE), now.of_type(DATAPATH_SERVICE)
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        if one is not None and other is not None and one.version == other.version:
            continue
        before, after = _front(one), _front(other)
        if before == after or (other is None and before is not None and _goes_on(name, was, now)):
            continue
        why = _why(old.edge.service_by_name.get(name), old, new.edge.service_by_name.get(name), new)
        if before is not None:
            yield Reset("", name, why, _BALANCED[before[-1]])
        else:
            yield from _from_envoy(old, name, why, was, now)


def _from_envoy(old: Site, name: str, why: str, was: Snapshot, now: Snapshot) -> Iterator[Reset]:
    service = old.edge.service_by_name.get(name)
    port = old.edge.listen_port(service) if service is not None and service.has_own_port else None
    if service is None or port is None:
        return
    by_udp = service.protocol == "udp"
    listener = (udp if by_udp else tcp).listener_name(port)
    before, after = was.of_type(LISTENER).get(listener), now.of_type(LISTENER).get(listener)
    if before is None or (after is not None and after.version == before.version):
        return
    shared = not by_udp and sum(old.edge.listen_port(one) == port for one in _tcp_of(old)) > 1
    yield Reset("", name, why, "sessions" if by_udp else "connections", listener, shared)


def _goes_on(name: str, was: Snapshot, now: Snapshot) -> bool:
    """Under another name: a service of the same front leads to the same reals, chosen in the same way."""
    front, before = _front(was.of_type(DATAPATH_SERVICE)[name]), _way(name, was)
    return any(
        _front(one) == front and _way(other, now) == before
        for other, one in now.of_type(DATAPATH_SERVICE).items()
    )


def _way(name: str, snapshot: Snapshot) -> tuple[bool, bytes]:
    said = pb.Service.FromString(snapshot.of_type(DATAPATH_SERVICE)[name].body.value)
    resource, reals = snapshot.of_type(REALS).get(name), pb.Reals()
    if resource is not None:
        reals.reals.extend(pb.Reals.FromString(resource.body.value).reals)
    return said.hash_addresses, reals.SerializeToString(deterministic=True)


def _tcp_of(site: Site) -> Iterator[Service]:
    return (one for one in site.edge.services if one.protocol == "tcp" and one.has_own_port)


def _front(resource: Resource | None) -> _Front | None:
    """Where XDP balances it and how; None for what it does not balance."""
    if resource is None:
        return None
    said = pb.Service.FromString(resource.body.value)
    if said.forward not in _BALANCED:
        return None
    return (said.protocol, said.vip, said.port, said.forward)


def _why(was: Service | None, old: Site, now: Service | None, new: Site) -> str:
    if was is None or now is None:
        return "goes"
    before, after = tier_of(old, was), tier_of(new, now)
    if before.kind != after.kind:
        return f"moves from {before.name} to {after.name}"
    otherwise = (was.listen, was.forward, was.protocol) != (now.listen, now.forward, now.protocol)
    return "is listened for or forwarded otherwise" if otherwise else "is not served there any more"
