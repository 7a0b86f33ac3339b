"""What an inventory may say already, but this version does not act on. Never silently ignored."""

from collections.abc import Iterator

from xds_agent.model.base import is_dns_name
from xds_agent.model.problems import Problem
from xds_agent.model.services import Service
from xds_agent.model.site import Site, find_origin
from xds_agent.model.tiers import tier_of

LATER = "it is checked and kept, but this version does not act on it"


LATER_KEYS = frozenset(
    {
        "Tenant.logging",
        "Edge.mappings",
    }
)
"""Keys ('Model.key') on which this version does not act at all; the reference marks them."""


_STATIC = frozenset({"order", "weights", "mode", "when_all_down"})
"""Rules of steering that need no decision, and hold for endpoints that are DNS names too."""


def _service_notes(site: Site, service: Service) -> Iterator[tuple[str, str]]:
    names = [one.address for one in service.endpoints if one.address and is_dns_name(one.address)]
    if names and (
        service.steering.algorithm != "weighted"
        or service.steering.model_fields_set - _STATIC - {"algorithm"}
    ):
        yield "steering", f"steering of DNS names ({names[0]}) beyond order and weights"
    if service.qos_is_given and (why := not_shaped(site, service)):
        yield "qos", f"classes of service {why}"
    if service.rate_limit is not None and not service.is_http:
        yield "rate_limit", f"rate limits of {service.protocol} services"
    if service.bandwidth is not None and (why := not_shaped(site, service)):
        yield "bandwidth", f"bandwidth limits {why}"
    if service.packet_limit is not None and (why := not_shaped(site, service)):
        yield "packet_limit", f"packet limits {why}"
    if not service.is_http and not (tier := tier_of(site, service)).by_xdp:
        for key in ("forward", "hash_by", "when_no_real"):
            if key in service.model_fields_set:
                yield key, f"{key} of a service of {tier.name} ({tier.why})"


def _shut(site: Site, service: Service) -> Iterator[Problem]:
    """A note where the hosts' clouds let nobody reach the port of ``service``."""
    port = service.listen.port if service.listen is not None else None
    if port is None:
        return
    protocol = "udp" if service.protocol == "udp" else "tcp"
    shut = [
        (host.name, host.cloud_rules)
        for host in site.carriers(service)
        if host.cloud_rules is not None and not host.cloud_rules.lets_in(protocol, port)
    ]
    if not shut:
        return
    (name, rules), more = shut[0], len(shut) - 1
    message = (
        f"its cloud lets nobody reach {protocol} {port}, where service {service.name} listens"
        f"{f' (and {more} more hosts)' if more else ''}: write it under reach of {rules.file} "
        f"(targets: [ingress], protocol: {protocol}, ports: ['{port}']) and run `pulumi up`"
    )
    origin = find_origin(site.origins, f"services[{service.name}].listen.port")
    yield Problem(path=f"hosts.{name}", message=message, origin=origin)


def not_shaped(site: Site, service: Service) -> str:
    """Of which services no packet is marked or shaped, so that this one's are not either; "" if they are."""
    if service.is_http:
        return "of services that share the proxy's ports"
    if service.protocol == "icmp":
        return "of pings"
    if not service.has_own_port:
        return "of services that share a port by TLS name"
    if not any(host.has_datapath for host in site.carriers(service)):
        return "on hosts without a datapath"
    return ""


def notes_on(site: Site) -> Iterator[Problem]:
    """One note for each thing the inventory says that this version only models."""

    def note(path: str, what: str) -> Problem:
        return Problem(path=path, message=f"{what}: {LATER}", origin=find_origin(site.origins, path))

    edge = site.edge
    for tenant in edge.tenants:
        if tenant.logging is not None:
            yield note(f"tenants[{tenant.name}].logging", "logging of tenants")
    for service in edge.services:
        for key, what in _service_notes(site, service):
            yield note(f"services[{service.name}].{key}", what)
        yield from _shut(site, service)
        if service.auth.type in ("jwt", "token"):
            # Never served open: what cannot be checked is refused.
            path = f"services[{service.name}].auth.type"
            message = (
                f"this version cannot check authentication by {service.auth.type}, so it answers every "
                "request of "
                f"{service.name} with 403"
            )
            yield Problem(path=path, message=message, origin=find_origin(site.origins, path))
    for mapping in edge.mappings:
        yield note(f"mappings[{mapping.name}]", "egress and service-to-service mappings")
    protection = edge.protection
    if protection is not None and not site.datapath_hosts:
        yield Problem(
            path="protection",
            message="no host has a datapath, so nothing is filtered",
            fix="give hosts of group l4 the variable xdp_interfaces",
            origin=find_origin(site.origins, "protection"),
        )
