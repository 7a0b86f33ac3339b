"""The compiler: a site and its material become one snapshot per view, and nothing unchanged is made twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from xds_agent.compile import maintenance
from xds_agent.compile.assembly import Assembly, World
from xds_agent.compile.compiled import Compiled
from xds_agent.compile.hosts import Hosts
from xds_agent.compile.inputs import Inputs, Settled
from xds_agent.compile.material import CompileError, KeyPair, Material, Trust
from xds_agent.compile.parts import Parts, parts_of
from xds_agent.compile.secrets import key_pair_secret, trust_secret_of
from xds_agent.compile.table import Table
from xds_agent.compile.tls import certificate_secret, policy_of, policy_secrets, trust_secret
from xds_agent.compile.views import Audience, audience_of, views_of
from xds_agent.model import Problem, ProxyLimits, Site
from xds_agent.snapshot.resource import SECRET, Resource

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

    def compile(self, site: Site, material: Material, *, now: datetime | None = None) -> Compiled:
        """`now` opens and closes maintenance windows; without it none is open.

        Raises CompileError with every problem.
        """
        settled = self._inputs.settle(site, maintenance.active(site, now))
        table = self._table
        if table is None or settled.names_changed:
            table = Table(settled.edge, settled.services)
        secrets = self._secret_resources(material)
        parts = self._made_parts(site, settled)
        problems = [*table.problems, *_missing(settled, parts, secrets)]
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
        )  # fmt: skip
        views = views_of(site)
        audiences = dict.fromkeys(audience_of(view) for view in views.values())
        self._assemblies = {one: self._assemblies.get(one) or Assembly(one) for one in audiences}
        snapshots = {one: self._assemblies[one].snapshot(world) for one in audiences}
        return Compiled(site=site, views=views, by_audience=snapshots)

    def _made_parts(self, site: Site, settled: Settled) -> dict[str, Parts]:
        """Parts of every service."""
        old = {} if settled.places_changed or settled.limits is not self._limits else self._parts
        return {
            name: old[name]
            if name in old and name not in settled.touched
            else parts_of(site, service, settled.limits, settled.windows)
            for name, service in settled.services.items()
        }

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


def _missing(settled: Settled, parts: Mapping[str, Parts], secrets: _Secrets) -> Iterator[Problem]:
    """Certificates and authorities that something refers to and the material lacks."""
    for domain in settled.domains:
        for secret in policy_secrets(policy_of(domain)):
            if secret not in secrets:
                yield _lacking(f"domains[{domain.name}]", secret)
    for name, part in parts.items():
        for secret in part.secrets:
            if secret not in secrets:
                yield _lacking(f"services[{name}]", secret)


def _lacking(path: str, secret: str) -> Problem:
    kind, _, name = secret.partition("/")
    if kind == "trust":
        return Problem(path, f"authority {name} has no CA certificate yet", "give its certificate")
    return Problem(path, f"certificate {name} has no key pair yet", "issue it, or give it as pem")
