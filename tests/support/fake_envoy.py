"""The one fluent xDS client of all protocol tests: a test reads as a conversation.

    wire = Wire(core)
    envoy = FakeEnvoy(wire).request(CLUSTER).expect(CLUSTER, "a", "b").ack()
    wire.do(core.set_target(snapshot))
    envoy.expect(CLUSTER, "b").nack("no").expect_nothing()

Wire stands for the transport: it keeps the rule of one frame per stream, lets time pass only when told, and
checks that the core respects both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2

from xds_agent.protocol.boundary import (
    Action,
    Close,
    Closed,
    Core,
    Message,
    Method,
    Opened,
    Send,
    Tick,
    Wake,
    Writable,
)
from xds_agent.snapshot.resource import SHORT


class Wire:
    """Carries events to a core and its actions to FakeEnvoys. Time starts at 1,000 s and stands still."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.now = 1000.0
        self.wakes: list[float] = []
        self.sends: list[Send] = []
        self.clients: dict[int, FakeEnvoy] = {}
        self._next = 1
        self._busy: set[int] = set()
        self._stuck: set[int] = set()

    def open(self, client: FakeEnvoy, method: Method, identity: str | None, serial: str) -> int:
        number, self._next = self._next, self._next + 1
        self.clients[number] = client
        self.event(Opened(number, method, identity, serial))
        return number

    def event(self, event: Any) -> None:
        self.do(self.core.handle(event))

    def do(self, actions: Iterable[Action]) -> None:
        """Carry out what the core asks, and what it asks in turn."""
        pending = deque(actions)
        while pending:
            match pending.popleft():
                case Send(streams=streams, data=data) as send:
                    self.sends.append(send)
                    for number in streams:
                        assert number not in self._busy, f"stream {number}: a second frame before Writable"
                        if number in self.clients:
                            self._busy.add(number)
                            self.clients[number].inbox.append(data)
                    for number in streams:
                        if number in self._busy and number not in self._stuck:
                            self._busy.discard(number)
                            pending.extend(self.core.handle(Writable(number)))
                case Close(stream=number) as close:
                    client = self.clients.pop(number, None)
                    if client is not None:
                        client.closed = close
                        self._busy.discard(number)
                        pending.extend(self.core.handle(Closed(number, close.text)))
                case Wake(at=at):
                    self.wakes.append(at)

    def stick(self, client: FakeEnvoy) -> None:
        """From now on frames to this client do not leave."""
        self._stuck.add(client.number)

    def unstick(self, client: FakeEnvoy) -> None:
        self._stuck.discard(client.number)
        if client.number in self._busy:
            self._busy.discard(client.number)
            self.event(Writable(client.number))

    def hang_up(self, client: FakeEnvoy, reason: str = "connection lost") -> None:
        self.clients.pop(client.number, None)
        self._busy.discard(client.number)
        self.event(Closed(client.number, reason))

    def wait(self, seconds: float) -> None:
        """Let time pass; ticks come only when the core asked for them, as a transport gives them."""
        end = self.now + seconds
        while True:
            due = [at for at in self.wakes if at <= end]
            if not due:
                break
            self.now = max(self.now, min(due))
            self.wakes = [at for at in self.wakes if at > self.now]
            self.event(Tick(self.now))
        self.now = end


@dataclass
class Response:
    """A decoded response of either method."""

    type_url: str
    nonce: str
    version: str
    resources: dict[str, str]
    removed: tuple[str, ...]
    raw: bytes = field(repr=False, default=b"")

    def __str__(self) -> str:
        kind = SHORT.get(self.type_url, self.type_url)
        return f"{kind} {sorted(self.resources)} removed {sorted(self.removed)} (nonce {self.nonce})"


