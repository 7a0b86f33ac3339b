"""What XDP does with a connection or datagram, and why it is XDP's; for `explain tcp://...` and `udp://...`."""

from __future__ import annotations

import ipaddress
from typing import Any

from xds_agent.explain.explanation import Backend, Step
from xds_agent.explain.said import plural
from xds_agent.model import Site
from xds_agent.model.tiers import tier_of
from xds_agent.proto import datapath_pb2 as pb
from xds_agent.snapshot.resource import DATAPATH_SERVICE, REALS, Snapshot

_WORDS = {
    pb.NAT: "with translated addresses (nat)",
    pb.DSR: "as they are, over the link (dsr); answers bypass the edge",
    pb.GUE: "encapsulated (gue)",
}


def service_on(snapshot: Snapshot, port: int, *, udp: bool) -> Any | None:
    """The service that XDP serves on a port, None where there is none."""
    wanted = pb.UDP if udp else pb.TCP
    for resource in snapshot.of_type(DATAPATH_SERVICE).values():
        service = pb.Service.FromString(resource.body.value)
        if service.protocol == wanted and service.port == port:
            return service
    return None


def tier_step(site: Site, name: str) -> Step | None:
    """Which tier serves a service and why; None for a name the inventory does not know."""
    service = site.edge.service_by_name.get(name)
    if service is None:
        return None
    tier = tier_of(site, service)
    path = f"services[{name}].{tier.field}"
    return Step("tier", tier.name, tier.why, path, site.origin(path))


def sentence(service: Any, reals: tuple[Backend, ...]) -> str:
    """What happens to the packets."""
    none = "to the host itself" if service.pass_without_real else "nowhere (dropped)"
    if not any(one.weight for one in reals):
        return f"XDP sends the packets of {service.name} {none}: it has no real"
    where = f"to {plural(len(reals), 'real')} of {service.name} {_WORDS.get(service.forward, '')}"
    return f"XDP sends the packets {where}; with no healthy one {none}"


def reals_of(snapshot: Snapshot, name: str) -> tuple[Backend, ...]:
    """Reals by priority, as `explain` shows backends."""
    resource = snapshot.of_type(REALS).get(name)
    if resource is None:
        return ()
    found = []
    for one in pb.Reals.FromString(resource.body.value).reals:
        address = ipaddress.ip_address(one.address)
        text = f"[{address}]:{one.port}" if address.version == 6 else f"{address}:{one.port}"
        health = "" if one.weight else "draining"
        found.append(Backend(text, one.priority, "", one.weight, 100, name, health))
    return tuple(sorted(found, key=lambda one: one.priority))
