"""Who answers for which domain on which listener: the inventory's names, before any resource is made."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from xds_agent.compile.listeners import GRPC, HTTPS, KINDS
from xds_agent.compile.tls import Policy, policy_of, policy_secrets
from xds_agent.model import Domain, Edge, Problem, Route, Service

Names = Mapping[Policy, tuple[str, ...]]


class Rules(NamedTuple):
    """What one domain does on one listener."""

    domain: Domain
    owner: str | None
    routes: tuple[Route, ...]
    services: tuple[str, ...]
    """Everything it can lead to, sorted."""


class Layout(NamedTuple):
    """The TLS listeners of an audience: listener -> policy -> sorted names, and names kept from wildcards."""

    names: Mapping[str, Names]
    misdirected: Mapping[tuple[str, Policy], tuple[str, ...]]
    redirected: tuple[str, ...]
    closed: tuple[str, ...]
    """Names on plain HTTP that are not redirected although a wildcard around them is."""


class Table:
    """Domains by listener; made anew only when domains, routes or the claims of services change."""

    def __init__(self, edge: Edge, services: Mapping[str, Service]) -> None:
        self.edge = edge
        self.hosts: dict[str, dict[str, Rules]] = {kind.name: {} for kind in KINDS}
        self.users: dict[str, list[tuple[str, str]]] = {}
        self.problems: list[Problem] = []
        self.secrets: dict[str, str] = {}
        """Secrets that domains ask for, with the first domain that does."""
        for domain in edge.domains:
            for secret in policy_secrets(policy_of(domain)):
                self.secrets.setdefault(secret, domain.name)
        self._layouts = lru_cache(maxsize=256)(self._layout)
        owners = self._owners(services.values())
        routes = self._routes(services)
        for kind in self.hosts:
            for name in owners[kind].keys() | routes[kind].keys():
                self._add(kind, name, owners[kind].get(name), tuple(routes[kind].get(name, ())), services)

    def layout(self, tenants: frozenset[str]) -> Layout:
        """What an audience of these tenants has; the same object for the same tenants."""
        return self._layouts(tenants)

    def _kind(self, service: Service) -> str:
        return GRPC.name if self.edge.listen_port(service) == self.edge.ports.grpc else HTTPS.name

    def _owners(self, services: Iterable[Service]) -> dict[str, dict[str, str]]:
        owners: dict[str, dict[str, str]] = {kind: {} for kind in self.hosts}
        for service in services:
            if (
                service.is_http
                and service.domains
                and (service.listen is None or service.listen.address == "edge")
            ):
                owners[self._kind(service)].update(dict.fromkeys(service.domains, service.name))
        return owners

    def _routes(self, services: Mapping[str, Service]) -> dict[str, dict[str, list[Route]]]:
        """Rules by listener and domain; redirects and fixed answers belong to HTTPS."""
        found: dict[str, dict[str, list[Route]]] = {kind: {} for kind in self.hosts}
        for rule in self.edge.routes:
            first = next((services[name] for name, _ in rule.destinations), None)
            here = found[HTTPS.name if first is None else self._kind(first)]
            for domain in rule.domains:
                here.setdefault(domain, []).append(rule)
        return found

    def _add(
        self,
        kind: str,
        name: str,
        owner: str | None,
        routes: tuple[Route, ...],
        services: Mapping[str, Service],
    ) -> None:
        domain = self.edge.domain_by_name[name]
        used = {owner} if owner is not None else set()
        for rule in routes:
            used.update(target for target, _ in rule.destinations)
            if rule.mirror is not None:
                used.add(rule.mirror.service)
        self.hosts[kind][name] = Rules(domain, owner, routes, tuple(sorted(used)))
        for service in used:
            self.users.setdefault(service, []).append((kind, name))
            if domain.client_auth == "none" and services[service].auth.type == "mtls":
                path = f"services[{service}].auth"
                self.problems.append(
                    Problem(
                        path=path,
                        message=f"wants client certificates, but {name}, which leads to it, asks for none",
                        fix=f"give domain {name} client_auth: optional or required, and a client_ca",
                    )
                )

    def _layout(self, tenants: frozenset[str]) -> Layout:
        names: dict[str, Names] = {}
        redirected: set[str] = set()
        misdirected: dict[tuple[str, Policy], tuple[str, ...]] = {}
        declared = [domain.name for domain in self.edge.domains if domain.tenant in tenants]
        for kind, hosts in self.hosts.items():
            found: dict[Policy, list[str]] = {}
            for name, rules in hosts.items():
                if rules.domain.tenant in tenants:
                    found.setdefault(policy_of(rules.domain), []).append(name)
                    if kind == HTTPS.name and rules.domain.redirect_http:
                        redirected.add(name)
            names[kind] = MappingProxyType({policy: tuple(sorted(found[policy])) for policy in sorted(found)})
            for policy, own in found.items():
                misdirected[kind, policy] = _strangers(own, declared)
        return Layout(
            MappingProxyType(names),
            MappingProxyType(misdirected),
            tuple(sorted(redirected)),
            _strangers(redirected, declared),
        )


def _strangers(own: Collection[str], declared: Collection[str]) -> tuple[str, ...]:
    """Declared names that a wildcard among `own` covers without being `own` itself."""
    suffixes = tuple(name[1:] for name in own if name.startswith("*."))
    if not suffixes:
        return ()
    mine = set(own)
    return tuple(sorted(name for name in declared if name.endswith(suffixes) and name not in mine))
