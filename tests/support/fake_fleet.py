"""Node agents without sockets: the real Assembly talks to the real ControlCore in this event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from xds_agent.protocol.assembly import Assembly, Complete
from xds_agent.protocol.boundary import Action, Close, Closed, Event, Message, Method, Opened, Send, Writable
from xds_agent.rollout.publisher import Publisher
from xds_agent.snapshot.resource import EMPTY


@dataclass(frozen=True)
class Refuse:
    """What a node answers instead of an acknowledgement."""

    words: str
    type_url: str = ""
    names: tuple[str, ...] = ()


# Decides on each complete revision: None accepts, a Refuse refuses, "silent" says nothing.
Decision = Callable[[Complete], "Refuse | str | None"]


@dataclass
class FakeNode:
    """One proxy host. `received` lists the revisions it got whole."""

    name: str
    decide: Decision
    assembly: Assembly
    received: list[Complete] = field(default_factory=list)
    stream: int = 0
    closed: str = ""

    @property
    def holds(self) -> str:
        return self.assembly.held.revision


class FakeFleet:
    """Carries the core's actions to the nodes and their answers back, one event per turn of the loop."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._nodes: dict[int, FakeNode] = {}
        self._streams = 0
        publisher.attach(self.carry_out)

    def connect(self, name: str, decide: Decision = lambda complete: None) -> FakeNode:
        """A node that holds nothing yet."""
        return self.reconnect(FakeNode(name, decide, Assembly(EMPTY, name)))

    def reconnect(self, node: FakeNode) -> FakeNode:
        self._streams += 1
        node.stream, node.closed = self._streams, ""
        self._nodes[node.stream] = node
        self._soon(Opened(node.stream, Method.DELTA, identity=node.name, serial=f"{node.stream:X}"))
        for request in node.assembly.open():
            self._soon(Message(node.stream, request))
        return node

    def disconnect(self, node: FakeNode) -> None:
        del self._nodes[node.stream]
        self._soon(Closed(node.stream, "the node went away"))

    def carry_out(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                for stream in action.streams:
                    self._deliver(stream, action.data)
            elif isinstance(action, Close) and action.stream in self._nodes:
                self._nodes.pop(action.stream).closed = action.text
                self._soon(Closed(action.stream, action.text))

    def _deliver(self, stream: int, data: bytes) -> None:
        node = self._nodes.get(stream)
        if node is None:
            return
        self._soon(Writable(stream))
        for out in node.assembly.on_response(data):
            if isinstance(out, bytes):
                self._soon(Message(stream, out))
                continue
            node.received.append(out)
            verdict = node.decide(out)
            if isinstance(verdict, Refuse):
                answer = node.assembly.refuse(out, verdict.words, verdict.type_url, verdict.names)
            elif verdict is None:
                answer = node.assembly.accept(out)
            else:
                continue
            if answer is not None:
                self._soon(Message(stream, answer))

    def _soon(self, event: Event) -> None:
        asyncio.get_running_loop().call_soon(self._handle, event)

    def _handle(self, event: Event) -> None:
        self.carry_out(self._publisher.core.handle(event))
