"""One audience's snapshot, put together from parts that all audiences share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xds_agent.compile import tcp, udp
from xds_agent.compile.datapath import http_resource
from xds_agent.compile.hosts import Frames
from xds_agent.compile.inputs import Settled
from xds_agent.compile.listeners import DEFAULT_CHAIN, KINDS, PLAIN, plain_listener, route_name, tls_listener
from xds_agent.compile.mine import Mine
from xds_agent.compile.parts import Parts
from xds_agent.compile.runtime import NAME as RUNTIME_NAME
from xds_agent.compile.runtime import runtime
from xds_agent.compile.table import Layout, Table
from xds_agent.compile.tls import policy_secrets
from xds_agent.compile.views import Audience
from xds_agent.compile.virtual_hosts import plain_configuration, route_configuration
from xds_agent.model import Ports, Service
from xds_agent.model.ports import ENVOY_HTTP
from xds_agent.snapshot.resource import (
    CLUSTER,
    DATAPATH_SERVICE,
    EMPTY,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    RUNTIME,
    SECRET,
    TYPES,
    Resource,
    Snapshot,
)

Named = dict[str, Resource]


@dataclass(frozen=True, slots=True)
class World:
    """Everything audiences share in one compilation."""

    settled: Settled
    table: Table
    parts: Mapping[str, Parts]
    frames: Frames
    secrets: Mapping[str, Resource]
    challenges: Mapping[str, bytes]
    # Of every host with a datapath; empty where there is none.
    protection: Mapping[str, Named]


class Assembly:
    """Remembers what one audience had, so that what stays is neither encoded nor hashed again."""

    def __init__(self, audience: Audience) -> None:
        self._audience = audience
        self._snapshot = EMPTY
        self._memory: dict[str, tuple[tuple[Any, ...], Resource]] = {}
        self._mine: Mine | None = None

    def snapshot(self, world: World) -> Snapshot:
        """The audience's snapshot; the one of before when nothing it holds has changed."""
        named: dict[str, Named] = {t: {} for t in TYPES}
        mine = self._services(world) if self._audience.serves or self._audience.datapath else None
        if mine is not None and self._audience.serves:
            named |= self._serving(world, mine)
        if mine is not None and self._audience.datapath:
            named |= {**mine.datapath, **world.protection}
            if self._audience.serves:
                counted = self._http_counted(world.settled.ports, named[LISTENER])
                named[DATAPATH_SERVICE] = {**mine.datapath[DATAPATH_SERVICE], **mine.marked, **counted}
        limits = world.settled.limits
        listeners = tuple(name for name in named[LISTENER] if not name.startswith("udp-"))
        made = self._made(
            RUNTIME, RUNTIME_NAME, (limits, listeners),
            lambda: Resource.of(RUNTIME, RUNTIME_NAME, runtime(limits, listeners)),
        )  # fmt: skip
        named[RUNTIME] = {RUNTIME_NAME: made}
        self._snapshot = Snapshot.after(self._snapshot, named)
        return self._snapshot

    def _services(self, world: World) -> Mine:
        tenants, settled = self._audience.tenants, world.settled
        if self._mine is None or settled.names_changed or settled.places_changed:
            self._mine = Mine.of(one for one in world.parts.values() if one.service.tenant in tenants)
        else:
            touched = (world.parts[name] for name in settled.touched)
            self._mine = self._mine.exchanged([one for one in touched if one.service.tenant in tenants])
        return self._mine

    def _serving(self, world: World, mine: Mine) -> dict[str, Named]:
        layout = world.table.layout(self._audience.tenants)
        secrets = set(mine.secrets)
        for names in layout.names.values():
            secrets.update(secret for policy in names for secret in policy_secrets(policy))
        return {
            SECRET: {name: world.secrets[name] for name in sorted(secrets)},
            CLUSTER: mine.clusters,
            ENDPOINTS: mine.endpoints,
            LISTENER: self._listeners(world, layout, mine),
            ROUTES: self._routes(world, layout),
        }

    def _listeners(self, world: World, layout: Layout, mine: Mine) -> Named:
        ports, limits = world.settled.ports, world.settled.limits
        found: Named = {}
        if any(layout.names.values()):
            found[PLAIN] = self._made(
                LISTENER, PLAIN, (ports.http, ports.family, limits),
                lambda: Resource.of(LISTENER, PLAIN, plain_listener(ports.http, ports.family, limits)),
            )  # fmt: skip
        for kind in KINDS:
            names = layout.names[kind.name]
            if names:
                port = getattr(ports, kind.name)
                found[kind.name] = self._made(
                    LISTENER, kind.name, (port, ports.family, names, limits),
                    lambda k=kind, p=port, n=names: Resource.of(
                        LISTENER, k.name, tls_listener(k, p, ports.family, n, limits)
                    ),
                )  # fmt: skip
        for name, services in mine.by_port.items():
            found[name] = self._made(
                LISTENER,
                name,
                (services, ports.family, limits),
                lambda n=name, s=services: _layer4(n, s, world),
            )
        return found

    def _http_counted(self, ports: Ports, listeners: Named) -> Named:
        """What XDP counts apart of Envoy's own ports: those that this audience has a listener on."""
        found: Named = {}
        for name, path in ENVOY_HTTP.items():
            listener = path.removeprefix("ports.")
            if listener in listeners:
                port = getattr(ports, listener)
                found[name] = self._made(
                    DATAPATH_SERVICE, name, (port,), lambda n=name, p=port: http_resource(n, p)
                )
        return found

    def _routes(self, world: World, layout: Layout) -> Named:
        found: Named = {}
        if any(layout.names.values()):
            port = world.settled.ports.https
            found[PLAIN] = self._made(
                ROUTES, PLAIN, (layout.redirected, layout.closed, dict(world.challenges), port),
                lambda: Resource.of_bytes(
                    ROUTES, PLAIN, plain_configuration(
                        PLAIN, layout.redirected, world.challenges, port, closed=layout.closed
                    )
                ),
            )  # fmt: skip
        for kind, names in layout.names.items():
            if not names:
                continue
            frames = world.frames[kind]
            chains = [(policy.name, own, layout.misdirected[kind, policy]) for policy, own in names.items()]
            for chain, own, misdirected in [*chains, (DEFAULT_CHAIN, (), ())]:
                name = route_name(kind, chain)
                hosts = [frames[domain] for domain in own]
                found[name] = self._made(
                    ROUTES, name, (hosts, misdirected),
                    lambda n=name, h=hosts, m=misdirected: Resource.of_bytes(
                        ROUTES, n, route_configuration(n, h, misdirected=m)
                    ),
                )  # fmt: skip
        return found

    def _made(self, type_url: str, name: str, key: tuple[Any, ...], make: Any) -> Resource:
        """The resource of before if it was made of the same, else what `make` returns."""
        known = self._memory.get(type_url + name)
        if known is not None and known[0] == key:
            return known[1]
        resource: Resource = make()
        self._memory[type_url + name] = (key, resource)
        return resource


def _layer4(name: str, services: Sequence[Service], world: World) -> Resource:
    listen = services[0].listen
    assert listen is not None and listen.port is not None
    family, limits = world.settled.ports.family, world.settled.limits
    if services[0].protocol == "tcp":
        return Resource.of(LISTENER, name, tcp.tcp_listener(listen.port, family, services, limits))
    return Resource.of(LISTENER, name, udp.udp_listener(listen.port, family, services[0]))
