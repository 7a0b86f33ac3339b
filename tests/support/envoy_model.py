"""EnvoyModel: an Envoy as its xDS client behaves, by what was measured of Envoy 1.40 (rules 11 to 22).

It withholds the CDS ACK while clusters warm, never asks again for endpoints it is subscribed to, withholds a
CDS NACK while a good cluster of the same response warms, stays wedged on a refused cluster until that is
taken away, applies the good part of what it refuses, and serves 503 where a route meets no warm cluster
(`served_503`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2

from tests.support.fake_envoy import FakeEnvoy, Wire
from xds_agent.snapshot.references import references
from xds_agent.snapshot.resource import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    SECRET,
    TYPES,
    Resource,
    Snapshot,
)

NEVER = ("", "refused: nothing ends this warming")


@dataclass
class Warming:
    version: str
    needs: set[tuple[str, str]]


@dataclass
class State:
    """What the process holds; a restart loses it, a reconnect does not."""

    active: dict[str, str] = field(default_factory=dict)
    warming: dict[str, Warming] = field(default_factory=dict)
    held: dict[str, dict[str, str]] = field(
        default_factory=lambda: {t: {} for t in (ENDPOINTS, LISTENER, ROUTES, SECRET)}
    )
    subscribed: dict[str, set[str]] = field(
        default_factory=lambda: {t: set() for t in (ENDPOINTS, ROUTES, SECRET)}
    )
    targets: dict[str, str] = field(default_factory=dict)
    listens: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    uses: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    # (type, name) that was answered, be it by removal; (type, "") once the type was.
    told: set[tuple[str, str]] = field(default_factory=set)
    initialised: bool = False
    live: bool = False
    rejected: int = 0


class EnvoyModel:
    """Drive it with `step` until it returns False; `random` picks what happens next."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.state = State()
        self.served_503: list[str] = []
        self._connect()

    # --- life

    def restart(self) -> None:
        self.state = State()
        self.reconnect()

    def reconnect(self) -> None:
        if self.link.closed is None:
            self.wire.hang_up(self.link)
        self._connect()

    def _connect(self) -> None:
        self.link = FakeEnvoy(self.wire)
        self._out: deque[Callable[[], Any]] = deque()
        self._withheld: list[tuple[str, str | None]] = []
        state = self.state
        clusters = {
            **state.active,
            **{n: w.version for n, w in state.warming.items() if NEVER not in w.needs},
        }
        self._say(CLUSTER, (), versions=clusters)
        if state.subscribed[ENDPOINTS]:
            self._resume(ENDPOINTS)
        if state.initialised:
            self._say(LISTENER, (), versions=dict(state.held[LISTENER]))
        for kind in (ROUTES, SECRET):
            if state.subscribed[kind]:
                self._resume(kind)

    def _resume(self, kind: str) -> None:
        self._say(kind, sorted(self.state.subscribed[kind]), versions=dict(self.state.held[kind]))

    def _say(self, kind: str, names: Any, **how: Any) -> None:
        link = self.link
        self._out.append(lambda: link.closed is None and link.request(kind, *names, **how))

    @property
    def live(self) -> bool:
        return self.state.live

    # --- steps

    def hear(self) -> bool:
        """Process one response. False if there is none."""
        if self.link.closed is not None:
            self._connect()
            return True
        if not self.link.inbox:
            return False
        message = discovery_pb2.DeltaDiscoveryResponse.FromString(self.link.inbox.popleft())
        told = {wrapped.name for wrapped in message.resources} | set(message.removed_resources)
        self.state.told |= {(message.type_url, name) for name in told} | {(message.type_url, "")}
        {CLUSTER: self._cds, LISTENER: self._lds, ROUTES: self._rds}.get(message.type_url, self._named)(
            message
        )
        self._settle()
        return True

    def speak(self) -> bool:
        """Send one request. False if there is none."""
        if not self._out:
            return False
        self._out.popleft()()
        return True

    def time_out(self) -> None:
        """The 15 s after which Envoy stops waiting for endpoints that it does not have."""
        for warming in self.state.warming.values():
            warming.needs = {need for need in warming.needs if need == NEVER}
        self._settle()

    # --- types

    def _cds(self, message: Any) -> None:
        state, refused = self.state, []
        for wrapped in message.resources:
            cluster = cluster_pb2.Cluster.FromString(wrapped.resource.value)
            warming = state.warming.get(wrapped.name)
            now = warming.version if warming else state.active.get(wrapped.name)
            ring = cluster.ring_hash_lb_config
            if ring.minimum_ring_size.value > ring.maximum_ring_size.value:
                refused.append(wrapped.name)
                state.warming[wrapped.name] = Warming(wrapped.version, {NEVER})
            elif now != wrapped.version:
                needs = set(references(Resource.decode(wrapped.SerializeToString())))
                self._use(f"cluster {wrapped.name}", needs)
                # Endpoints are needed anew, and asked for only if they never were.
                needs = {
                    need for need in needs if need[0] == ENDPOINTS or not state.held[need[0]].get(need[1])
                }
                state.warming[wrapped.name] = Warming(wrapped.version, needs)
        for name in message.removed_resources:
            state.active.pop(name, None)
            state.warming.pop(name, None)
            self._use(f"cluster {name}", set())
        words = None
        if refused:
            state.rejected += 1
            words = f"Error adding/updating cluster(s) {', '.join(refused)}: minimum_ring_size"
        if words is not None and len(refused) == len(message.resources) and not message.removed_resources:
            self._say(CLUSTER, (), nonce=message.nonce, nack=words)
        else:
            self._withheld.append((message.nonce, words))

    def _lds(self, message: Any) -> None:
        refused = []
        for wrapped in message.resources:
            listener = listener_pb2.Listener.FromString(wrapped.resource.value)
            if listener.address.socket_address.port_value == 1:
                refused.append(wrapped.name)
                continue
            wanted = set(references(Resource.decode(wrapped.SerializeToString())))
            self.state.held[LISTENER][wrapped.name] = wrapped.version
            self.state.listens[wrapped.name] = wanted
            self._use(f"listener {wrapped.name}", wanted)
        for name in message.removed_resources:
            self.state.held[LISTENER].pop(name, None)
            self.state.listens.pop(name, None)
            self._use(f"listener {name}", set())
        words = f"listener {refused[0]}: cannot bind" if refused else None
        self._say(LISTENER, (), nonce=message.nonce, nack=words)

    def _rds(self, message: Any) -> None:
        refused = []
        for wrapped in message.resources:
            if wrapped.name not in self.state.subscribed[ROUTES]:
                continue
            routes = route_pb2.RouteConfiguration.FromString(wrapped.resource.value)
            target = routes.virtual_hosts[0].routes[0].route.cluster
            if target not in self.state.active:
                refused.append(wrapped.name)
                continue
            self.state.held[ROUTES][wrapped.name] = wrapped.version
            self.state.targets[wrapped.name] = target
        for name in message.removed_resources:
            self._forget(ROUTES, name)
        words = f"route {refused[0]}: unknown cluster" if refused else None
        self._say(ROUTES, (), nonce=message.nonce, nack=words)

    def _named(self, message: Any) -> None:
        kind = message.type_url
        names = [wrapped.name for wrapped in message.resources] + list(message.removed_resources)
        for wrapped in message.resources:
            if wrapped.name in self.state.subscribed[kind]:
                self.state.held[kind][wrapped.name] = wrapped.version
        for name in message.removed_resources:
            self.state.held[kind].pop(name, None)
        for warming in self.state.warming.values():
            warming.needs -= {(kind, name) for name in names}
        self._say(kind, (), nonce=message.nonce)

    # --- consequences

    def _use(self, user: str, wanted: set[tuple[str, str]]) -> None:
        """Subscribe to what is newly referred to, and drop what no one refers to any longer."""
        self.state.uses[user] = wanted
        all_wanted = set().union(*self.state.uses.values())
        for kind, subscribed in self.state.subscribed.items():
            names = {name for other, name in all_wanted if other == kind}
            if new := sorted(names - subscribed):
                self._say(kind, new)
            if gone := sorted(subscribed - names):
                self._say(kind, (), unsubscribe=gone)
            for name in gone:
                self._forget(kind, name)
            subscribed |= names
            subscribed -= set(gone)

    def _forget(self, kind: str, name: str) -> None:
        self.state.held[kind].pop(name, None)
        if kind == ROUTES:
            self.state.targets.pop(name, None)

    def _settle(self) -> None:
        """Warm what has everything, release what was withheld, look for 503s."""
        state = self.state
        for name in [n for n, w in state.warming.items() if not w.needs]:
            state.active[name] = state.warming.pop(name).version
        if not state.warming or not state.initialised:
            for nonce, words in self._withheld:
                self._say(CLUSTER, (), nonce=nonce, nack=words)
            self._withheld = []
        if not state.initialised and not state.warming and (CLUSTER, "") in state.told:
            state.initialised = True
            self._say(LISTENER, ())
        wanted = set().union(*state.listens.values())
        state.live |= state.initialised and (LISTENER, "") in state.told and wanted <= state.told
        for route, target in state.targets.items():
            if target not in state.active:
                self.served_503.append(f"{route} -> {target}")

    # --- judgement

    def difference(self, wanted: Snapshot) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
        """type -> (held, wanted) where they differ; empty when it holds exactly `wanted`, all of it warm."""
        have = {CLUSTER: self.state.active, **self.state.held}
        result = {}
        for kind in TYPES:
            want = {name: resource.version for name, resource in wanted.of_type(kind).items()}
            if have.get(kind, {}) != want:
                result[kind] = (have.get(kind, {}), want)
        if self.state.warming:
            result["warming"] = ({n: w.version for n, w in self.state.warming.items()}, {})
        return result
