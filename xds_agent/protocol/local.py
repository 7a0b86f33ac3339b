"""LocalCore: the node agent as its Envoy's only ADS server. Events in, actions out; no I/O, no clock.

An Envoy that comes with nothing is served the held set at once; one that comes back with state says what it
has and is converged from there (trap 4). A new target is applied by the plan's stages once Envoy is LIVE
(trap 2); if Envoy refuses or stalls it is reverted, and only then the refusal is told.
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
from xds_agent.protocol.converge import Converge, Verdict, View
from xds_agent.protocol.delta import Heard
from xds_agent.protocol.envoy_stream import WILDCARD_TYPES, EnvoyStream, Nonces, Phase
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
from xds_agent.protocol.rejections import Rejections
from xds_agent.protocol.resync import resync, view_of
from xds_agent.protocol.revert import revert_stages
from xds_agent.protocol.timers import Timers
from xds_agent.protocol.wire import (
    DEADLINE_EXCEEDED,
    INVALID_ARGUMENT,
    UNAVAILABLE,
    UNIMPLEMENTED,
    ProtocolError,
    delta_request,
    named_in,
)
from xds_agent.protocol.work import Kind, Waiting, Work
from xds_agent.snapshot.diff import Diff
from xds_agent.snapshot.plan import Plan, Stage
from xds_agent.snapshot.resource import CLUSTER, Snapshot

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
# Big sets take Envoy longer: 10,000 clusters were acknowledged in 3.5 s.
_STALL_PER_RESOURCE_S = 0.002
_SETTLE_S = 1.0
# A target under which Envoy goes away this often is refused: it may be what kills it.
_LOSSES_MAX = 3


class LocalCore:
    """Server side of the hop from agent to Envoy; see local_outcomes for what it tells.

    `stall_s` without any progress in a stage is a refusal; `quiet_s` without a further first request ends the
    gathering after a reconnect; `poll_s` without a cluster ACK asks for Envoy's own counter (trap 1).
    `unfinished` names clusters whose change the last process was in the middle of.
    """

    def __init__(
        self, held: Snapshot, on_outcome: Callable[[LocalOutcome], None], *,
        stall_s: float = 10.0, quiet_s: float = 0.02, poll_s: float = 0.03, unfinished: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self._held = held
        self._tell = on_outcome
        self._stall_s, self._quiet_s = stall_s, quiet_s
        self._view: View = view_of(held)
        self._unfinished = frozenset(unfinished)
        self._gathering = Gathering(self._unfinished, quiet_s=quiet_s)
        self._streams: dict[int, EnvoyStream] = {}
        self._primary: EnvoyStream | None = None
        self._nonces = Nonces()
        self._timers = Timers()
        self._closing: list[Action] = []
        self._live = False
        self._waiting: Waiting | None = None
        self._work: Work | None = None
        self._losses = 0
        self._repaired = False
        self._rejections = Rejections(poll_s)
        # By streams that are gone.
        self._sent_before = 0

    @property
    def held(self) -> Snapshot:
        """The last good set."""
        return self._held

    @property
    def applying(self) -> Snapshot | None:
        """The target that has no verdict yet, applied now or waiting."""
        if self._waiting is not None:
            return self._waiting.target
        if self._work is not None and self._work.kind is not Kind.RESYNC:
            return self._work.target
        return None

    @property
    def unfinished(self) -> frozenset[str]:
        """Clusters that this Envoy may hold half made or refused, for the next process to know."""
        return self._unfinished | (self._work.half_made(self._held) if self._work else frozenset())

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
        return self._live

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
        self._waiting = Waiting(target, names, self._held)
        self._losses = 0
        return self._step()

    def ready(self, live: bool) -> list[Action]:
        """What Envoy's /ready said."""
        self._live = live and self._primary is not None
        return self._step()

    def rejected(self, count: int | None) -> list[Action]:
        """Envoy's cluster_manager.cds.update_rejected, or None when its admin does not answer."""
        work = self._work
        if work is None:
            self._rejections.note(count)
            self._timers.cancel("settle")
        elif work.kind is Kind.APPLY and work.converge.awaits_clusters and self._rejections.grew(count):
            words = "Envoy refused the clusters (cds.update_rejected) and withholds its words"
            work.converge.fail(CLUSTER, words)
        return self._step()

    # --- events

    def _opened(self, event: Opened) -> None:
        if event.method is not Method.DELTA:
            words = "Envoy must speak delta here (api_type: AGGREGATED_DELTA_GRPC)"
            self._closing.append(Close(event.stream, UNIMPLEMENTED, words))
            return
        self._streams[event.stream] = EnvoyStream(event.stream, self._nonces)
        # In a hot restart both epochs hold a stream; the newest is the one that counts.
        self._drop_work()
        self._lead(self._streams[event.stream])

    def _lead(self, stream: EnvoyStream) -> None:
        self._primary = stream
        self._view = view_of(self._held)
        self._live = False
        self._rejections.forget()
        self._timers.cancel("quiet")
        self._gathering = Gathering(self._unfinished, quiet_s=self._quiet_s)
        self._tell(EnvoyConnected(stream.number))

    def _closed(self, number: int, reason: str) -> None:
        stream = self._streams.pop(number, None)
        self._timers.cancel(("write", number))
        if stream is None:
            return
        self._sent_before += stream.resources_sent
        if stream is not self._primary:
            return
        if self._work is not None and self._work.kind is Kind.APPLY:
            self._losses += 1
        self._drop_work(reason)
        self._primary, self._live = None, False
        if not self._streams:
            self._timers.cancel("quiet")
            self._tell(EnvoyGone(reason))
            return
        # The other epoch of a hot restart is alone again: converge it from what it was sent.
        other = list(self._streams.values())[-1]
        self._lead(other)
        other.phase = Phase.GATHERING
        self._timers.set("quiet", self._quiet_s)

    def _drop_work(self, reason: str = "a newer Envoy took over") -> None:
        """The stream under the work is gone or superseded: what was being applied waits, or is given up."""
        work, self._work = self._work, None
        self._timers.cancel("stall")
        self._timers.cancel("poll")
        if work is None or work.kind is Kind.RESYNC:
            return
        self._unfinished |= work.half_made(self._held)
        if work.kind is Kind.REVERT:
            self._tell(work.cut_off(reason))
        elif self._losses >= _LOSSES_MAX:
            self._losses = 0
            words = f"Envoy went away {_LOSSES_MAX} times while this was being applied, last: {reason}"
            self._tell(Refused(work.target, "", (), words))
        elif self._waiting is None:
            self._waiting = Waiting(work.target)

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
        goal = self._work.converge.goal if self._work is not None else self._held.resources
        answer(stream, request.type_url, heard, self._view, goal)
        if stream is self._primary:
            self._judge(request.type_url, heard)

    def _await_quiet(self, stream: EnvoyStream) -> None:
        self._timers.set("quiet", self._gathering.patience_s(stream, self._held))

    def _quiet(self) -> None:
        """Nothing more came: nudge an Envoy that withholds something, or converge it."""
        stream = self._primary
        if stream is None or stream.phase is not Phase.GATHERING:
            return
        push = self._gathering.nudge(stream, self._held)
        if push is None:
            self._resync(stream)
            return
        ours = self._held.of_type(push.type_url)
        stream.push(push.type_url, [ours[name] for name in push.update], push.remove)
        self._await_quiet(stream)

    def _judge(self, type_url: str, heard: Heard) -> None:
        if self._work is not None:
            if heard.asked.dropped:
                self._work.converge.held_already(type_url, heard.asked.dropped)
            if self._work.converge.heard(type_url, heard) and self._timers.running("stall"):
                self._start_stall_timer(self._work.converge)
        elif heard.refusal is not None and heard.answered:
            names = named_in(heard.refusal, heard.answered)
            self._tell(Complained(type_url, names, heard.refusal))

    def _tick(self, now: float) -> None:
        for key in self._timers.tick(now):
            match key:
                case "quiet":
                    self._quiet()
                case "stall":
                    if self._work is not None:
                        self._work.converge.stalled(self._stall_s)
                case "poll":
                    self._poll()
                case "settle":
                    self._rejections.note(None)
                case ("write", int(number)):
                    words = f"Envoy took nothing for {_STALLED_WRITE_S:.0f} s"
                    self._closing.append(Close(number, DEADLINE_EXCEEDED, words))

    def _poll(self) -> None:
        work = self._work
        if work is None or not work.converge.awaits_clusters:
            return
        self._tell(PollRejected())
        self._timers.set("poll", self._rejections.next_poll_s())

    # --- work

    def _step(self) -> list[Action]:
        while self._move():
            pass
        actions, self._closing = self._closing, []
        for number, stream in self._streams.items():
            if sends := stream.flush():
                self._timers.set(("write", number), _STALLED_WRITE_S)
                actions += sends
        actions += self._timers.wake()
        return actions

    def _move(self) -> bool:
        work = self._work
        if work is None:
            return self._begin()
        converge = work.converge
        if converge.verdict is None:
            if converge.advance() and not converge.done:
                self._start_stage(work)
            if not converge.done:
                return False
        self._finish(work)
        return True

    def _begin(self) -> bool:
        """Start applying what waits, if this Envoy may have it."""
        stream = self._primary
        if self._waiting is None or stream is None or not self._live or stream.phase is Phase.GATHERING:
            return False
        if not all(stream.seen(t) for t in WILDCARD_TYPES):
            # LIVE and connected, but its first requests, which say what it has, are still on their way.
            return False
        if not self._rejections.known:
            self._ask_counter()
            return False
        waiting, self._waiting = self._waiting, None
        target = waiting.target
        stream.phase = Phase.SYNCED
        diff = Diff.of_resources(self._view, target.resources, waiting.changed_from(self._held))
        stages = Plan.of(diff, target.resources).stages
        self._work = Work(Kind.APPLY, self._converge(stages, target), target)
        return True

    def _ask_counter(self) -> None:
        """Have Envoy's count of refusals before the next apply; an admin that is silent is not waited for."""
        if not self._timers.running("settle"):
            self._timers.set("settle", _SETTLE_S)
            self._tell(PollRejected())

    def _converge(
        self, stages: Iterable[Stage], goal: Snapshot, *, floor: int = 0, asked_only: bool = False
    ) -> Converge:
        assert self._primary is not None
        return Converge(
            self._primary, self._view, tuple(stages), goal.resources, floor=floor, asked_only=asked_only
        )

    def _start_stage(self, work: Work) -> None:
        self._start_stall_timer(work.converge)
        if work.kind is Kind.APPLY and work.converge.awaits_clusters:
            self._timers.set("poll", self._rejections.first_poll_s())

    def _start_stall_timer(self, converge: Converge) -> None:
        self._timers.set("stall", self._stall_s + converge.size * _STALL_PER_RESOURCE_S)

    def _finish(self, work: Work) -> None:
        self._timers.cancel("stall")
        self._timers.cancel("poll")
        assert self._primary is not None
        self._primary.forget_ahead()
        self._work = None
        self._primary.answer_owed()
        verdict = work.converge.verdict
        if work.kind is Kind.REVERT:
            self._reverted(work, verdict)
        elif verdict is None:
            self._arrived(work)
        elif work.kind is Kind.APPLY:
            self._revert(work, verdict)
        else:
            self._view = view_of(self._held)
            self._start_over()
            self._tell(Complained(verdict.type_url, verdict.names, verdict.words))

    def _arrived(self, work: Work) -> None:
        self._unfinished = frozenset()
        self._repaired = False
        if work.kind is Kind.APPLY:
            self._held = work.target
            self._tell(Active(work.target))

    def _revert(self, work: Work, verdict: Verdict) -> None:
        back = Diff.of_resources(self._view, self._held.resources)
        stages = revert_stages(back, self._held.resources)
        converge = self._converge(stages, self._held, floor=self._nonces.last)
        self._work = Work(Kind.REVERT, converge, work.target, verdict)

    def _reverted(self, work: Work, failure: Verdict | None) -> None:
        if failure is not None:
            self._unfinished |= work.half_made(self._held)
            self._view = view_of(self._held)
            self._start_over()
        # What was withheld has been counted by now, and must not be held against the next target.
        self._rejections.forget()
        self._tell(work.reverted(failure))
        self._ask_counter()

    def _start_over(self) -> None:
        """A new stream makes Envoy say what it has, and a plan starts there; once, until one succeeds."""
        if not self._repaired and self._primary is not None:
            self._repaired = True
            self._closing.append(Close(self._primary.number, UNAVAILABLE, "start over"))

    def _resync(self, stream: EnvoyStream) -> None:
        stream.phase = Phase.SYNCED
        self._view, stages = resync(stream, self._held, self._unfinished)
        converge = self._converge(stages, self._held, asked_only=True)
        self._work = Work(Kind.RESYNC, converge, self._held)
