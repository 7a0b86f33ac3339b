"""One change on its way through the waves: publish a wave, wait for it, let it soak, judge it, go on or stop.

Stops at the first wave that fails; putting back what was there is the caller's.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from xds_agent.protocol.outcomes import Refused
from xds_agent.rollout.canary.rounds import Rounds
from xds_agent.rollout.gate import Counters, judge
from xds_agent.rollout.publisher import Publisher
from xds_agent.rollout.vitals import Vitals, windows
from xds_agent.rollout.waves import WavePlan
from xds_agent.snapshot.resource import Snapshot

log = logging.getLogger(__name__)

# A host that joins the site has been refused until now and comes back within its own back-off.
NEWCOMER_GRACE_S = 5.0
# A proxy that got the change and went away may be restarting; after this it is lost.
LOST_AFTER_S = 10.0
# Counters that take longer than this are no evidence.
COUNTERS_WITHIN_S = 1.0
# A proxy that has only just connected is not sick yet.
SETTLING_S = 2.0
OFFLINE = "it is offline"


@dataclass(frozen=True)
class Failure:
    """Why a wave failed; `node` is empty where the whole wave is to blame."""

    node: str
    words: str
    refusal: Refused | None = None
    # Path in the inventory that is behind it, where it is known.
    path: str = ""


@dataclass(frozen=True)
class Progress:
    """Where a change stands now."""

    number: int
    author: str
    plan: WavePlan
    wave: int
    phase: str  # publishing | asking | soaking | judging

    def audited(self, evidence: str) -> tuple[str, dict[str, Any]] | None:
        """Action and detail of this step for the audit; a change of one wave has none but its end."""
        waves = self.plan.waves
        if evidence:
            proxies = list(waves[self.wave - 1])
            return "revision.wave", {"wave": self.wave, "proxies": proxies, "evidence": evidence}
        if len(waves) > 1 and (self.wave, self.phase) == (1, "publishing"):
            return "revision.waves", {"plan": self.plan.lines()}
        return None

    def as_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "author": self.author,
            "wave": self.wave,
            "waves": [list(wave) for wave in self.plan.waves],
            "phase": self.phase,
            "left_out": dict(self.plan.left_out),
            "least_s": self.plan.least_s,
        }


# Told of each step; the second is the evidence of a gate that opened, empty for any other step.
OnProgress = Callable[[Progress, str], Awaitable[None]]
# Entered while nothing but time has to pass.
Pause = Callable[[], AbstractAsyncContextManager[None]]


@dataclass
class Release:
    """`run` once. `old` and `new` are the snapshots of every proxy before and after the change."""

    publisher: Publisher
    vitals: Vitals
    plan: WavePlan
    old: Mapping[str, Snapshot]
    new: Mapping[str, Snapshot]
    number: int
    author: str
    timeout_s: float
    on_progress: OnProgress
    pause: Pause = contextlib.nullcontext
    # Requests through the canaries; None where nobody can make them.
    rounds: Rounds | None = None
    # Failures of later waves that `tolerate` covers: name -> words.
    tolerated: dict[str, str] = field(init=False, default_factory=dict)
    # Newcomers that have not come, or not taken it: they had nothing, so nothing is taken back for them.
    late: dict[str, str] = field(init=False, default_factory=dict)
    # Who was given the change so far.
    touched: list[str] = field(init=False, default_factory=list)

    @property
    def notes(self) -> list[str]:
        """What people should know of the requests through the canaries."""
        return list(self.rounds.notes) if self.rounds is not None else []

    def rebase(self, old: Mapping[str, Snapshot], new: Mapping[str, Snapshot]) -> None:
        """Something else changed on both sides, and every proxy has its own of it already."""
        self.old, self.new = old, new
        if self.rounds is not None:
            self.rounds.old, self.rounds.new = old, new

    async def run(self) -> list[Failure]:
        """Through all waves; what failed, or nothing when every wave holds the change."""
        everybody = [name for wave in self.plan.waves for name in wave]
        gated = len(self.plan.waves) > 1
        earlier = self.vitals.earliest(everybody) if gated else {}
        start = await self.vitals.fresh(everybody, within_s=COUNTERS_WITHIN_S) if gated else {}
        touched = self.touched
        for index, wave in enumerate(self.plan.waves, 1):
            touched += wave
            await self._tell(index, "publishing")
            if self.rounds is not None:
                await self.rounds.before(wave)
            self.publisher.publish({**self.old, **{name: self.new[name] for name in touched}}, self.number)
            failures = await self._acknowledged(touched) or await self._asked(index)
            if failures or index == len(self.plan.waves):
                return failures
            await self._tell(index, "soaking")
            await self._soak(touched)
            await self._tell(index, "judging")
            failures, evidence = await self._gate(touched, earlier, start)
            if failures:
                return failures
            await self._tell(index, "judging", evidence)
        return []

    async def _acknowledged(self, touched: Collection[str]) -> list[Failure]:
        """Wait until every proxy of the waves so far has it active."""
        given_up = self.tolerated.keys() | self.late.keys()
        waited = [name for name in touched if name not in given_up]
        grace = {name: NEWCOMER_GRACE_S if name not in self.old else LOST_AFTER_S for name in waited}
        room = 0 if len(touched) == len(self.plan.waves[0]) else self.plan.tolerate - len(self.tolerated)
        await self.publisher.settle(
            timeout_s=self.timeout_s, names=waited, grace_s=grace, refusals_wanted=room + 1
        )
        # Refusals ended the waiting: who is still at it has not had its time and is not to blame.
        hurried = sum(name in self.publisher.refusals for name in waited) > room
        return self._failures(waited, hurried=hurried)

    async def _asked(self, index: int) -> list[Failure]:
        """Requests through the wave's canaries, at once: what they show is in front of clients now."""
        if self.rounds is None:
            return []
        await self._tell(index, "asking")
        worse = await self.rounds.after()
        return [Failure(one.node, one.words, path=one.line) for one in worse]

    async def _soak(self, touched: Collection[str]) -> None:
        """Hold still; a refusal ends the waiting early, but for one of an update beside the change, which is
        taken back by the time the pause is over."""
        names = [name for name in touched if name not in self.tolerated.keys() | self.late.keys()]
        until = time.monotonic() + self.plan.soak_s
        while (left_s := until - time.monotonic()) > 0 and not self.publisher.refusals.keys() & set(names):
            async with self.pause():
                await self.publisher.hold(names, for_s=left_s)

    async def _gate(
        self, touched: Collection[str], earlier: Mapping[str, Counters], start: Mapping[str, Counters]
    ) -> tuple[list[Failure], str]:
        # Who restarts or reconnects during the soak gets its time to come back.
        failures = await self._acknowledged(touched)
        if failures:
            return failures, ""
        names = [name for name in touched if name not in self.tolerated.keys() | self.late.keys()]
        now = await self.vitals.fresh(names, within_s=COUNTERS_WITHIN_S)
        ill = await self.vitals.ill(names, for_s=LOST_AFTER_S)
        away = [
            Failure(name, f"{name} has the change, and its Envoy is {state}") for name, state in ill.items()
        ]
        verdict = judge(windows(names, earlier, start, now))
        evidence = verdict.evidence if self.rounds is None else f"{verdict.evidence}; {self.rounds.evidence}"
        return away + [Failure("", words) for words in verdict.worse], evidence

    def _failures(self, names: Collection[str], *, hurried: bool) -> list[Failure]:
        """What keeps this wave from being done; newcomers and tolerated ones are put aside."""
        views = self.publisher.nodes()
        found = []
        for name in names:
            state = views[name].state
            if state == "active" or (hurried and state == "pending"):
                continue
            refusal = self.publisher.refusals.get(name)
            words = _WORDS[state].format(name=name, words=views[name].error, timeout_s=self.timeout_s)
            if refusal is None and name not in self.old:
                self.late[name] = words
                continue
            found.append(Failure(name, words, refusal))
        canaries = set(self.plan.waves[0])
        later = [one for one in found if one.node not in canaries]
        if len(later) == len(found) and len(self.tolerated) + len(later) <= self.plan.tolerate:
            self.tolerated.update({one.node: one.words for one in later})
            return []
        return found

    async def _tell(self, wave: int, phase: str, evidence: str = "") -> None:
        progress = Progress(self.number, self.author, self.plan, wave, phase)
        await self.on_progress(progress, evidence)


_WORDS = {
    "refused": "{name} refused the change: {words}",
    "pending": "{name} did not acknowledge the change within {timeout_s:g} s",
    "offline": "{name} was lost after it got the change",
}


async def sick_before(publisher: Publisher, vitals: Vitals) -> dict[str, str]:
    """Proxies that are not well before anything is changed, each with the reason."""
    recent = publisher.newly_pending(SETTLING_S)
    await publisher.settle(timeout_s=SETTLING_S, names=recent, refusals_wanted=len(recent) + 1)
    nodes = publisher.nodes()
    ill = await vitals.ill([name for name in nodes if nodes[name].state == "active"], for_s=SETTLING_S)
    found = {}
    for name, view in publisher.nodes().items():
        if view.state == "offline":
            found[name] = OFFLINE
        elif view.state == "refused":
            found[name] = f"it refuses the revision before this one: {view.error}"
        elif view.state == "pending":
            found[name] = "it has not taken the revision before this one"
        elif name in ill:
            found[name] = f"its Envoy is {ill[name]}"
    return found
