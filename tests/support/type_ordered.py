"""A push as most control planes make it: everything at once in the order of types, nothing waited for.

Kinder than the usual one: endpoints follow every touched cluster, so that none warms for 15 s. Removed
clusters ride along with the added ones, and routes do not wait until clusters are warm. What it loses is what
the plan's gates are for.
"""

from __future__ import annotations

from collections.abc import Iterator

from envoy.config.route.v3 import route_pb2

from xds_agent.protocol.answers import answer
from xds_agent.protocol.boundary import Action, Closed, Event, Message, Opened, Writable
from xds_agent.protocol.converge import View
from xds_agent.protocol.envoy_stream import WILDCARD_TYPES, EnvoyStream, Nonces
from xds_agent.protocol.resync import view_of
from xds_agent.protocol.wire import delta_request
from xds_agent.snapshot.plan import touched_endpoints
from xds_agent.snapshot.resource import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    SECRET,
    Resource,
    Snapshot,
)

_ORDER = (SECRET, CLUSTER, ENDPOINTS, LISTENER, ROUTES)


class TypeOrdered:
    """A core for `GrpcTransport`: serves one Envoy `snapshot`, then whatever is pushed."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.refused: list[str] = []
        self._view: View = view_of(lenient(snapshot))
        self._nonces = Nonces()
        self._streams: dict[int, EnvoyStream] = {}

    @property
    def settled(self) -> bool:
        """Everything sent is answered, and something was."""
        states = [state for stream in self._streams.values() for state in stream.types.values()]
        return bool(states) and not any(state.in_flight for state in states)

    def handle(self, event: Event) -> list[Action]:
        match event:
            case Opened(stream=number):
                self._streams[number] = EnvoyStream(number, self._nonces)
            case Closed(stream=number):
                self._streams.pop(number, None)
            case Writable(stream=number) if number in self._streams:
                self._streams[number].written()
            case Message(stream=number, data=data):
                self._message(self._streams[number], data)
            case _:
                pass
        return list(self._flush())

    def push(self, snapshot: Snapshot) -> list[Action]:
        """All that differs, type by type."""
        self._view = view_of(lenient(snapshot))
        for stream in self._streams.values():
            for type_url in _ORDER:
                self._push(stream, type_url)
        return list(self._flush())

    def _push(self, stream: EnvoyStream, type_url: str) -> None:
        update, gone = stream.state(type_url).due(self._view[type_url])
        if type_url == CLUSTER:
            self._touched = touched_endpoints(tuple(update), (), self._view)
        if type_url == ENDPOINTS:
            known = [name for name in self._touched if stream.subscribed(ENDPOINTS, name)]
            update = sorted({*update, *known})
        if type_url not in WILDCARD_TYPES:
            gone = []
        if update or gone:
            stream.push(type_url, [self._view[type_url][name] for name in update], gone)

    def _message(self, stream: EnvoyStream, data: bytes) -> None:
        request = delta_request(data)
        heard = stream.hear(request)
        if heard.refusal is not None:
            self.refused.append(heard.refusal)
        answer(stream, request.type_url, heard, self._view, self._view)

    def _flush(self) -> Iterator[Action]:
        for stream in self._streams.values():
            yield from stream.flush()


def lenient(snapshot: Snapshot) -> Snapshot:
    """Routes that may name clusters which are not there yet: refused, they would stay on the old ones."""
    found = []
    for named in snapshot.resources.values():
        for resource in named.values():
            if resource.type_url != ROUTES:
                found.append(resource)
                continue
            routes = route_pb2.RouteConfiguration.FromString(resource.body.value)
            routes.ClearField("validate_clusters")
            found.append(Resource.of(ROUTES, resource.name, routes))
    return Snapshot.of(found, snapshot.number)
