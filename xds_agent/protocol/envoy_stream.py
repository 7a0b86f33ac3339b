"""EnvoyStream: one ADS stream of an Envoy at its node agent: what it wants, holds, and is being sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import Any

from xds_agent.protocol.boundary import Send
from xds_agent.protocol.delta import DeltaState, Heard
from xds_agent.protocol.wire import delta_response
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, ENVOY_TYPES, LISTENER, Resource

# Envoy asks for all of these and for nothing else; an empty first request of another type means nothing.
WILDCARD_TYPES = frozenset({CLUSTER, LISTENER})


class Phase(Enum):
    """How far a stream is: FRESH Envoys are answered as they ask; one that comes back with state says first
    what it holds (GATHERING) and is then converged; SYNCED is every one after that."""

    FRESH = auto()
    GATHERING = auto()
    SYNCED = auto()


class Nonces:
    """Numbers every response of an agent; order tells which of two came first."""

    def __init__(self) -> None:
        self.last = 0

    def take(self) -> str:
        self.last += 1
        return str(self.last)


class EnvoyStream:
    """Bookkeeping of one stream; decides nothing about what the Envoy should hold."""

    def __init__(self, number: int, nonces: Nonces) -> None:
        self.number = number
        self.phase = Phase.FRESH
        self.types: dict[str, DeltaState] = {}
        # Endpoint sets sent behind a new cluster, before Envoy asked for them: name -> version (trap 9).
        self._ahead: dict[str, str] = {}
        self._nonces = nonces
        self._queue: deque[bytes] = deque()
        self._writing = False
        self.resources_sent = 0

    def state(self, type_url: str) -> DeltaState:
        state = self.types.get(type_url)
        if state is None:
            state = self.types[type_url] = DeltaState(type_url, legacy=type_url in WILDCARD_TYPES)
        return state

    def hear(self, request: Any) -> Heard:
        return self.state(request.type_url).hear(request)

    def seen(self, type_url: str) -> bool:
        """Whether Envoy has asked for this type on this stream."""
        return type_url in self.types and self.types[type_url].seen

    def subscribed(self, type_url: str, name: str) -> bool:
        state = self.types.get(type_url)
        return state is not None and state.subscription.wants(name)

    @property
    def initialised(self) -> bool:
        """Envoy asks for listeners once its first clusters are warm."""
        return self.seen(LISTENER)

    def holds(self) -> dict[str, dict[str, str]]:
        """type url -> name -> version: what this Envoy says it has, or was sent since."""
        return {
            t: {n: v for n, v in self.types[t].known.items() if v} for t in ENVOY_TYPES if t in self.types
        }

    def sent_ahead(self, name: str, version: str) -> bool:
        """True, once, if this endpoint set is under way already: asking for it needs no second answer."""
        return self._ahead.pop(name, None) == version

    def forget_ahead(self) -> None:
        """What was sent ahead and never asked for is forgotten: asking later needs an answer."""
        self._ahead.clear()

    def push(self, type_url: str, resources: Iterable[Resource], removed: Iterable[str] = ()) -> str:
        """Queue one response and return its nonce."""
        state, nonce = self.state(type_url), self._nonces.take()
        found, gone = list(resources), sorted(removed)
        if type_url == ENDPOINTS:
            for resource in found:
                if not state.subscription.wants(resource.name):
                    self._ahead[resource.name] = resource.version
        self.resources_sent += len(found)
        state.sent(nonce, {resource.name: resource.version for resource in found}, gone)
        self._queue.append(delta_response(type_url, nonce, (resource.raw for resource in found), gone))
        return nonce

    def answer_owed(self) -> None:
        """An Envoy that initialises waits for an answer of each type, though there be nothing to send."""
        for type_url, state in list(self.types.items()):
            if state.seen and state.owes_answer:
                self.push(type_url, ())

    def refused(self, type_url: str, versions: Mapping[str, str | None]) -> None:
        """Envoy does not hold these as sent (which of them it does, nobody knows)."""
        state = self.state(type_url)
        for name, version in versions.items():
            if state.known.get(name) == version:
                state.acked.pop(name, None)
            self._ahead.pop(name, None)

    @property
    def writing(self) -> bool:
        return self._writing

    def written(self) -> None:
        self._writing = False

    def flush(self) -> list[Send]:
        """The next frame, if the one before has left."""
        if self._writing or not self._queue:
            return []
        self._writing = True
        return [Send((self.number,), self._queue.popleft())]
