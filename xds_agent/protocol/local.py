"""LocalCore: the node agent as its Envoy's only ADS server. Events in, actions out; no I/O, no clock.

It knows the streams: which one counts, who said what, what is owed. An Envoy that comes with nothing is
served the held set at once; one that comes back with state says what it has and is converged from there
(trap 4). What the Envoy that counts is taken through is its Course.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from xds_agent.protocol.answers import answer
from xds_agent.protocol.boundary import (
    Action,
    Close,
    Closed,
    Event,
    Message,
    Method,
    Opened,
    Tick,
    Writable,
)
from xds_agent.protocol.course import LINGER, POLL, SETTLE, STALL, Course
from xds_agent.protocol.envoy_stream import EnvoyStream, Nonces, Phase
from xds_agent.protocol.gathering import Gathering
from xds_agent.protocol.local_outcomes import (
    Active,
    Complained,
    EnvoyConnected,
    EnvoyGone,
    LocalOutcome,
    PollRejected,
    Refused,
)
from xds_agent.protocol.timers import Timers
from xds_agent.protocol.wire import (
    DEADLINE_EXCEEDED,
    INVALID_ARGUMENT,
    UNIMPLEMENTED,
    ProtocolError,
    delta_request,
)
from xds_agent.snapshot.resource import Snapshot

__all__ = [
    "Active",
    "Complained",
    "EnvoyConnected",
    "EnvoyGone",
    "LocalCore",
    "LocalOutcome",
    "PollRejected",
    "Refused",
]

_STALLED_WRITE_S = 30.0
_QUIET = "quiet"


class LocalCore:
    """Server side of the hop from agent to Envoy; see local_outcomes for what it tells.

    `stall_s` without any progress in a stage is a refusal; `quiet_s` without a further first request ends the
    gathering after a reconnect; `poll_s` without a cluster ACK asks for Envoy's own counter (trap 1).
    Clusters that a set does without go one to two `linger_s` after it became active; with 0 they go before,
    as is right where no request is on its way.
    `unfinished` names clusters whose change the last process was in the middle of.
    """

    def __init__(
        self, held: Snapshot, on_outcome: Callable[[LocalOutcome], None], *,
        stall_s: float = 10.0, quiet_s: float = 0.02, poll_s: float = 0.03, linger_s: float = 1.0,
        unfinished: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self._tell = on_outcome
        self._quiet_s = quiet_s
        self._streams: dict[int, EnvoyStream] = {}
        self._primary: EnvoyStream | None = None
        self._nonces = Nonces()
        self._timers = Timers()
        self._course = Course(
            held, on_outcome, self._timers, self._nonces,
            stall_s=stall_s, poll_s=poll_s, linger_s=linger_s, unfinished=unfinished,
        )  # fmt: skip
        self._gathering = Gathering(self._course.unfinished, quiet_s=quiet_s)
        self._closing: list[Action] = []
        # By streams that are gone.
        self._sent_before = 0

    @property
    def held(self) -> Snapshot:
        """The last good set."""
        return self._course.held

    @property
    def applying(self) -> Snapshot | None:
        """The target that has no verdict yet, applied now or waiting."""
        return self._course.applying

    @property
    def unfinished(self) -> frozenset[str]:
        """Clusters that this Envoy may hold half made or refused, for the next process to know."""
        return self._course.unfinished

    @property
    def resources_sent(self) -> int:
        """Resources put into responses since the start."""
        return self._sent_before + sum(stream.resources_sent for stream in self._streams.values())

    @property
    def connected(self) -> bool:
        return self._primary is not None

    @property
    def live(self) -> bool:
        """Whether this Envoy, on this stream, was said to be LIVE."""
        return self._course.live

    def handle(self, event: Event) -> list[Action]:
        match event:
            case Message(stream=number, data=data):
                self._message(number, data)
            case Writable(stream=number):
                if stream := self._streams.get(number):
                    stream.written()
                    self._timers.cancel(("write", number))
            case Tick(now=now):
                self._tick(now)
            case Opened():
                self._opened(event)
            case Closed(stream=number, reason=reason):
                self._closed(number, reason)
        return self._step()

    def set_target(
        self, target: Snapshot, changed: Mapping[str, Iterable[str]] | None = None
    ) -> list[Action]:
        """Bring Envoy to `target`; ends in Active or Refused, unless a newer one replaces it while it waits.
        `changed` names, per type, all that can differ from the held set, where the caller knows."""
        names = {t: frozenset(found) for t, found in changed.items()} if changed is not None else None
        self._course.set_target(target, names)
        return self._step()

    def ready(self, live: bool) -> list[Action]:
        """What Envoy's /ready said."""
        self._course.live = live and self._primary is not None
        return self._step()

    def rejected(self, count: int | None) -> list[Action]:
        """Envoy's cluster_manager.cds.update_rejected, or None when its admin does not answer."""
        self._course.rejected(count)
        return self._step()

    def _opened(self, event: Opened) -> None:
        if event.method is not Method.DELTA:
            words = "Envoy must speak delta here (api_type: AGGREGATED_DELTA_GRPC)"
            self._closing.append(Close(event.stream, UNIMPLEMENTED, words))
            return
        self._streams[event.stream] = EnvoyStream(event.stream, self._nonces)
        # In a hot restart both epochs hold a stream; the newest is the one that counts.
        self._course.drop()
        self._lead(self._streams[event.stream])

    def _lead(self, stream: EnvoyStream) -> None:
        self._primary = stream
        self._course.lead(stream)
        self._timers.cancel(_QUIET)
        self._gathering = Gathering(self._course.unfinished, quiet_s=self._quiet_s)
        self._tell(EnvoyConnected(stream.number))

    def _closed(self, number: int, reason: str) -> None:
        stream = self._streams.pop(number, None)
        self._timers.cancel(("write", number))
        if stream is None:
            return
        self._sent_before += stream.resources_sent
        if stream is not self._primary:
            return
        self._course.lost(reason)
        self._course.lead(None)
        self._primary = None
        if not self._streams:
            self._timers.cancel(_QUIET)
            self._tell(EnvoyGone(reason))
            return
        # The other epoch of a hot restart is alone again: converge it from what it was sent.
        other = list(self._streams.values())[-1]
        self._lead(other)
        other.phase = Phase.GATHERING
        self._timers.set(_QUIET, self._quiet_s)

    def _message(self, number: int, data: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        try:
            request = delta_request(data)
        except ProtocolError as error:
            self._closing.append(Close(number, INVALID_ARGUMENT, str(error)))
            return
        heard = stream.hear(request)
        if heard.first and stream.phase is Phase.FRESH and request.initial_resource_versions:
            stream.phase = Phase.GATHERING
        if stream.phase is Phase.GATHERING:
            if stream is self._primary:
                self._await_quiet(stream)
            return
        answer(stream, request.type_url, heard, self._course.view, self._course.goal)
        if stream is self._primary:
            self._course.heard(request.type_url, heard)

    def _await_quiet(self, stream: EnvoyStream) -> None:
        self._timers.set(_QUIET, self._gathering.patience_s(stream, self.held))

    def _quiet(self) -> None:
        """Nothing more came: nudge an Envoy that withholds something, or converge it."""
        stream = self._primary
        if stream is None or stream.phase is not Phase.GATHERING:
            return
        push = self._gathering.nudge(stream, self.held)
        if push is None:
            self._course.resync(stream)
            return
        ours = self.held.of_type(push.type_url)
        stream.push(push.type_url, [ours[name] for name in push.update], push.remove)
        self._await_quiet(stream)

    def _tick(self, now: float) -> None:
        for key in self._timers.tick(now):
            match key:
                case "quiet":
                    self._quiet()
                case ("write", int(number)):
                    words = f"Envoy took nothing for {_STALLED_WRITE_S:.0f} s"
                    self._closing.append(Close(number, DEADLINE_EXCEEDED, words))
                case str(key) if key in (STALL, POLL, SETTLE, LINGER):
                    self._course.timer(key)

    def _step(self) -> list[Action]:
        self._course.step()
        actions = [*self._closing, *self._course.closing]
        self._closing, self._course.closing = [], []
        for number, stream in self._streams.items():
            if sends := stream.flush():
                self._timers.set(("write", number), _STALLED_WRITE_S)
                actions += sends
        actions += self._timers.wake()
        return actions
