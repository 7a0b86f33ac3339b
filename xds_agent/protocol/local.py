"""LocalCore: the node agent as its Envoy's only ADS server. Events in, actions out; no I/O, no clock.

An Envoy that comes with nothing is served the held set at once; one that comes back with state says what it
has and is converged from there (trap 4). A new target is applied by the plan's stages once Envoy is LIVE
(trap 2); if Envoy refuses or stalls it is reverted, and only then the refusal is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

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
from xds_agent.protocol.resync import clean_up, known_view, pressing_answers
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
from xds_agent.snapshot.diff import Diff
from xds_agent.snapshot.plan import Plan, Stage
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, EXTENSION, SECRET, TYPES, Snapshot

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
_POLL_MAX_S = 1.0
_SETTLE_S = 1.0
# A target under which Envoy goes away this often is refused: it may be what kills it.
_LOSSES_MAX = 3


class _Kind(Enum):
    APPLY = auto()
    RESYNC = auto()
    REVERT = auto()


@dataclass(slots=True)
class _Work:
    kind: _Kind
    converge: Converge
    target: Snapshot
    blame: Verdict | None = None


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
        self._stall_s, self._quiet_s, self._poll_s = stall_s, quiet_s, poll_s
        self._view: View = _copy(held)
        self._unfinished = frozenset(unfinished)
        self._gathering = Gathering(self._unfinished, quiet_s=quiet_s)
        self._streams: dict[int, EnvoyStream] = {}
        self._primary: EnvoyStream | None = None
        self._nonces = Nonces()
        self._timers = Timers()
        self._closing: list[Action] = []
        self._live = False
        self._waiting: tuple[Snapshot, Mapping[str, Iterable[str]] | None] | None = None
        self._work: _Work | None = None
        self._losses = 0
        self._repaired = False
        # Envoy's count of refused cluster updates; None while unknown.
        self._rejections: int | None = None
        self._counter_asked = False
        self._poll_in = poll_s
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
            return self._waiting[0]
        if self._work is not None and self._work.kind is not _Kind.RESYNC:
            return self._work.target
        return None

    @property
    def unfinished(self) -> frozenset[str]:
        """Clusters that this Envoy may hold half made or refused, for the next process to know."""
        if self._work is None or self._work.kind is _Kind.RESYNC:
            return self._unfinished
        diff = Diff.between(self._held, self._work.target)
        return self._unfinished | diff.names().get(CLUSTER, frozenset())

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
        self._waiting = (target, changed)
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
            self._rejections, self._counter_asked = count, True
            self._timers.cancel("settle")
        elif work.kind is _Kind.APPLY and work.converge.awaits_clusters and self._newly_rejected(count):
            words = "Envoy refused the clusters (cds.update_rejected) and withholds its words"
            work.converge.fail(CLUSTER, words)
        return self._step()

    def _newly_rejected(self, count: int | None) -> bool:
        return count is not None and self._rejections is not None and count > self._rejections

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
        self._view = _copy(self._held)
        self._live = False
        self._rejections, self._counter_asked = None, False
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
        if self._work is not None and self._work.kind is _Kind.APPLY:
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
        if work is None or work.kind is _Kind.RESYNC:
            return
        self._cut_off(work)
        if work.kind is _Kind.REVERT:
            assert work.blame is not None
            words = f"{work.blame.words} (then Envoy's stream ended: {reason})"
            self._tell(Refused(work.target, work.blame.type_url, work.blame.names, words))
        elif self._losses >= _LOSSES_MAX:
            self._losses = 0
            words = f"Envoy went away {_LOSSES_MAX} times while this was being applied, last: {reason}"
            self._tell(Refused(work.target, "", (), words))
        elif self._waiting is None:
            self._waiting = (work.target, None)

    def _cut_off(self, work: _Work) -> None:
        """These clusters may be half made, or refused without Envoy saying so after a reconnect."""
        diff = Diff.between(self._held, work.target)
        self._unfinished |= diff.names().get(CLUSTER, frozenset())

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
        self._answer(stream, request.type_url, heard)
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

    def _answer(self, stream: EnvoyStream, type_url: str, heard: Heard) -> None:
        """Subscriptions are answered as they come, from what Envoy is to hold now."""
        if not (heard.first or heard.asked):
            return
        state = stream.state(type_url)
        view = self._view.setdefault(type_url, {})
        if self._work is not None and type_url not in (CLUSTER,):
            self._fetch_from_goal(type_url, heard)
        under_way = self._under_way(stream, heard) if type_url == ENDPOINTS else set()
        if heard.first or state.subscription.wildcard or heard.asked.narrowed:
            update, gone = state.due(view)
        else:
            update, gone = state.due_of(view, heard.asked.names - under_way)
        bodiless = [name for name in update if not self._has_body(type_url, name)]
        update, gone = [name for name in update if name not in bodiless], gone + bodiless
        if type_url == EXTENSION:
            gone = []  # Rule 26.
        if type_url == SECRET:
            gone = [name for name in gone if not state.known.get(name)]  # Rule 19: it would open the port.
        if update or gone or state.owes_answer:
            stream.push(type_url, [view[name] for name in update], gone)

    def _has_body(self, type_url: str, name: str) -> bool:
        """After a reconnect some of the view is known by its version only; what is asked for again comes from
        where the Envoy is being taken, if that has it."""
        view = self._view[type_url]
        if not view[name].raw:
            goal = self._work.converge.goal if self._work is not None else self._held.resources
            if (resource := goal.get(type_url, {}).get(name)) is None:
                return False
            view[name] = resource
        return True

    def _under_way(self, stream: EnvoyStream, heard: Heard) -> set[str]:
        """Endpoint sets asked for now that went out behind their cluster: no second answer (trap 9)."""
        state, view = stream.state(ENDPOINTS), self._view[ENDPOINTS]
        found = {n for n in heard.asked.names if n in view and stream.sent_ahead(n, view[n].version)}
        state.known.update((name, view[name].version) for name in found)
        return found

    def _fetch_from_goal(self, type_url: str, heard: Heard) -> None:
        """Envoy asks for what something new refers to: it may have it before its stage."""
        assert self._work is not None
        goal, view = self._work.converge.goal.get(type_url, {}), self._view[type_url]
        for name in heard.asked.names:
            if name not in view and name in goal:
                view[name] = goal[name]

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
                    self._counter_asked = True
                case ("write", int(number)):
                    words = f"Envoy took nothing for {_STALLED_WRITE_S:.0f} s"
                    self._closing.append(Close(number, DEADLINE_EXCEEDED, words))

    def _poll(self) -> None:
        work = self._work
        if work is None or not work.converge.awaits_clusters:
            return
        self._tell(PollRejected())
        self._poll_in = min(self._poll_in * 2, _POLL_MAX_S)
        self._timers.set("poll", self._poll_in)

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
        if self._rejections is None and not self._counter_asked:
            self._ask_counter()
            return False
        (target, changed), self._waiting = self._waiting, None
        stream.phase = Phase.SYNCED
        diff = Diff.of_resources(self._view, target.resources, changed)
        stages = Plan.of(diff, target.resources).stages
        self._work = _Work(_Kind.APPLY, self._converge(stages, target), target)
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

    def _start_stage(self, work: _Work) -> None:
        self._start_stall_timer(work.converge)
        if work.kind is _Kind.APPLY and work.converge.awaits_clusters:
            self._poll_in = self._poll_s
            self._timers.set("poll", self._poll_s)

    def _start_stall_timer(self, converge: Converge) -> None:
        self._timers.set("stall", self._stall_s + converge.size * _STALL_PER_RESOURCE_S)

    def _finish(self, work: _Work) -> None:
        self._timers.cancel("stall")
        self._timers.cancel("poll")
        assert self._primary is not None
        self._primary.forget_ahead()
        self._work = None
        self._primary.answer_owed()
        verdict = work.converge.verdict
        if work.kind is _Kind.REVERT:
            self._reverted(work, verdict)
        elif verdict is None:
            self._arrived(work)
        elif work.kind is _Kind.APPLY:
            self._revert(work, verdict)
        else:
            self._view = _copy(self._held)
            self._start_over()
            self._tell(Complained(verdict.type_url, verdict.names, verdict.words))

    def _arrived(self, work: _Work) -> None:
        self._unfinished = frozenset()
        self._repaired = False
        if work.kind is _Kind.APPLY:
            self._held = work.target
            self._tell(Active(work.target))

    def _revert(self, work: _Work, verdict: Verdict) -> None:
        back = Diff.of_resources(self._view, self._held.resources)
        stages = revert_stages(back, self._held.resources)
        converge = self._converge(stages, self._held, floor=self._nonces.last)
        self._work = _Work(_Kind.REVERT, converge, work.target, verdict)

    def _reverted(self, work: _Work, failure: Verdict | None) -> None:
        blame, late = work.blame, work.converge.late_words
        assert blame is not None and self._primary is not None
        words, names = blame.words, blame.names
        if late and late not in words:
            words, names = f"{words}; then: {late}", named_in(late, names) if names else names
        if failure is not None:
            self._cut_off(work)
            words += f"; taking Envoy back failed too: {failure.words}"
            self._view = _copy(self._held)
            self._start_over()
        # What was withheld has been counted by now, and must not be held against the next target.
        self._rejections, self._counter_asked = None, False
        self._tell(Refused(work.target, blame.type_url, names, words))
        self._ask_counter()

    def _start_over(self) -> None:
        """A new stream makes Envoy say what it has, and a plan starts there; once, until one succeeds."""
        if not self._repaired and self._primary is not None:
            self._repaired = True
            self._closing.append(Close(self._primary.number, UNAVAILABLE, "start over"))

    def _resync(self, stream: EnvoyStream) -> None:
        stream.phase = Phase.SYNCED
        self._view = known_view(stream.holds(), self._held)
        for answer in pressing_answers(stream, self._held):
            resources = [self._held.of_type(answer.type_url)[name] for name in answer.update]
            stream.push(answer.type_url, resources, answer.remove)
            self._view[answer.type_url].update((resource.name, resource) for resource in resources)
        diff = Diff.of_resources(self._view, self._held.resources)
        stages = list(Plan.of(diff, self._held.resources).stages)
        if self._unfinished:
            stages.insert(0, clean_up(self._unfinished, self._held))
        converge = self._converge(stages, self._held, asked_only=True)
        self._work = _Work(_Kind.RESYNC, converge, self._held)


def _copy(snapshot: Snapshot) -> View:
    return {t: dict(snapshot.of_type(t)) for t in TYPES}
