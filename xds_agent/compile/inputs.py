"""What changed since the last site: equal parts become the very objects of before, so that `is` tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from xds_agent.compile.maintenance import Windows
from xds_agent.model import Domain, Edge, Host, Ports, ProxyLimits, Route, Service, Site

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settled:
    """The inputs of one compilation. What equals the last one's is the same object."""

    edge: Edge
    hosts: Mapping[str, Host]
    # As given, and by name with the old objects where they are equal.
    given: tuple[Service, ...]
    services: Mapping[str, Service]
    domains: tuple[Domain, ...]
    routes: tuple[Route, ...]
    ports: Ports
    limits: ProxyLimits
    windows: Windows
    # Services that are new or differ.
    touched: frozenset[str]
    # Hosts or open maintenance windows differ: every endpoint set may.
    places_changed: bool
    # Domains, routes, ports or what services claim differ: every virtual host may.
    names_changed: bool


class Inputs:
    """Remembers the inputs of the last compilation that succeeded."""

    def __init__(self) -> None:
        self._last: Settled | None = None

    def keep(self, settled: Settled) -> None:
        """From now on compare with `settled`."""
        self._last = settled

    def settle(self, site: Site, windows: Windows) -> Settled:
        """`site` as seen beside the last one kept."""
        edge, last = site.edge, self._last
        if last is None:
            services = {service.name: service for service in edge.services}
            return Settled(
                edge=edge, hosts=site.hosts, given=edge.services, services=services,
                domains=edge.domains, routes=edge.routes,
                ports=edge.ports, limits=edge.limits, windows=windows, touched=frozenset(services),
                places_changed=True, names_changed=True,
            )  # fmt: skip
        services, touched, claims_changed = _settle_services(last, edge.services)
        domains, routes = _old_if_equal(last.domains, edge.domains), _old_if_equal(last.routes, edge.routes)
        same_names = domains is last.domains and routes is last.routes and last.ports == edge.ports
        return Settled(
            edge=edge, hosts=site.hosts, given=edge.services, services=services,
            domains=domains, routes=routes,
            ports=edge.ports, limits=_old_if_equal(last.limits, edge.limits), windows=windows,
            touched=touched,
            places_changed=last.hosts != site.hosts or windows != last.windows,
            names_changed=claims_changed or not same_names,
        )  # fmt: skip


def _settle_services(
    last: Settled, given: tuple[Service, ...]
) -> tuple[dict[str, Service], frozenset[str], bool]:
    """(services by name, old objects where they are equal; names that differ; whether claims on names do)."""
    if len(given) == len(last.given):
        pairs = [pair for pair in zip(last.given, given, strict=True) if pair[0] is not pair[1]]
        if all(before.name == service.name for before, service in pairs):
            # An edit in place: the rest is not even looked at.
            return _exchanged(last.services, [service for _, service in pairs])
    old = last.services
    new: dict[str, Service] = {}
    touched: list[str] = []
    claims_changed = False
    for service in given:
        before = old.get(service.name)
        if before is not None and (before is service or _equal(before, service)):
            new[service.name] = before
            continue
        new[service.name] = service
        touched.append(service.name)
        claims_changed = claims_changed or before is None or _claims(before) != _claims(service)
    # With one in place of another the numbers agree, but then the newcomer has changed the claims.
    gone = len(new) != len(old)
    return new, frozenset(touched), claims_changed or gone


def _exchanged(
    old: Mapping[str, Service], given: Iterable[Service]
) -> tuple[dict[str, Service], frozenset[str], bool]:
    """As `_settle_services`, of services that were all there before."""
    differ = [service for service in given if not _equal(old[service.name], service)]
    new = dict(old)
    new.update((service.name, service) for service in differ)
    claims_changed = any(_claims(old[service.name]) != _claims(service) for service in differ)
    return new, frozenset(service.name for service in differ), claims_changed


def _old_if_equal(old: T, new: T) -> T:
    return old if old is new or old == new else new


def _equal(one: Service, other: Service) -> bool:
    """Equal, and the same things said: whether a timeout was given counts for gRPC and WebSocket."""
    return one == other and ("timeout" in one.model_fields_set) == ("timeout" in other.model_fields_set)


def _claims(service: Service) -> tuple[object, ...]:
    """What the table of domains reads of a service."""
    return service.tenant, service.protocol, service.domains, service.listen, service.auth.type