class FakeEnvoy:
    """A client that says exactly what the test says."""

    def __init__(
        self, wire: Wire, *, method: Method = Method.DELTA, node: str = "edge1", agent: str = "envoy",
        identity: str | None = None, serial: str = "",
    ) -> None:  # fmt: skip
        self.wire = wire
        self.method = method
        self.node = node
        self.agent = agent
        self.inbox: deque[bytes] = deque()
        self.closed: Close | None = None
        self.last: Response | None = None
        self._introduced = False
        self._names: dict[str, tuple[str, ...]] = {}
        self.number = wire.open(self, method, identity, serial)

    # --- what it says

    def request(
        self, type_url: str, *names: str, unsubscribe: Iterable[str] = (),
        versions: Mapping[str, str] | None = None, version: str = "", nonce: str = "",
        nack: str | None = None,
    ) -> FakeEnvoy:  # fmt: skip
        """Delta: subscribe to `names`, with initial_resource_versions. SotW: `names` is the whole list."""
        if self.method is Method.DELTA:
            request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce)
            request.resource_names_subscribe.extend(names)
            request.resource_names_unsubscribe.extend(unsubscribe)
            request.initial_resource_versions.update(versions or {})
        else:
            request = discovery_pb2.DiscoveryRequest(type_url=type_url, response_nonce=nonce)
            request.resource_names.extend(names)
            request.version_info = version
            self._names[type_url] = names
        if not self._introduced:
            request.node.id, request.node.user_agent_name = self.node, self.agent
            self._introduced = True
        if nack is not None:
            request.error_detail.code, request.error_detail.message = 3, nack
        return self.say(request)

    def say(self, request: Any) -> FakeEnvoy:
        data = request if isinstance(request, bytes) else request.SerializeToString()
        self.wire.event(Message(self.number, data))
        return self

    def ack(self, response: Response | None = None, **also: Any) -> FakeEnvoy:
        """Acknowledge `response`, or the last expected one."""
        return self._answer(response, None, also)

    def nack(self, words: str, response: Response | None = None, **also: Any) -> FakeEnvoy:
        return self._answer(response, words, also)

    def _answer(self, response: Response | None, words: str | None, also: dict[str, Any]) -> FakeEnvoy:
        response = response or self.last
        assert response is not None, "there is no response to answer"
        names = also.pop("names", () if self.method is Method.DELTA else self._names[response.type_url])
        if self.method is Method.SOTW and words is None:
            also.setdefault("version", response.version)
        return self.request(response.type_url, *names, nonce=response.nonce, nack=words, **also)

    # --- what it hears

    def expect(
        self, type_url: str, *names: str, removed: Iterable[str] = (), any_names: bool = False
    ) -> FakeEnvoy:
        """The next response is of this type and holds exactly these names."""
        assert self.closed is None, f"the stream was closed: {self.closed}"
        assert self.inbox, f"expected {SHORT[type_url]} {sorted(names)}, heard nothing"
        self.last = self._decode(self.inbox.popleft())
        assert self.last.type_url == type_url, (
            f"expected {SHORT[type_url]} {sorted(names)}, heard {self.last}"
        )
        if not any_names:
            assert sorted(self.last.resources) == sorted(names), f"heard {self.last}"
            assert sorted(self.last.removed) == sorted(removed), f"heard {self.last}"
        return self

    def expect_nothing(self) -> FakeEnvoy:
        heard = [str(self._decode(data)) for data in self.inbox]
        assert not heard, f"expected silence, heard {heard}"
        assert self.closed is None, f"the stream was closed: {self.closed}"
        return self

    def expect_closed(self, status: int) -> FakeEnvoy:
        assert self.closed is not None, "the stream is open"
        assert self.closed.status == status, self.closed
        return self

    def take(self) -> Response:
        """The next response, whatever it is."""
        self.expect_some()
        self.last = self._decode(self.inbox.popleft())
        return self.last

    def expect_some(self) -> FakeEnvoy:
        assert self.inbox, "heard nothing"
        return self

    def _decode(self, data: bytes) -> Response:
        if self.method is Method.DELTA:
            delta = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
            names = [resource.name for resource in delta.resources]
            assert len(names) == len(set(names)), f"duplicate names: {names}"
            found = {resource.name: resource.version for resource in delta.resources}
            return Response(delta.type_url, delta.nonce, "", found, tuple(delta.removed_resources), data)
        sotw = discovery_pb2.DiscoveryResponse.FromString(data)
        found = {_name_of(packed): sotw.version_info for packed in sotw.resources}
        assert len(found) == len(sotw.resources), "duplicate names"
        return Response(sotw.type_url, sotw.nonce, sotw.version_info, found, (), data)


def _name_of(packed: Any) -> str:
    from google.protobuf import descriptor_pool, message_factory

    kind = descriptor_pool.Default().FindMessageTypeByName(packed.type_url.rpartition("/")[2])
    message = message_factory.GetMessageClass(kind).FromString(packed.value)
    return str(getattr(message, "name", "") or getattr(message, "cluster_name", ""))


def without_features(request: bytes) -> bytes:
    """An agent's first request as a version says it that takes no parts within the Revision."""
    parsed = discovery_pb2.DeltaDiscoveryRequest.FromString(request)
    parsed.node.ClearField("client_features")
    return parsed.SerializeToString()
