"""The compiler: a site and its material become one snapshot per view, and nothing unchanged is made twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from xds_agent.compile import maintenance
from xds_agent.compile.assembly import Assembly, World
from xds_agent.compile.compiled import Compiled
from xds_agent.compile.datapath import ProtectionMemory
from xds_agent.compile.hosts import Hosts
from xds_agent.compile.inputs import Inputs, Settled
from xds_agent.compile.material import CompileError, KeyPair, Material, Trust
from xds_agent.compile.parts import Parts, parts_of
from xds_agent.compile.placed import Placed
from xds_agent.compile.secrets import key_pair_secret, trust_secret_of
from xds_agent.compile.table import Table
from xds_agent.compile.tls import certificate_secret, trust_secret
from xds_agent.compile.views import Audience, audience_of, views_of
from xds_agent.model import Problem, ProxyLimits, Site
from xds_agent.snapshot.resource import SECRET, Resource
from xds_agent.steering.deciding import UNDECIDED, Decisions

_Secrets = dict[str, tuple[KeyPair | Trust, Resource]]


class Compiler:
    """Compiles one site after another; what did not change between two calls is the same object in both.

    Equal input gives equal bytes, whatever was compiled before. For one thread at a time.
    """

    def __init__(self) -> None:
        self._inputs = Inputs()
        self._limits: ProxyLimits | None = None
        self._parts: dict[str, Parts] = {}
        self._table: Table | None = None
        self._hosts = Hosts()
        self._secrets: _Secrets = {}
        self._assemblies: dict[Audience, Assembly] = {}
        self._protection = ProtectionMemory()
        self._placed: dict[Audience, Placed] = {}

    def compile(
        self, site: Site, material: Material, *, now: datetime | None = None,
        decisions: Decisions = UNDECIDED,
    ) -> Compiled:  # fmt: skip
        """`now` opens and closes maintenance windows; without it none is open. `decisions`: what was decided
        for each place where proxies stand; services they do not name follow `order` and `weights`.

        Raises CompileError with every problem.
        """
        settled = self._inputs.settle(site, maintenance.active(site, now))
        table = self._table
        if table is None or settled.names_changed:
            table = Table(settled.edge, settled.services)
        secrets = self._secret_resources(material)
        parts = self._made_parts(site, settled)
        problems = [*table.problems, *_missing(table, parts.values(), secrets)]
        if problems:
            raise CompileError([replace(one, origin=site.origin(one.path)) for one in problems])
        # Nothing is remembered of a site that does not compile.
        self._table, self._parts, self._limits = table, parts, settled.limits
        self._secrets = secrets
        self._inputs.keep(settled)
        world = World(
            settled=settled, table=table, parts=parts, frames=self._hosts.frames(table, settled),
            secrets={name: resource for name, (_, resource) in secrets.items()},
            challenges=material.challenges,
            protection=self._protection.resources(site, settled, material.denied),
        )  # fmt: skip
        views = views_of(site)
        audiences = dict.fromkeys(audience_of(view, decisions) for view in views.values())
        anywhere = dict.fromkeys(one.anywhere for one in audiences)
        self._assemblies = {one: self._assemblies.get(one) or Assembly(one) for one in anywhere}
        snapshots = {one: self._assemblies[one].snapshot(world) for one in anywhere}
        placed = [one for one in audiences if one.place is not None]
        self._placed = {one: self._placed.get(one) or Placed(one) for one in placed}
        for one in placed:
            base = snapshots[one.anywhere]
            snapshots[one] = self._placed[one].snapshot(base, site, settled, decisions)
        return Compiled(site=site, views=views, by_audience=snapshots, decisions=decisions)

    def _made_parts(self, site: Site, settled: Settled) -> dict[str, Parts]:
        """Parts of every service; the dict of before is left as it is."""
        services = settled.services
        if settled.places_changed or settled.limits is not self._limits:
            remade: Iterable[str] = services
            parts = {}
        elif settled.names_changed:
            parts = {name: self._parts[name] for name in services if name in self._parts}
            remade = settled.touched
        else:
            parts, remade = dict(self._parts), settled.touched
        for name in remade:
            parts[name] = parts_of(site, services[name], settled.limits, settled.windows)
        return parts

    def _secret_resources(self, material: Material) -> _Secrets:
        """Secrets by name, with what each was made of; keys that stay are not encoded again."""
        new: _Secrets = {}
        for name, pair in material.key_pairs.items():
            key = certificate_secret(name)
            new[key] = self._known(key, pair) or (pair, Resource.of(SECRET, key, key_pair_secret(name, pair)))
        for name, trust in material.trusts.items():
            key = trust_secret(name)
            new[key] = self._known(key, trust) or (
                trust,
                Resource.of(SECRET, key, trust_secret_of(name, trust)),
            )
        return new

    def _known(self, key: str, content: KeyPair | Trust) -> tuple[KeyPair | Trust, Resource] | None:
        known = self._secrets.get(key)
        return known if known is not None and known[0] == content else None


def _missing(table: Table, parts: Iterable[Parts], secrets: _Secrets) -> Iterator[Problem]:
    """Certificates and authorities that something refers to and the material lacks."""
    for secret, domain in table.secrets.items():
        if secret not in secrets:
            yield _lacking(f"domains[{domain}]", secret)
    for part in [one for one in parts if one.secrets]:
        for secret in part.secrets:
            if secret not in secrets:
                yield _lacking(f"services[{part.service.name}]", secret)


def _lacking(path: str, secret: str) -> Problem:
    kind, _, name = secret.partition("/")
    if kind == "trust":
        return Problem(path, f"authority {name} has no CA certificate yet", "give its certificate")
    return Problem(path, f"certificate {name} has no key pair yet", "issue it, or give it as pem")
