"""A program that this host runs for the first time: it stays only if control and gateway still answer, and
packets fare no worse than before.

An edit is confirmed by the lock-out check; this is for what no edit brings: a first attachment, a new object.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from xds_agent.datapath.counters import Counters
from xds_agent.datapath.program import Generation
from xds_agent.datapath.prove import prove
from xds_agent.datapath.watch import Sample, judge
from xds_agent.node.datapath.attached import Attached
from xds_agent.node.datapath.attachment import AttachError
from xds_agent.node.datapath.failures import FAILURES
from xds_agent.node.datapath.lockout import Baseline, Lockout
from xds_agent.node.datapath.network import Interface

log = logging.getLogger(__name__)

# How long packets are counted before the exchange, and after it.
WATCH_S = 1.0
InThread = Callable[..., Awaitable[object]]
Resume = Callable[[], Awaitable[str]]
"""Lets the agent serve the program before by its own maps; "" or why not."""


class Confirming:
    """One program's time of proof: `prepare`, `before_the_flip`, attach, then `decide` until it is over.

    `problem`: why it was taken back; `adrift`: what is written now reaches no program that runs.
    """

    def __init__(self, attached: Attached, lockout: Lockout, in_thread: InThread) -> None:
        self.problem = ""
        self.adrift = False
        # Whether it was tried without the program already, to no avail: that costs packets, and is done once.
        self._without = False
        self._attached, self._lockout, self._in_thread = attached, lockout, in_thread
        self._gateways = Baseline()
        self._samples: list[Sample] = []

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
        decided = False
        while not decided:
            try:
                decided = await self.decide(generation, interfaces, change=change, turn=turn, resume=resume)
            except FAILURES as error:
                log.error("the new program could not be confirmed: %s", error)
            told()
            await asyncio.sleep(0.0 if decided else again_s)

    async def decide(
        self, generation: Generation, interfaces: Callable[[], Sequence[Interface]],
        *, change: asyncio.Lock, turn: asyncio.Lock, resume: Resume,
    ) -> bool:  # fmt: skip
        """True once it is confirmed or taken back for good; False: control is away anyway, ask again."""
        async with change:
            silent = await self._lockout.shut_out(self._gateways)
            if silent and self._without:
                return False
            if silent:
                judged = await self._without_and_with(generation, interfaces, turn)
                if judged is None:
                    return False
                silent = judged
            words = silent or await self._fares_worse(generation)
            if not words:
                return await self._confirmed(generation)
            async with turn:
                another = await self._take_back()
                if another is None:
                    return False
                self.problem = f"the new program was taken back: {words}; "
                self.problem += "the program before runs on" if another else "no program runs now"
                # Tables that the two do not share are written for nobody until it is loaded by its own.
                apart = await resume() if another and generation.fresh else ""
            if apart:
                self.problem += f" as it was, and no edit is taken: {apart}"
            self.adrift = not another or bool(apart)
            log.error("%s", self.problem)
            return True

    async def _without_and_with(
        self, generation: Generation, interfaces: Callable[[], Sequence[Interface]], turn: asyncio.Lock
    ) -> str | None:
        """Silence alone proves nothing: control may be away, as it is when an agent starts. So once, and
        never again, it is asked without the program, then with it: only who answers without and not with it
        was shut out. "" if it is not the program, None if nobody knows yet."""
        self._without, self._samples = True, []
        async with turn:
            if await self._take_back() is None:
                return None
        still = await self._lockout.shut_out(self._gateways)
        async with turn:
            await self._put_on_again(generation, interfaces())
        if still:
            log.warning("the new program stays, unproven: without it, too, %s", still)
            return None
        return await self._lockout.shut_out(self._gateways)

    async def _take_back(self) -> bool | None:
        """Whether there was a program to go back to; None where it could not be taken back."""
        try:
            return bool(await self._in_thread(self._attached.take_back))
        except AttachError as error:
            log.error("%s", error)
            return None

    async def _confirmed(self, generation: Generation) -> bool:
        try:
            await self._in_thread(self._attached.confirm, generation)
        except OSError as error:
            # Proved again at the next start.
            log.warning("that the program is well could not be written down: %s", error)
        return True

    async def _put_on_again(self, generation: Generation, interfaces: Sequence[Interface]) -> None:
        try:
            await self._in_thread(self._attached.put_on, generation, interfaces)
        except AttachError as error:
            self.problem = str(error)
            log.error("%s", error)

    async def _fares_worse(self, generation: Generation) -> str:
        if not self._samples:
            return ""
        await asyncio.sleep(WATCH_S)
        try:
            after = await self._in_thread(_sample, generation)
        except OSError:
            return ""
        assert isinstance(after, Sample)
        before, flip = self._samples
        return judge(before, flip, after) or ""


def _sample(generation: Generation) -> Sample:
    return Sample.of(Counters(generation).services(range(generation.sizes.services)), time.monotonic())
