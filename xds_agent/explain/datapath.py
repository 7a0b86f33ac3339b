"""What XDP does with a connection or datagram, and why it is XDP's; for `explain tcp://...` and `udp://...`."""

from __future__ import annotations

import ipaddress
from typing import Any

from xds_agent.explain.explanation import Backend, Step
from xds_agent.explain.said import plural
from xds_agent.model import DSCPS, QOS_CLASSES, Site
from xds_agent.model.notes import LATER, not_shaped
from xds_agent.model.quantities import format_bit_rate
from xds_agent.model.tiers import tier_of
from xds_agent.proto import datapath_pb2 as pb
from xds_agent.snapshot.resource import DATAPATH_SERVICE, REALS, Snapshot

_WORDS = {
    pb.NAT: "with translated addresses (nat)",
    pb.DSR: "as they are, over the link (dsr); answers bypass the edge",
    pb.GUE: "encapsulated (gue)",
}


def services_on(snapshot: Snapshot, port: int, *, udp: bool) -> tuple[Any | None, Any | None]:
    """What XDP serves on a port: on the vip alone, and on every address; None where there is none."""
    found: dict[bool, Any] = {}
    wanted = pb.UDP if udp else pb.TCP
    for resource in snapshot.of_type(DATAPATH_SERVICE).values():
        service = pb.Service.FromString(resource.body.value)
        if service.forward != pb.KERNEL and service.protocol == wanted and service.port == port:
            found.setdefault(service.vip, service)
    return found.get(True), found.get(False)


def tier_step(site: Site, name: str) -> Step | None:
    """Which tier serves a service and why; None for a name the inventory does not know."""
    service = site.edge.service_by_name.get(name)
    if service is None:
        return None
    tier = tier_of(site, service)
    path = f"services[{name}].{tier.field}"
    return Step("tier", tier.name, tier.why, path, site.origin(path))


def shaping_step(site: Site, name: str) -> Step | None:
    """What XDP and tc do with packets of a service beside whoever serves it; None if nothing."""
    service = site.edge.service_by_name.get(name)
    if service is None or not (service.qos_is_given or service.bandwidth):
        return None
    words, field = [], "qos" if service.qos_is_given else "bandwidth"
    path = f"services[{name}].{field}"
    if why := not_shaped(site, service):
        asked = [
            one for one, given in (("qos", service.qos_is_given), ("bandwidth", service.bandwidth)) if given
        ]
        return Step("class", "nothing", f"no {' or '.join(asked)} {why}: {LATER}", path, site.origin(path))
    if service.qos_is_given:
        words.append(f"{service.qos}: marked DSCP {DSCPS[QOS_CLASSES.index(service.qos)]}")
    if not tier_of(site, service).by_xdp:
        if service.qos_is_given:
            words.append("in its HTB class")
        limits = service.bandwidth
        if limits is not None and limits.egress:
            words.append(f"{format_bit_rate(limits.egress)} out by a class of its own (HTB)")
        if limits is not None and limits.ingress:
            words.append(f"{format_bit_rate(limits.ingress)} in, policed by XDP")
    hosts = ", ".join(host.name for host in site.carriers(service) if host.has_datapath)
    return Step("class", "tc", f"{', '.join(words)}; on {hosts}", path, site.origin(path))


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
