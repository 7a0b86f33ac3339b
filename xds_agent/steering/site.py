"""A site as steering sees it: the services that are steered, their endpoints, and who looks at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from xds_agent.model import ResolvedEndpoint, Service, Site
from xds_agent.steering.asking import Ask, Assignments, Pace, ask_of, assign, pace_of
from xds_agent.steering.inventory import policy_of, world_of
from xds_agent.steering.values import Policy
from xds_agent.steering.world import Region, World

PROXIES = frozenset({"ingress", "l4"})
"""Roles whose hosts choose among endpoints."""


class Seen(NamedTuple):
    """An endpoint, and the question that measures it."""

    endpoint: ResolvedEndpoint
    ask: Ask


@dataclass(frozen=True)
class Steered:
    """A service that steering decides for."""

    service: Service
    policy: Policy
    groups: Mapping[Region, tuple[Seen, ...]]
    """Its endpoints by region."""


@dataclass(frozen=True)
class Scene:
    """Everything of a site that decisions are made from, and nothing that is measured."""

    site: Site
    world: World
    services: Mapping[str, Steered]
    proxies: Mapping[str, Mapping[Region, tuple[str, ...]]]
    """Tenant -> place -> names of the proxies there that carry it."""

    def seats(self) -> Iterator[tuple[Region, str]]:
        """Every (place, service) that is decided for."""
        for name, steered in self.services.items():
            for place in self.proxies.get(steered.service.tenant, ()):
                yield place, name

    def seen_from(self, service: str) -> tuple[Region, ...]:
        """Places whose proxies carry the service's tenant."""
        return tuple(self.proxies.get(self.services[service].service.tenant, ()))

    @cached_property
    def assignments(self) -> Assignments:
        """Node -> what it is to measure."""
        return assign(self._wanted())

    @cached_property
    def users(self) -> Mapping[Ask, tuple[str, ...]]:
        """Services that read a measurement."""
        found: dict[Ask, list[str]] = {}
        for name, steered in self.services.items():
            for group in steered.groups.values():
                for one in group:
                    found.setdefault(one.ask, []).append(name)
        return {ask: tuple(dict.fromkeys(names)) for ask, names in found.items()}

    @cached_property
    def place_of(self) -> Mapping[str, Region]:
        """Proxy -> where it stands."""
        return {
            name: place
            for places in self.proxies.values()
            for place, names in places.items()
            for name in names
        }

    @cached_property
    def nodes_at(self) -> Mapping[Region, tuple[str, ...]]:
        """Place -> proxies that stand there."""
        found: dict[Region, list[str]] = {}
        for name, place in self.place_of.items():
            found.setdefault(place, []).append(name)
        return {place: tuple(sorted(names)) for place, names in found.items()}

    def _wanted(self) -> Iterator[tuple[Ask, Pace, tuple[str, ...]]]:
        # Services of one tenant that share an endpoint are one question, before any place is looked at.
        asked: dict[str, dict[Ask, Pace]] = {}
        for steered in self.services.values():
            pace = pace_of(steered.service)
            own = asked.setdefault(steered.service.tenant, {})
            for group in steered.groups.values():
                for one in group:
                    known = own.get(one.ask)
                    own[one.ask] = pace if known is None or known == pace else known.with_(pace)
        for tenant, asks in asked.items():
            for names in self.proxies.get(tenant, {}).values():
                for ask, pace in asks.items():
                    yield ask, pace, names


def region_of(one: ResolvedEndpoint) -> Region:
    """Where an endpoint stands."""
    return Region(one.cloud, one.region)


def is_steered(service: Service, endpoints: tuple[ResolvedEndpoint, ...]) -> bool:
    """True when the inventory says how to choose and there is a choice.

    A DNS name is resolved by each proxy, inside its cluster: that stays as `order` and `weights` say.
    """
    if "steering" not in service.model_fields_set or any(one.dns for one in endpoints):
        return False
    return len({region_of(one) for one in endpoints}) > 1


def scene_of(site: Site) -> Scene:
    """The scene of a site. Takes a while for a large one: keep it with the site."""
    services: dict[str, Steered] = {}
    for service in site.edge.services:
        endpoints = site.endpoints_of(service)
        if not is_steered(service, endpoints):
            continue
        groups: dict[Region, list[Seen]] = {}
        for one in endpoints:
            groups.setdefault(region_of(one), []).append(Seen(one, ask_of(service, one)))
        frozen = {region: tuple(found) for region, found in groups.items()}
        services[service.name] = Steered(service, policy_of(service.steering), frozen)
    return Scene(site, world_of(site.edge.clouds), services, _proxies(site))


def _proxies(site: Site) -> dict[str, dict[Region, tuple[str, ...]]]:
    found: dict[str, dict[Region, list[str]]] = {}
    for name in sorted(site.hosts):
        host = site.hosts[name]
        if not host.roles & PROXIES:
            continue
        place = Region(host.cloud or "", host.region or "")
        for tenant in sorted(site.tenants_of(host)):
            found.setdefault(tenant, {}).setdefault(place, []).append(name)
    return {
        tenant: {place: tuple(names) for place, names in sorted(places.items())}
        for tenant, places in found.items()
    }
