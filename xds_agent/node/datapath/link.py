"""The datapath link: a host's programs and maps, brought to a revision, kept true to the network.

Beside EnvoyLink: `apply` brings the maps to a set and returns how that ended. Whatever is refused, or shuts
the host out from control or its gateway, is undone; whatever happens to this process, the programs go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from xds_agent.datapath.fill import Fill
from xds_agent.node.config import DatapathConfig
from xds_agent.node.datapath import state
from xds_agent.node.datapath.attachment import end_detach
from xds_agent.node.datapath.cards import Cards
from xds_agent.node.datapath.confirming import Confirming
from xds_agent.node.datapath.failures import FAILURES, in_words
from xds_agent.node.datapath.flow_log import FlowLog
from xds_agent.node.datapath.joining import Joining
from xds_agent.node.datapath.lockout import Lockout
from xds_agent.node.datapath.network import index_of
from xds_agent.node.datapath.running import Running
from xds_agent.node.datapath.surroundings import Surroundings
from xds_agent.node.datapath.wanted import RealOf, Wanted
from xds_agent.node.datapath.writer import Writer
from xds_agent.node.envoy_link import Refusal
from xds_agent.node.probing import OverBudget, Prober, Target
from xds_agent.snapshot.resource import DATAPATH_SERVICE, EMPTY, Snapshot

log = logging.getLogger(__name__)
T = TypeVar("T")

ASKER = "xdp"
STATE = "datapath.json"
# Next hops are looked at this often; health acts at once.
LOOK_S = 1.0
# An interface that was not there at boot may come.
TRY_AGAIN_S = 5.0


async def _nothing() -> None:
    pass


class DatapathLink:
    """One host's datapath. `start`, then `apply` one set at a time; `run` keeps it true meanwhile."""

    def __init__(
        self, config: DatapathConfig, prober: Prober, *, control_answers: Callable[[], Awaitable[str]],
        runtime: Path, lasting: Path | None = None, on_change: Callable[[], None] = lambda: None,
        on_late_start: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:  # fmt: skip
        """`control_answers`: "" once control answers over a new connection, else why not. `runtime`: a folder
        with the life of the maps; `lasting`: one that outlives a boot. `on_late_start`: it runs at last; what
        was refused until now can be taken."""
        self.config = config
        self.running = Running(config, Surroundings(prober), runtime=runtime, lasting=lasting or runtime)
        # Of an earlier run, whose program is confirmed by now: it is not tried again.
        self.running.preflight.words |= (state.read(runtime / STATE) or {}).get("preflight", {})
        self._prober = prober
        self._lockout = Lockout(control_answers, patience_s=config.confirm_s)
        self._runtime = runtime
        self._on_change, self._on_late_start = on_change, on_late_start
        self._flow_log = FlowLog(lasting or runtime, self._flow_log_told)
        self._texts = state.ServiceTexts()
        self._confirming: Confirming | None = None
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="datapath")
        # One change at a time, its confirmation included; the maps have a turn of their own, so that health
        # acts while a change waits to be confirmed.
        self._change = asyncio.Lock()
        self._turn = asyncio.Lock()
        self._joining = Joining(
            self.running, self._lockout, self._in_thread, change=self._change, turn=self._turn,
            settled=lambda: self._confirming is None or self._confirming.over,
        )  # fmt: skip
        self._look = asyncio.Event()
        self._trouble = ""
        self._tried = 0.0
        self._held = EMPTY
        self._problem = "the datapath has not started yet"

    @property
    def writer(self) -> Writer | None:
        """None until it runs."""
        return self.running.writer

    @property
    def wanted(self) -> Wanted:
        return self.running.wanted

    @property
    def fills(self) -> Mapping[str, Fill]:
        """How full each table is."""
        return self.running.fills

    @property
    def cards(self) -> Cards:
        return self.running.cards

    @property
    def problem(self) -> str:
        """What keeps the datapath from doing what the revision says, "" if nothing does."""
        guilty = self._confirming.problem if self._confirming else ""
        return self._problem or guilty or self.running.off or self._trouble

    @property
    def state_file(self) -> Path:
        return self._runtime / STATE

    async def start(self, held: Snapshot) -> None:
        """Load, bring the maps to `held`, attach. What is in the way becomes `problem`; L7 is served, and
        `run` tries again."""
        self._held = held
        # Taken off by hand, the program is off until the agent starts again, which it does here and once.
        await self._in_thread(end_detach, self.config.pins)
        await self._try_to_start()
        self._prober.listen(self._on_health)

    async def _try_to_start(self) -> None:
        before, self._tried = self._problem, time.monotonic()
        confirming = None
        async with self._change, self._turn:
            try:
                if await self._in_thread(lambda: self.running.attached.unproven):
                    confirming = Confirming(self.running.attached, self._lockout, self._in_thread)
                    await confirming.prepare([index_of(name) for name in self.config.interfaces])
                await self._in_thread(self.running.start, self._held, confirming)
                self._problem, self._confirming = "", confirming
                self._prober.watch(ASKER, self.wanted.checks())
            except Exception as error:
                # OverBudget is a ValueError: the maps are right then, and nobody looks after their reals.
                self._problem = in_words(error, told=before)
        if self._problem and self._problem != before:
            log.error("no datapath: %s", self._problem)
        self._describe()

    async def apply(self, target: Snapshot) -> Refusal | None:
        """Bring the maps to `target`; None once it is live, else why not (and the set before is live)."""
        async with self._change:
            if self.writer is None or (self._confirming is not None and self._confirming.adrift):
                return Refusal("", (), f"this host's datapath does not run: {self.problem}")
            baseline = await self._lockout.baseline(self.cards.interfaces)
            if baseline.words:
                return Refusal("", (), f"no change of the datapath now: {baseline.words}")
            async with self._turn:
                before, down = self.running.snapshot, self.running.around.down
                refusal = await self._flip(target)
                if refusal is not None:
                    await self._go_back(before, down)
            if refusal is None and (words := await self._lockout.shut_out(baseline)):
                refusal = Refusal("", (), f"{words}; the datapath went back to the set before")
                async with self._turn:
                    await self._go_back(before, down | self.running.around.down)
            if refusal is None:
                self.running.revision, self._problem = target.revision, ""
            self._describe()
            return refusal

    async def go_back(self, held: Snapshot) -> None:
        """To a set that was live before: something else of the revision failed. Raises nothing."""
        async with self._change, self._turn:
            if self.writer is not None:
                refusal = await self._flip(held, known_good=True)
                if refusal is not None:
                    log.error("the datapath could not be taken back: %s", refusal.words)
                self.running.revision = held.revision
                self._describe()

    async def open_flows(self) -> dict[str, int]:
        """Flows that XDP translates, by service; one whose flows no table holds is absent. Raises nothing."""
        async with self._turn:
            try:
                return await self._in_thread(self.running.open_flows)
            except FAILURES as error:
                log.error("flows could not be counted: %s", error)
                return {}

    async def run(self) -> None:
        """Follow health, next hops, addresses, and the end of timed denials, until cancelled."""
        confirming = asyncio.create_task(self._confirm(), name="datapath-confirm")
        joining = asyncio.create_task(self._join(), name="datapath-cards")
        flow_log = asyncio.create_task(self._flow_log.run(), name="flow-log")
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._look.wait()
                self._look.clear()
                if self.writer is not None:
                    async with self._turn:
                        await self._follow_once()
                elif time.monotonic() - self._tried > TRY_AGAIN_S:
                    await self._try_to_start()
                    if self.writer is not None:
                        confirming.cancel()
                        confirming = asyncio.create_task(self._confirm(), name="datapath-confirm")
                        await self._on_late_start()
        finally:
            for task in (confirming, joining, flow_log):
                task.cancel()
            await asyncio.gather(confirming, joining, flow_log, return_exceptions=True)

    async def _join(self) -> None:
        while True:
            if self.writer is not None and await self._joining.once():
                # What is said of it, and tc, follow.
                self._look.set()
            await asyncio.sleep(LOOK_S)

    async def _follow_once(self) -> None:
        trouble, changed = "", False
        try:
            changed = await self._in_thread(self.running.follow) or await self._in_thread(self.running.settle)
        except FAILURES as error:
            # Tried again every second, and said once.
            trouble = f"the datapath could not follow the network: {error}"
        if trouble and trouble != self._trouble:
            log.error("%s", trouble)
        if changed or trouble != self._trouble:
            self._trouble = trouble
            self._describe()
            self._on_change()

    async def _confirm(self) -> None:
        """Of a program that this host runs for the first time: it stays only if nobody is shut out by it."""
        confirming = self._confirming
        if confirming is None or self.writer is None:
            return

        def told() -> None:
            self._describe()
            self._on_change()

        await confirming.until_decided(
            self.writer.generation, lambda: self.running.carriers, change=self._change, turn=self._turn,
            resume=self._serve_the_one_before, told=told, again_s=TRY_AGAIN_S,
        )  # fmt: skip

    async def _serve_the_one_before(self) -> str:
        given_up = self.writer
        try:
            await self._in_thread(self.running.resume)
        except Exception as error:
            return in_words(error)
        # Whoever reads the tables of the other is led away before they are closed.
        self._describe()
        if given_up is not None:
            await self._in_thread(given_up.close)
        return ""

    async def stop(self) -> None:
        """Close what is ours; programs and maps go on."""
        self._disk.shutdown(wait=True)
        self.running.close()

    async def _flip(self, target: Snapshot, *, known_good: bool = False) -> Refusal | None:
        try:
            wanted = await self._in_thread(self.running.flip, target, known_good)
            self._prober.watch(ASKER, wanted.checks())
        except Exception as error:
            # OverBudget is a ValueError, MapFull too.
            names = tuple(sorted(target.of_type(DATAPATH_SERVICE))) if isinstance(error, OverBudget) else ()
            said = f"the datapath cannot take it: {in_words(error)}"
            return Refusal(DATAPATH_SERVICE if names else "", names, said)
        self.running.wanted, self.running.snapshot = wanted, target
        return None

    async def _go_back(self, before: Snapshot, down: frozenset[RealOf]) -> None:
        self.running.around.down = down
        try:
            wanted = await self._in_thread(self.running.back, before)
            self._prober.watch(ASKER, wanted.checks())
        except Exception as error:
            log.error("the datapath could not be taken back whole: %s", in_words(error))

    async def _flow_log_told(self) -> None:
        async with self._turn:
            self._describe()

    def _on_health(self, target: Target, result: object) -> None:
        self._look.set()

    def _describe(self) -> None:
        running = self.running
        found: Mapping[str, object] = state.describe(
            revision=running.revision, mode=self.config.mode, folder=self.config.pins,
            program=running.program, problem=self.problem, interfaces=running.cards.interfaces,
            wanted=running.wanted, writer=running.writer, missing=running.missing,
            preflight=running.preflight.words,
        )  # fmt: skip
        texts: list[bytes] = []
        if running.writer is not None:
            why_down = running.around.why_down(running.wanted)
            texts = self._texts.of(running.wanted, running.writer, why_down)
            services = dict(running.writer.services.items())
            self._flow_log.follow(running.writer.generation, services, running.wanted.limits)
        state.write(self.state_file, {**found, "flow_log": self._flow_log.describe()}, texts)

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, call, *arguments)
