"""ControlCore: ADS server to node agents and to plain xDS clients. Events in, actions out; no I/O, no clock.

A node's name is the one its certificate proves; the live revision says what that name may see. Agents are
served whole revisions, one in flight per stream; what is published meanwhile is coalesced to the newest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from xds_agent.protocol.boundary import (
    Action,
    Close,
    Closed,
    Event,
    Message,
    Method,
    Opened,
    Send,
    Tick,
    Writable,
)
from xds_agent.protocol.bucket import TokenBucket
from xds_agent.protocol.client_session import ClientSession, Memo
from xds_agent.protocol.fanout import Fanout
from xds_agent.protocol.features import INLINE, Views
from xds_agent.protocol.nodes import NodeBook
from xds_agent.protocol.outcomes import (
    Acknowledged,
    Connected,
    Disconnected,
    NodeState,
    Orphan,
    Outcome,
    Refused,
)
from xds_agent.protocol.session import AgentSession, Session
from xds_agent.protocol.timers import Timers
from xds_agent.protocol.wire import (
    ABORTED,
    AGENT,
    DEADLINE_EXCEEDED,
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
    ProtocolError,
    delta_request,
    named_in,
    sotw_request,
)
from xds_agent.snapshot.resource import Snapshot

__all__ = [
    "Acknowledged",
    "Connected",
    "ControlCore",
    "Disconnected",
    "NodeState",
    "Orphan",
    "Outcome",
    "Refused",
]

# Writes are looked over this many times until one that does not move is stalled.
_SWEEPS = 3
_NOT_HELD = "the live revision holds no host of this name"


class ControlCore:
    """See outcomes for what it tells. Nothing is answered before the first `publish`."""

    def __init__(
        self, on_outcome: Callable[[Outcome], None], *, initial_syncs_per_s: float = 50.0,
        initial_burst: int = 50, stalled_write_s: float = 30.0,
    ) -> None:  # fmt: skip
        self._tell = on_outcome
        self._stalled_write_s = stalled_write_s
        self._snapshots: dict[str, Snapshot] | None = None
        self._opened: dict[int, Opened] = {}
        self._sessions: dict[int, Session] = {}
        self._agents: dict[str, AgentSession] = {}
        self._revoked: set[str] = set()
        self._fanout = Fanout()
        self._views = Views()
        self._memo: Memo | None = None
        self._book = NodeBook()
        self._timers = Timers()
        self._bucket = TokenBucket(initial_syncs_per_s, initial_burst)
        self._parked: deque[int] = deque()
        self._closing: list[Action] = []

    def nodes(self) -> Mapping[str, NodeState]:
        """State of every node the live revision holds."""
        return self._book.states()

    def node(self, name: str) -> NodeState | None:
        """State of one, None when the live revision does not hold it."""
        return self._book.state(name)

    def handle(self, event: Event) -> list[Action]:
        touched: list[Session] = []
        # Of these there are two for each stream and change; none of the others comes often.
        if isinstance(event, Message):
            return self._actions(self._message(event.stream, event.data))
        if isinstance(event, Writable):
            if session := self._sessions.get(event.stream):
                session.writing, session.sweeps = False, 0
                touched = [session]
            return self._actions(touched)
        match event:
            case Tick(now=now):
                touched = self._tick(now)
            case Opened():
                self._open(event)
            case Closed(stream=number, reason=reason):
                self._close(number, reason)
        return self._actions(touched)

    def publish(self, snapshots: Mapping[str, Snapshot]) -> list[Action]:
        """Make these, by node name, the live ones. A node that is missing is an orphan; its streams end.
        Nodes of one view share one Snapshot object, and with it every encoded byte."""
        self._snapshots = dict(snapshots)
        self._fanout.forget()
        self._views.forget()
        self._book.publish({name: snapshot.revision for name, snapshot in snapshots.items()})
        for session in list(self._sessions.values()):
            if self._admitted(session) and isinstance(session, ClientSession):
                session.see(self._snapshots[session.node])
        self._memo = {}
        actions = self._actions(list(self._sessions.values()))
        self._memo = None
        return actions

    def revoke(self, serials: set[str]) -> list[Action]:
        """End the streams whose certificates these are, and admit none any more."""
        self._revoked |= serials
        revoked = [n for n, s in self._sessions.items() if s.serial in serials]
        revoked += [n for n, o in self._opened.items() if o.serial in serials]
        for number in revoked:
            self._deny(number, "the certificate is revoked")
        return self._actions([])

    # --- streams

    def _open(self, opened: Opened) -> None:
        if opened.serial and opened.serial in self._revoked:
            self._deny(opened.stream, "the certificate is revoked")
            return
        self._opened[opened.stream] = opened

    def _close(self, number: int, reason: str) -> None:
        self._opened.pop(number, None)
        session = self._sessions.pop(number, None)
        if session is None:
            return
        self._retire(session)
        if self._snapshots is not None and session.node in self._snapshots:
            self._tell(Disconnected(session.node, reason))

    def _retire(self, session: Session) -> None:
        leading = self._agents.get(session.node)
        if leading is not None and leading is session:
            del self._agents[session.node]
            self._book.lost(session.node)

    def _message(self, number: int, data: bytes) -> list[Session]:
        try:
            opened = self._opened.pop(number, None)
            if opened is not None:
                self._begin(opened, data)
            session = self._sessions.get(number)
            if session is None:
                return []
            if isinstance(session, AgentSession):
                if session.hear_ack(data):
                    self._acknowledged(session.node, session.acknowledged)
                    return [session]
                session.hear(delta_request(data), self._wanted(session), self._fanout)
                self._verdict(session)
            elif isinstance(session, ClientSession):
                session.hear(data)
        except ProtocolError as error:
            self._end(number, INVALID_ARGUMENT, str(error))
            return []
        return [session]

    def _begin(self, opened: Opened, data: bytes) -> None:
        """The first request says what speaks here; the certificate, where there is one, who."""
        request = delta_request(data) if opened.method is Method.DELTA else sotw_request(data)
        node = opened.identity or request.node.id
        if not node:
            raise ProtocolError("the first request names no node")
        session: Session
        if opened.method is Method.DELTA and request.node.user_agent_name == AGENT:
            session = AgentSession(opened, node, request.node.client_features)
        else:
            session = ClientSession(opened, node)
        self._sessions[opened.stream] = session
        if self._snapshots is not None and self._admitted(session) and isinstance(session, ClientSession):
            session.see(self._snapshots[node])

    def _admitted(self, session: Session) -> bool:
        """Whether the live revision holds this session's node; one that it does not hold is closed."""
        assert self._snapshots is not None
        if session.node not in self._snapshots:
            self._sessions.pop(session.number, None)
            self._retire(session)
            self._deny(session.number, _NOT_HELD)
            self._tell(Orphan(session.node, _NOT_HELD))
            return False
        if isinstance(session, AgentSession):
            self._lead(session)
        elif not session.admitted:
            session.admitted = True
            self._tell(Connected(session.node, session.number))
        return True

    def _lead(self, session: AgentSession) -> None:
        """One agent stream per node: the newest. An older one is a connection that died without a word."""
        if session.admitted:
            return
        older = self._agents.get(session.node)
        if older is not None:
            self._end(older.number, ABORTED, "a newer stream of this node took over")
        session.admitted = True
        self._agents[session.node] = session
        self._book.connected(session.node, True)
        self._tell(Connected(session.node, session.number))

    def _verdict(self, session: AgentSession) -> None:
        if session.acknowledged:
            self._acknowledged(session.node, session.acknowledged)
        elif session.refused is not None:
            type_url, names, words = session.refused
            revision = session.clear_flight().revision
            self._book.refused(session.node, words)
            self._tell(Refused(session.node, revision, type_url, named_in(words, names), words))

    def _acknowledged(self, node: str, revision: str) -> None:
        self._book.acknowledged(node, revision)
        self._tell(Acknowledged(node, revision))

    def _deny(self, number: int, words: str) -> None:
        self._end(number, PERMISSION_DENIED, words)

    def _end(self, number: int, status: int, words: str) -> None:
        self._closing.append(Close(number, status, words))
        self._close(number, words)

    def _wanted(self, session: AgentSession) -> Snapshot | None:
        current = None if self._snapshots is None else self._snapshots.get(session.node)
        return None if current is None else self._views.of(current, session.features)

    # --- time

    def _tick(self, now: float) -> list[Session]:
        self._book.date(now)
        touched: list[Session] = []
        for key in self._timers.tick(now):
            if key == "sweep":
                self._sweep()
            elif key == "tokens":
                self._bucket.refill(now)
                parked, self._parked = self._parked, deque()
                touched += [self._sessions[number] for number in parked if number in self._sessions]
        return touched

    def _sweep(self) -> None:
        """Streams whose frame has not left for long are closed; their neighbours notice nothing."""
        for session in list(self._sessions.values()):
            if not session.writing:
                continue
            session.sweeps += 1
            if session.sweeps > _SWEEPS:
                words = f"the peer took nothing for {self._stalled_write_s:g} s"
                self._end(session.number, DEADLINE_EXCEEDED, words)
        if any(session.writing for session in self._sessions.values()):
            self._timers.set("sweep", self._stalled_write_s / _SWEEPS)

    # --- sending

    def _actions(self, touched: Iterable[Session]) -> list[Action]:
        frames: dict[int, tuple[bytes, list[int]]] = {}
        for session in touched:
            if session.writing or session.number not in self._sessions:
                continue
            if (frame := self._next_frame(session)) is not None:
                session.writing = True
                frames.setdefault(id(frame), (frame, []))[1].append(session.number)
        actions, self._closing = self._closing, []
        actions += [Send(tuple(numbers), frame) for frame, numbers in frames.values()]
        if any(session.writing for session in touched) and not self._timers.running("sweep"):
            self._timers.set("sweep", self._stalled_write_s / _SWEEPS)
        if self._book.needs_time and not self._timers.running("clock"):
            self._timers.set("clock", 0.0)
        actions += self._timers.wake()
        return actions

    def _next_frame(self, session: Session) -> bytes | None:
        if self._snapshots is None or session.node not in self._snapshots:
            return None
        snapshot = self._snapshots[session.node]
        if isinstance(session, AgentSession):
            snapshot = self._views.of(snapshot, session.features)
            if session.wants(snapshot):
                self._start(session, snapshot)
            return session.queue.popleft() if session.queue else None
        assert isinstance(session, ClientSession)
        if session.dirty and not self._granted(session):
            return None
        return session.next_frame(snapshot, self._fanout, self._memo)

    def _start(self, session: AgentSession, snapshot: Snapshot) -> None:
        step = self._fanout.step(session.held, snapshot, inline=INLINE in session.features)
        if not step.moves and session.claims == snapshot.revision:
            # Trap 3: its acknowledgement was lost; what it says it has is one.
            session.settled, session.claims = snapshot.revision, ""
            session.held = snapshot.resources
            self._acknowledged(session.node, snapshot.revision)
            return
        if step.moves and not self._granted(session):
            return
        session.start(step, snapshot)
        self._book.sent(session.node, snapshot.revision)

    def _granted(self, session: Session) -> bool:
        """A stream's first sync takes a token; without one it is parked until there is."""
        if not session.granted:
            if not self._bucket.take():
                if session.number not in self._parked:
                    self._parked.append(session.number)
                if not self._timers.running("tokens"):
                    self._timers.set("tokens", 1.0 / self._bucket.rate_per_s)
                return False
            session.granted = True
            if not self._timers.running("tokens"):
                self._timers.set("tokens", 1.0 / self._bucket.rate_per_s)
        return True
