"""One control host among others: takes the lead when nobody has it, else follows who has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from xds_agent.ads.client import Target
from xds_agent.compile import CompileError
from xds_agent.model import ModelError
from xds_agent.peers.follow import Follow
from xds_agent.peers.lead import Lead
from xds_agent.peers.leadership import Leadership
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.store import SealError, StoreError

log = logging.getLogger(__name__)

LOOK_S = 1.0
AGAIN_S = 0.25
# What reading the database again may say; control goes on by what it has.
_UNREADABLE = (StoreError, SealError, ModelError, CompileError, ValueError)


class Member:
    """`start` before any port is open, then `run` for as long as control runs."""

    def __init__(
        self, leadership: Leadership, pipeline: Pipeline, lead: Lead, follow: Follow,
        peers: Mapping[str, Target],
    ) -> None:  # fmt: skip
        self._leadership = leadership
        self._pipeline = pipeline
        self._lead = lead
        self._follow = follow
        self._peers = peers
        # What must be known before the live revision is compiled, whoever compiled it last.
        self.before_boot: Callable[[], Coroutine[Any, Any, None]] = _nothing
        self._led = asyncio.Event()
        self._lost = asyncio.Event()
        self._lost.set()
        self._said = ""
        self._reloading: asyncio.Task[None] | None = None
        pipeline.ledger.fence = leadership.fence
        pipeline.deposed = self._lost

    @property
    def leading(self) -> bool:
        return self._led.is_set()

    @property
    def why_nobody_leads(self) -> str:
        """Empty while this host leads or follows; else what stands in the way, as far as it knows."""
        if self.leading or self._follow.linked:
            return ""
        return f"no control host leads at this moment: {self._said or 'who does is being settled'}"

    async def start(self) -> None:
        """Serve the last good revision, as leader or until a leader says more."""
        if not await self._take():
            await self.before_boot()
            await self._pipeline.boot(leading=False)

    async def run(self) -> None:
        while True:
            if not self.leading:
                await self._follow_or_lead()
            elif await asyncio.to_thread(self._leadership.still):
                await asyncio.sleep(LOOK_S)
            else:
                self._step_down()

    async def while_leading(self, chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `chore` whenever this host leads; it is cancelled when it no longer does."""
        while True:
            await self._led.wait()
            task = asyncio.create_task(chore())
            lost = asyncio.create_task(self._lost.wait())
            try:
                await asyncio.wait([task, lost], return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    task.result()
            finally:
                task.cancel()
                lost.cancel()
                await asyncio.gather(task, lost, return_exceptions=True)

    def live_is(self, number: int) -> None:
        """The leader said which revision is live: whoever reads here, or renews, must see it too."""
        live = self._pipeline.live
        if number in (0, live.number if live is not None else 0):
            return
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._read_live())

    async def stop(self) -> None:
        self._lead.end()
        if self._reloading is not None:
            self._reloading.cancel()
        await asyncio.to_thread(self._leadership.give_up)

    async def _follow_or_lead(self) -> None:
        if await self._take():
            return
        try:
            name = await asyncio.to_thread(self._leadership.leader)
        except StoreError as error:
            self._say(str(error))
            await asyncio.sleep(LOOK_S)
            return
        target = self._peers.get(name)
        if target is None:
            self._say(f"{name or 'another control host'} leads and is none of `peers` in serve.yml")
            await self._catch_up()
            await asyncio.sleep(LOOK_S)
            return
        words = await self._follow.run(target)
        self._say(f"following {name} ({target.address}) ended: {words}")
        await self._catch_up()
        await asyncio.sleep(AGAIN_S)

    async def _take(self) -> bool:
        try:
            if not await asyncio.to_thread(self._leadership.take):
                return False
        except StoreError as error:
            self._say(str(error))
            return False
        try:
            await self.before_boot()
            await self._pipeline.boot()
        except StoreError as error:
            # Whoever leads knows what is live: let somebody else try.
            await asyncio.to_thread(self._leadership.give_up)
            self._say(str(error))
            return False
        self._lost.clear()
        self._lead.begin()
        self._led.set()
        if self._leadership.shared:
            log.info("this control host leads")
        return True

    def _step_down(self) -> None:
        self._said = "this control host leads no more: it lost its connection to the database"
        log.error("%s", self._said)
        self._led.clear()
        self._pipeline.give_way()
        self._lead.end()

    async def _catch_up(self) -> None:
        """Without a leader to follow: serve what the database says is live."""
        try:
            newest = await asyncio.to_thread(self._pipeline.ledger.newest_live)
            live = self._pipeline.live
            # A leader that stepped down while it wrote its last word has published the one before.
            published = self._pipeline.publisher.number
            if newest != (live.number if live is not None else 0) or published < newest:
                await self.before_boot()
                await self._pipeline.boot(leading=False)
        except _UNREADABLE as error:
            self._say(str(error))

    async def _read_live(self) -> None:
        try:
            await self.before_boot()
            await self._pipeline.read_live()
        except _UNREADABLE as error:
            self._say(str(error))

    def _say(self, words: str) -> None:
        # libpq lists every address it tried; one sentence is enough.
        words = words.partition("\n")[0]
        if words != self._said:
            log.warning("%s", words)
        self._said = words


async def _nothing() -> None:
    pass
