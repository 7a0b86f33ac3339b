"""Course: what the Envoy that counts is being taken through: a new target, a reconnect, the way back.

One work at a time. A new target waits until Envoy is LIVE and has said what it has (traps 2 and 4), goes by
the plan's stages, and ends in Active; refused or stalled it is reverted first, and only then told. Which
stream counts, and how its requests are read, is LocalCore's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from xds_agent.protocol.boundary import Close
from xds_agent.protocol.converge import Converge, Verdict, View
from xds_agent.protocol.delta import Heard
from xds_agent.protocol.envoy_stream import WILDCARD_TYPES, EnvoyStream, Nonces, Phase
from xds_agent.protocol.lingering import Lingering
from xds_agent.protocol.local_outcomes import Active, Complained, LocalOutcome, PollRejected, Refused
from xds_agent.protocol.rejections import Rejections
from xds_agent.protocol.resync import resync, view_of
from xds_agent.protocol.revert import revert_plan
from xds_agent.protocol.timers import Timers
from xds_agent.protocol.wire import UNAVAILABLE, named_in
from xds_agent.protocol.work import Kind, Waiting, Work
from xds_agent.snapshot.diff import Diff
from xds_agent.snapshot.plan import NOTHING, Plan, Stage
from xds_agent.snapshot.resource import CLUSTER, Resource, Snapshot

STALL, POLL, SETTLE, LINGER = "stall", "poll", "settle", "linger"

# Big sets take Envoy longer: 10,000 clusters were acknowledged in 3.5 s.
_STALL_PER_RESOURCE_S = 0.002
_SETTLE_S = 1.0
# A target under which Envoy goes away this often is refused: it may be what kills it.
_LOSSES_MAX = 3


class Course:
    """`held` is the last good set, `view` what the Envoy that counts holds now. Timers are those of its
    owner, who hands STALL, POLL, SETTLE and LINGER back to `timer`, and carries out and empties `closing`.
    """

    def __init__(
        self, held: Snapshot, tell: Callable[[LocalOutcome], None], timers: Timers, nonces: Nonces, *,
        stall_s: float, poll_s: float, linger_s: float, unfinished: Iterable[str],
    ) -> None:  # fmt: skip
        self.held = held
        self.view: View = view_of(held)
        self.live = False
        self.closing: list[Close] = []
        self._tell = tell
        self._timers = timers
        self._nonces = nonces
        self._stall_s = stall_s
        self._linger_s = linger_s
        self._stream: EnvoyStream | None = None
        self._unfinished = frozenset(unfinished)
        self._waiting: Waiting | None = None
        self._work: Work | None = None
        self._losses = 0
        self._repaired = False
        self._rejections = Rejections(poll_s)
        self._lingering = Lingering()

    @property
    def applying(self) -> Snapshot | None:
        """The target that has no verdict yet, applied now or waiting."""
        if self._waiting is not None:
            return self._waiting.target
        if self._work is not None and self._work.asked_for:
            return self._work.target
        return None

    @property
    def unfinished(self) -> frozenset[str]:
        """Clusters that this Envoy may hold half made or refused, for the next process to know."""
        return self._unfinished | (self._work.half_made(self.held) if self._work else frozenset())

    @property
    def goal(self) -> Mapping[str, Mapping[str, Resource]]:
        """Where this Envoy is being taken."""
        return self._work.converge.goal if self._work is not None else self.held.resources

    # --- what happens to it

    def set_target(self, target: Snapshot, changed: dict[str, frozenset[str]] | None) -> None:
        """Take this next; a target that still waits gives way."""
        self._waiting = Waiting(target, changed, self.held)
        self._losses = 0

    def lead(self, stream: EnvoyStream | None) -> None:
        """Another stream counts from now on, of which nothing is known yet; or none."""
        self._stream, self.live = stream, False
        self._lingering.forget()
        if stream is not None:
            self.view = view_of(self.held)
            self._rejections.forget()

    def resync(self, stream: EnvoyStream) -> None:
        """Bring an Envoy that has said what it has to the held set."""
        stream.phase = Phase.SYNCED
        self.view, stages, later = resync(stream, self.held, self._unfinished)
        converge = self._converge(stages, self.held, asked_only=True)
        self._work = Work(Kind.RESYNC, converge, self.held, later)

    def lost(self, reason: str) -> None:
        """The stream that counted is gone."""
        if self._work is not None and self._work.kind is Kind.APPLY:
            self._losses += 1
        self.drop(reason)

    def drop(self, reason: str = "a newer Envoy took over") -> None:
        """The stream under the work is gone or superseded: what was being applied waits, or is given up."""
        work, self._work = self._work, None
        self._timers.cancel(STALL)
        self._timers.cancel(POLL)
        if work is None or not work.asked_for:
            return
        self._unfinished |= work.half_made(self.held)
        if work.kind is Kind.REVERT:
            self._tell(work.cut_off(reason))
        elif self._losses >= _LOSSES_MAX:
            self._losses = 0
            words = f"Envoy went away {_LOSSES_MAX} times while this was being applied, last: {reason}"
            self._tell(Refused(work.target, "", (), words))
        elif self._waiting is None:
            self._waiting = Waiting(work.target)

    def heard(self, type_url: str, heard: Heard) -> None:
        """What a request of the stream that counts said."""
        if self._work is not None:
            if heard.asked.dropped:
                self._work.converge.held_already(type_url, heard.asked.dropped)
            if self._work.converge.heard(type_url, heard) and self._timers.running(STALL):
                self._start_stall_timer(self._work.converge)
        elif heard.refusal is not None and heard.answered:
            names = named_in(heard.refusal, heard.answered)
            self._tell(Complained(type_url, names, heard.refusal))

    def rejected(self, count: int | None) -> None:
        """Envoy's own count of refused cluster updates; None when its admin does not answer."""
        work = self._work
        if work is None:
            self._rejections.note(count)
            self._timers.cancel(SETTLE)
        elif work.kind is Kind.APPLY and work.converge.awaits_clusters and self._rejections.grew(count):
            words = "Envoy refused the clusters (cds.update_rejected) and withholds its words"
            work.converge.fail(CLUSTER, words)

    def timer(self, key: str) -> None:
        """One of STALL, POLL, SETTLE and LINGER is over."""
        if key == SETTLE:
            self._rejections.note(None)
        elif key == LINGER:
            self._lingering.ripe = True
        elif self._work is not None and key == STALL:
            self._work.converge.stalled(self._stall_s)
        elif self._work is not None and self._work.converge.awaits_clusters:
            self._tell(PollRejected())
            self._timers.set(POLL, self._rejections.next_poll_s())

    # --- how it goes on

    def step(self) -> None:
        """As far as it goes without hearing more."""
        while self._move():
            pass

    def _move(self) -> bool:
        work = self._work
        if work is None:
            return self._sweep() or self._begin()
        converge = work.converge
        if converge.verdict is None:
            if converge.advance() and not converge.done:
                self._start_stage(work)
            if not converge.done:
                return False
        self._finish(work)
        return True

    def _sweep(self) -> bool:
        """End what has lingered for its time."""
        if not self._lingering.ripe or not self._heard_out():
            return False
        stage = self._lingering.take()
        if self._lingering:
            self._timers.set(LINGER, self._linger_s)
        if stage:
            self._work = Work(Kind.SWEEP, self._converge([stage], self.held), self.held)
        return bool(stage)

    def _heard_out(self) -> bool:
        """There is an Envoy that has said what it has: else its first requests are still on their way."""
        stream = self._stream
        if stream is None or stream.phase is Phase.GATHERING:
            return False
        return all(stream.seen(t) for t in WILDCARD_TYPES)

    def _begin(self) -> bool:
        """Start applying what waits, if this Envoy may have it."""
        stream = self._stream
        if self._waiting is None or stream is None or not self.live or not self._heard_out():
            return False
        if not self._rejections.known:
            self._ask_counter()
            return False
        waiting, self._waiting = self._waiting, None
        target = waiting.target
        stream.phase = Phase.SYNCED
        names = waiting.changed_from(self.held, self._lingering.names())
        plan = Plan.of(Diff.of_resources(self.view, target.resources, names), target.resources)
        stages, later = plan.stages, plan.later
        if not self._linger_s and later:
            stages, later = (*stages, later), NOTHING
        self._work = Work(Kind.APPLY, self._converge(stages, target), target, later)
        return True

    def _ask_counter(self) -> None:
        """Have Envoy's count of refusals before the next apply; an admin that is silent is not waited for."""
        if not self._timers.running(SETTLE):
            self._timers.set(SETTLE, _SETTLE_S)
            self._tell(PollRejected())

    def _converge(
        self, stages: Iterable[Stage], goal: Snapshot, *, floor: int = 0, asked_only: bool = False
    ) -> Converge:
        assert self._stream is not None
        return Converge(
            self._stream, self.view, tuple(stages), goal.resources, floor=floor, asked_only=asked_only
        )

    def _start_stage(self, work: Work) -> None:
        self._start_stall_timer(work.converge)
        if work.kind is Kind.APPLY and work.converge.awaits_clusters:
            self._timers.set(POLL, self._rejections.first_poll_s())

    def _start_stall_timer(self, converge: Converge) -> None:
        self._timers.set(STALL, self._stall_s + converge.size * _STALL_PER_RESOURCE_S)

    def _finish(self, work: Work) -> None:
        self._timers.cancel(STALL)
        self._timers.cancel(POLL)
        assert self._stream is not None
        self._stream.forget_ahead()
        self._work = None
        self._stream.answer_owed()
        verdict = work.converge.verdict
        if work.kind is Kind.REVERT:
            self._reverted(work, verdict)
        elif verdict is None:
            self._arrived(work)
        elif work.kind is Kind.APPLY:
            self._revert(work, verdict)
        else:
            self.view = view_of(self.held)
            self._start_over()
            self._tell(Complained(verdict.type_url, verdict.names, verdict.words))

    def _arrived(self, work: Work) -> None:
        self._unfinished = frozenset()
        self._repaired = False
        if work.kind is Kind.APPLY:
            self.held = work.target
        self._leave(work.later)
        if work.kind is Kind.APPLY:
            self._tell(Active(work.target))

    def _leave(self, later: Stage) -> None:
        """The held set is active: clusters that it does without linger."""
        self._lingering.note(later, self.held.resources, self.view)
        if self._lingering and not self._timers.running(LINGER):
            self._timers.set(LINGER, self._linger_s)

    def _revert(self, work: Work, verdict: Verdict) -> None:
        back = Diff.of_resources(self.view, self.held.resources)
        stages, later = revert_plan(back, self.held.resources, turned=work.converge.turned)
        converge = self._converge(stages, self.held, floor=self._nonces.last)
        self._work = Work(Kind.REVERT, converge, work.target, later, verdict)

    def _reverted(self, work: Work, failure: Verdict | None) -> None:
        if failure is not None:
            self._unfinished |= work.half_made(self.held)
            self.view = view_of(self.held)
            self._start_over()
        else:
            self._leave(work.later)
        # What was withheld has been counted by now, and must not be held against the next target.
        self._rejections.forget()
        self._tell(work.reverted(failure))
        self._ask_counter()

    def _start_over(self) -> None:
        """A new stream makes Envoy say what it has, and a plan starts there; once, until one succeeds."""
        if not self._repaired and self._stream is not None:
            self._repaired = True
            self.closing.append(Close(self._stream.number, UNAVAILABLE, "start over"))
