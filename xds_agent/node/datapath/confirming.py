"""A program that this host runs for the first time: it stays only if control and gateway still answer, and
packets fare no worse than before.

An edit is confirmed by the lock-out check; this is for what no edit brings: a first attachment, a new object.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xds_agent.datapath.counters import Counters
from xds_agent.datapath.link import Link
from xds_agent.datapath.program import Generation
from xds_agent.datapath.prove import prove
from xds_agent.datapath.watch import Sample, judge
from xds_agent.node.datapath.attached import Attached
from xds_agent.node.datapath.attachment import AttachError
from xds_agent.node.datapath.failures import FAILURES
from xds_agent.node.datapath.lockout import Baseline, Lockout, first_of
from xds_agent.node.datapath.network import Interface

log = logging.getLogger(__name__)

# How long packets are counted before the exchange, and after it.
WATCH_S = 1.0
# To look without the program costs packets: while nobody answers either way it is done ever more rarely.
_WITHOUT_AGAIN_S, _WITHOUT_MOST_S = 60.0, 3600.0
InThread = Callable[..., Awaitable[Any]]
Resume = Callable[[], Awaitable[str]]
"""Lets the agent serve the program before by its own maps; "" or why not."""


class Confirming:
    """One program's time of proof: `prepare`, `before_the_flip`, attach, then `decide` until it is over.

    `problem`: why it was taken back; `adrift`: what is written now reaches no program that runs; `over`: it
    is confirmed, or the program before is served in its place, or none runs.
    """

    def __init__(self, attached: Attached, lockout: Lockout, in_thread: InThread) -> None:
        self.problem = ""
        self.adrift = self.over = False
        # When it may be looked without the program, and how long that waited last.
        self._without_at = self._waited_s = 0.0
        # Why it is to be taken back; whether it was; whether it has to be put on again before it is judged.
        self._guilt, self._taken_back, self._off = "", False, False
        self._attached, self._lockout, self._in_thread = attached, lockout, in_thread
        self._gateways = Baseline()
        self._samples: list[Sample] = []
        # By interface the link that was on it when all were asked with the program.
        self._asked_with: Mapping[str, Link] = {}

    async def prepare(self, indices: Sequence[int]) -> None:
        """Who answers now: after the attachment they still must."""
        self._gateways = await self._lockout.gateways([one for one in indices if one])

    def prove(self, program: Path) -> None:
        """Packets with known fates through a copy of its own. Raises AttachError with what differs."""
        if problems := prove(program):
            raise AttachError(f"the program fails its proof on this kernel: {'; '.join(problems)}")

    def before_the_flip(self, generation: Generation) -> None:
        """Count for a second what the program before makes of packets: its counters are ours, unless their
        table starts empty. Raises OSError."""
        if "counters" in generation.fresh:
            return
        self._samples = [_sample(generation)]
        time.sleep(WATCH_S)
        self._samples.append(_sample(generation))

    async def until_decided(
        self, generation: Generation, interfaces: Callable[[], Sequence[Interface]],
        *, change: asyncio.Lock, turn: asyncio.Lock, resume: Resume, told: Callable[[], None], again_s: float,
    ) -> None:  # fmt: skip
        """`told`: what the state is now may be another; `again_s`: how long to wait for control."""
        while not self.over:
            try:
                await self.decide(generation, interfaces, change=change, turn=turn, resume=resume)
            except FAILURES as error:
                log.error("the new program could not be confirmed: %s", error)
            told()
            await asyncio.sleep(0.0 if self.over else again_s)

    async def decide(
        self, generation: Generation, interfaces: Callable[[], Sequence[Interface]],
        *, change: asyncio.Lock, turn: asyncio.Lock, resume: Resume,
    ) -> bool:  # fmt: skip
        """True once it is `over`; False: nobody knows yet (control is away anyway, or the program was taken
        off by hand), ask again."""
        async with change:
            if self._attached.by_hand:
                return False
            if self._off:
                async with turn:
                    await self._put_on_again(generation, interfaces())
            if self._off:
                return False
            words: str | None = self._guilt
            if not words:
                before = self._gateways.over({one.index for one in interfaces()})
                silent = await self._silent_with_it(before)
                words = (
                    await self._without_and_with(silent, before, generation, interfaces, turn)
                    if silent
                    else await self._fares_worse(generation)
                )
            if words is None or self._attached.by_hand:
                # Taken off meanwhile: who answered, or did not, says nothing of the program.
                return False
            if words:
                async with turn:
                    self.over = await self._give_up(words, generation, resume)
            else:
                self.over = await self._confirmed(generation)
            return self.over

    async def _silent_with_it(self, before: Baseline) -> dict[str, str]:
        self._asked_with = await self._in_thread(self._attached.on)
        return await self._lockout.silent(before)

    async def _without_and_with(
        self, silent: Mapping[str, str], before: Baseline, generation: Generation,
        interfaces: Callable[[], Sequence[Interface]], turn: asyncio.Lock,
    ) -> str | None:  # fmt: skip
        """Silence alone proves nothing: control may be away, as it is when an agent starts. So all are asked
        without the program, then with it: whoever answers without it alone was shut out, whoever else is
        silent. Who that is in words, "" if everybody answers, None if nobody knows yet."""
        if time.monotonic() < self._without_at or self._attached.by_hand:
            return None
        self._waited_s = min(max(_WITHOUT_AGAIN_S, 2 * self._waited_s), _WITHOUT_MOST_S)
        self._without_at, self._samples = time.monotonic() + self._waited_s, []
        async with turn:
            # Where it cannot be taken back, too: from some of the cards it may be gone.
            self._off = True
            if await self._take_back() is None:
                return None
        still = await self._lockout.silent(before)
        async with turn:
            await self._put_on_again(generation, interfaces())
        if self._off:
            return None
        if silent.keys() <= still.keys():
            log.warning("the new program stays, unproven: without it, too, %s", first_of(still))
            return None
        again = await self._silent_with_it(before)
        guilt = {who: words for who, words in again.items() if who in silent and who not in still}
        return first_of(guilt) or (None if again else "")

    async def _give_up(self, words: str, generation: Generation, resume: Resume) -> bool:
        """True once no program runs, or that before by its own tables: then what is written reaches it, and a
        card that lost it gets it again. Until then no card gets any."""
        self._guilt = words
        if not self._taken_back:
            another = await self._take_back()
            if another is None:
                return False
            self._taken_back = True
            if not another:
                self.adrift = True
                self._say("no program runs now")
                return True
        apart = await resume()
        # Tables that the two share are written for the one that runs all the same.
        self.adrift = bool(apart and generation.fresh)
        lacks = "no edit is taken" if self.adrift else "no card gets it anew"
        self._say("the program before runs on" + (f" as it was, and {lacks}: {apart}" if apart else ""))
        return not apart

    def _say(self, runs: str) -> None:
        problem = f"the new program was taken back: {self._guilt}; {runs}"
        if problem != self.problem:
            log.error("%s", problem)
        self.problem = problem

    async def _take_back(self) -> bool | None:
        """Whether there was a program to go back to; None where it could not be taken back."""
        try:
            return bool(await self._in_thread(self._attached.take_back))
        except AttachError as error:
            log.error("%s", error)
            return None

    async def _confirmed(self, generation: Generation) -> bool:
        """False where it was on no card all the while."""
        on: Mapping[str, Link] = await self._in_thread(self._attached.on)
        proved = [name for name, link in on.items() if self._asked_with.get(name) is link]
        if not proved:
            return False
        try:
            await self._in_thread(self._attached.confirm, generation, proved)
        except OSError as error:
            # Proved again at the next start.
            log.warning("that the program is well could not be written down: %s", error)
        return True

    async def _put_on_again(self, generation: Generation, interfaces: Sequence[Interface]) -> None:
        # A card that came back as another meanwhile has to be tried first, as any that comes back.
        same = [one for one in interfaces if self._attached.carried(one)]
        try:
            await self._in_thread(self._attached.put_on, generation, same)
            self._off, self.problem = False, ""
        except AttachError as error:
            self._off, self.problem = True, str(error)
            log.error("%s", error)

    async def _fares_worse(self, generation: Generation) -> str:
        if not self._samples:
            return ""
        await asyncio.sleep(WATCH_S)
        try:
            after = await self._in_thread(_sample, generation)
        except OSError:
            return ""
        before, flip = self._samples
        return judge(before, flip, after) or ""


def _sample(generation: Generation) -> Sample:
    return Sample.of(Counters(generation).services(range(generation.sizes.services)), time.monotonic())
