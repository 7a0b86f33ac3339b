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

from xds_agent.datapath.fill import Fill, fills
from xds_agent.node.config import DatapathConfig
from xds_agent.node.datapath import state
from xds_agent.node.datapath.attached import Attached
from xds_agent.node.datapath.attachment import (
    CONFIRMED_MAPS,
    MAPS,
    balance_seed,
    cookie_key,
    host_seed,
    load_beside,
)
from xds_agent.node.datapath.cards import Cards
from xds_agent.node.datapath.confirmed import Confirmed
from xds_agent.node.datapath.confirming import Confirming
from xds_agent.node.datapath.failures import FAILURES, in_words
from xds_agent.node.datapath.flow_log import FlowLog
from xds_agent.node.datapath.lockout import Lockout
from xds_agent.node.datapath.network import index_of
from xds_agent.node.datapath.rates import settings_of
from xds_agent.node.datapath.reading import Reader
from xds_agent.node.datapath.rings import RingFiles
from xds_agent.node.datapath.routes import NetlinkEvents, Routes
from xds_agent.node.datapath.shaped import FILE as SHAPED
from xds_agent.node.datapath.shaping import Shaping, shape_of
from xds_agent.node.datapath.surroundings import Surroundings
from xds_agent.node.datapath.wanted import RealOf, Wanted
from xds_agent.node.datapath.ways import Ways
from xds_agent.node.datapath.writer import Writer
from xds_agent.node.envoy_link import Refusal
from xds_agent.node.probing import OverBudget, Prober, Target
from xds_agent.snapshot.resource import DATAPATH_SERVICE, EMPTY, Snapshot

log = logging.getLogger(__name__)
T = TypeVar("T")

ASKER = "xdp"
# Next hops are looked at this often; health acts at once.
LOOK_S = 1.0
# An interface that was not there at boot may come.
TRY_AGAIN_S = 5.0
# Flows of moved slots are counted this often: it walks the flow table.
SETTLE_S = 15.0


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
        self.wanted = Wanted()
        # What runs: not that of the config any more once it was taken back.
        self.program = config.program
        self.writer: Writer | None = None
        self.cards = Cards(config.interfaces, config.vips, record=runtime / "vips")
        self.fills: dict[str, Fill] = {}
        self._revision = ""
        self._prober = prober
        self._lockout = Lockout(control_answers, patience_s=config.confirm_s)
        self._runtime = runtime
        self._on_change, self._on_late_start = on_change, on_late_start
        self._attached = Attached(config, record=(lasting or runtime) / "datapath.confirmed")
        self._rings = RingFiles(runtime / "rings")
        self._reader = Reader()
        self._events, self._cards_seen = NetlinkEvents(), -1
        self._routes = Routes(self._events)
        self._shaping = Shaping(program=config.program, pins=config.pins, record=runtime / SHAPED)
        self._flow_log = FlowLog(lasting or runtime)
        self._confirming: Confirming | None = None
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="datapath")
        # One change at a time, its confirmation included; the maps have a turn of their own, so that health
        # acts while a change waits to be confirmed.
        self._change = asyncio.Lock()
        self._turn = asyncio.Lock()
        self._look = asyncio.Event()
        self._around = Surroundings(prober)
        self._trouble = ""
        self._settled = self._tried = 0.0
        self._held = self._snapshot = EMPTY
        self._problem = "the datapath has not started yet"
        self._off = ""

    @property
    def problem(self) -> str:
        """What keeps the datapath from doing what the revision says, "" if nothing does."""
        guilty = self._confirming.problem if self._confirming else ""
        return self._problem or guilty or self._off

    @property
    def state_file(self) -> Path:
        return self._runtime / "datapath.json"

    async def start(self, held: Snapshot) -> None:
        """Load, bring the maps to `held`, attach. What is in the way becomes `problem`; L7 is served, and
        `run` tries again."""
        self._held = held
        await self._try_to_start()
        self._prober.listen(self._on_health)

    async def _try_to_start(self) -> None:
        before, self._tried = self._problem, time.monotonic()
        confirming = None
        async with self._change, self._turn:
            try:
                if await self._in_thread(lambda: self._attached.unproven):
                    confirming = Confirming(self._attached, self._lockout, self._in_thread)
                    await confirming.prepare([index_of(name) for name in self.config.interfaces])
                await self._in_thread(self._start, self._held, confirming)
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
                before, down = (self.wanted, self._snapshot), self._around.down
                refusal = await self._flip(target)
                if refusal is not None:
                    await self._go_back(*before, down)
            if refusal is None and (words := await self._lockout.shut_out(baseline)):
                refusal = Refusal("", (), f"{words}; the datapath went back to the set before")
                async with self._turn:
                    await self._go_back(*before, down | self._around.down)
            if refusal is None:
                self._revision, self._problem = target.revision, ""
            self._describe()
            return refusal

    async def go_back(self, held: Snapshot) -> None:
        """To a set that was live before: something else of the revision failed. Raises nothing."""
        async with self._change, self._turn:
            if self.writer is not None:
                refusal = await self._flip(held, known_good=True)
                if refusal is not None:
                    log.error("the datapath could not be taken back: %s", refusal.words)
                self._revision = held.revision
                self._describe()

    async def run(self) -> None:
        """Follow health, next hops, addresses, and the end of timed denials, until cancelled."""
        confirming = asyncio.create_task(self._confirm(), name="datapath-confirm")
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
            confirming.cancel()
            flow_log.cancel()
            await asyncio.gather(confirming, flow_log, return_exceptions=True)

    async def _follow_once(self) -> None:
        try:
            if await self._in_thread(self._follow) or await self._in_thread(self._settle):
                self._describe()
                self._on_change()
            self._trouble = ""
        except FAILURES as error:
            # Tried again every second, and said once.
            if str(error) != self._trouble:
                log.error("the datapath could not follow the network: %s", error)
            self._trouble = str(error)

    async def _confirm(self) -> None:
        """Of a program that this host runs for the first time: it stays only if nobody is shut out by it."""
        confirming = self._confirming
        if confirming is None or self.writer is None:
            return

        def told() -> None:
            self._describe()
            self._on_change()

        await confirming.until_decided(
            self.writer.generation, lambda: self.cards.interfaces, change=self._change, turn=self._turn,
            resume=self._serve_the_one_before, told=told, again_s=TRY_AGAIN_S,
        )  # fmt: skip

    async def _serve_the_one_before(self) -> str:
        given_up = self.writer
        try:
            await self._in_thread(self._resume)
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
        self._attached.close()
        self._events.close()
        self._shaping.close()
        if self.writer is not None:
            with contextlib.suppress(OSError):
                self.writer.keep_numbers()
            self.writer.close()

    # ---- in the thread of the maps

    def _start(self, held: Snapshot, confirming: Confirming | None) -> None:
        config = self.config
        self.cards.look()
        if confirming is not None:
            confirming.prove(config.program)
        self._put_to_work(Confirmed.of(config), held, confirming=confirming)
        if confirming is None and not self._attached.can_go_back:
            # A boot took the pin of the program that was confirmed, which is this one.
            assert self.writer is not None
            with contextlib.suppress(OSError):
                self._attached.confirm(self.writer.generation)

    def _put_to_work(
        self, one: Confirmed, held: Snapshot, *, maps: str = MAPS, confirming: Confirming | None = None
    ) -> None:
        """A program loaded beside `maps`, these brought to `held`, then attached."""
        loaded = load_beside(
            one.program, folder=self.config.pins, sizes=one.sizes,
            balance_seed=balance_seed(self.config.balance_seed_file, self._runtime),
            host_seed=host_seed(self._runtime), numbered=bool(self._rings.numbers()), maps=maps,
        )  # fmt: skip
        writer = Writer(loaded.generation, rings=self._rings, mtu=self.cards.mtu)
        try:
            wanted = self._read(held)
            ways = self._ways(wanted, wait=False)
            if loaded.taken_over:
                writer.take_over(wanted)
                ways = ways.or_macs(writer.found_macs)
                self._around.down = frozenset(
                    (one.name, real.key)
                    for one in wanted.services.values()
                    for real in one.reals
                    if real.key in writer.found_down
                )
            self._shaping.go_with(one.program)
            self._write(writer, wanted, ways)
            writer.keep_numbers()
            if confirming is not None and loaded.taken_over:
                confirming.before_the_flip(loaded.generation)
            self._attached.put_on(loaded.generation, self.cards.interfaces)
        except BaseException:
            writer.close()
            raise
        self.program = one.program
        self.writer, self.wanted, self._snapshot, self._revision = writer, wanted, held, held.revision

    def _resume(self) -> None:
        """The program before runs again, as it was pinned: from now on with this agent, by its own maps."""
        self._put_to_work(self._attached.the_one_before(), self._snapshot, maps=CONFIRMED_MAPS)

    def _look_after_links(self) -> bool:
        """Put the program on again where it was lost; True if what `problem` says has changed."""
        assert self.writer is not None
        anew, off = self._attached.look()
        words = "; ".join(filter(None, (off, self.writer.nat_problem(self.wanted))))
        changed, self._off = words != self._off, words
        if words and changed:
            log.error("%s", words)
        if anew:
            self._attached.put_on(self.writer.generation, self.cards.returned(anew))
            # What tc does there has to be done again too.
            self._around.outdated()
            log.warning("attached anew: %s", ", ".join(anew))
        return changed or bool(anew)

    def _read(self, snapshot: Snapshot) -> Wanted:
        vips = self.config.vips
        return self._reader.read(snapshot, own=self.cards.own, vips=vips or self.cards.sources)

    def _ways(self, wanted: Wanted, *, wait: bool) -> Ways:
        """`wait` is for a change, which asks for no neighbour that was there a second ago."""
        known = self._around.macs if wait else {}
        return self._routes.ways(wanted, self.cards.indices, known=known, wait=wait)

    def _look_at_cards(self) -> bool:
        """True if addresses or MTU are others now."""
        seen = self._events.count()
        if seen == self._cards_seen:
            return False
        changed = self.cards.look()
        self._cards_seen = seen
        return changed

    def _write(self, writer: Writer, wanted: Wanted, ways: Ways) -> None:
        key = cookie_key(self._runtime)
        settings = settings_of(wanted.limits, self.cards.sources, cookie_key=key)
        seen = self._around.take(wanted, ways)
        writer.apply(wanted, settings, self._around.macs, self._around.out)
        shape = shape_of(wanted, dict(writer.services.items()))
        self._shaping.bring(shape, writer.generation, self.cards.interfaces)
        self._around.written(seen)

    def _flip_now(self, target: Snapshot, known_good: bool) -> Wanted:
        assert self.writer is not None
        if self._look_at_cards():
            self.writer.mtu = self.cards.mtu
        wanted = self._read(target)
        ways = self._ways(wanted, wait=True)
        if not known_good:
            ways.check(wanted)
            if words := self.writer.nat_problem(wanted):
                raise ValueError(words)
        self._write(self.writer, wanted, ways)
        return wanted

    def _follow(self) -> bool:
        """Write again if anything beside the revision has changed; True if it had."""
        assert self.writer is not None
        self.writer.keep_numbers()
        changed = self._look_after_links()
        if all(map(index_of, self.config.interfaces)) and self._look_at_cards():
            log.warning("addresses or MTU of this host are others now: the maps follow")
            self.wanted, self.writer.mtu = self._read(self._snapshot), self.cards.mtu
            self._around.outdated()
        ways = self._ways(self.wanted, wait=False).or_macs(self._around.macs)
        if not self._around.changed(self.wanted, ways):
            return changed
        self._write(self.writer, self.wanted, ways)
        return True

    def _settle(self) -> bool:
        """Every now and then: what no flow is pinned to any more is forgotten."""
        assert self.writer is not None
        if time.monotonic() - self._settled < SETTLE_S:
            return False
        self._settled = time.monotonic()
        # Walks whole tables, so it is done here and not whenever somebody asks for figures.
        self.fills = fills(self.writer.generation)
        return self.writer.settle(self.wanted)

    # ---- in the event loop

    async def _flip(self, target: Snapshot, *, known_good: bool = False) -> Refusal | None:
        try:
            wanted = await self._in_thread(self._flip_now, target, known_good)
            self._prober.watch(ASKER, wanted.checks())
        except Exception as error:
            # OverBudget is a ValueError, MapFull too.
            names = tuple(sorted(target.of_type(DATAPATH_SERVICE))) if isinstance(error, OverBudget) else ()
            said = f"the datapath cannot take it: {in_words(error)}"
            return Refusal(DATAPATH_SERVICE if names else "", names, said)
        self.wanted, self._snapshot = wanted, target
        return None

    async def _go_back(self, before: Wanted, snapshot: Snapshot, down: frozenset[RealOf]) -> None:
        def back() -> None:
            assert self.writer is not None
            self._write(self.writer, before, self._ways(before, wait=False))

        self.wanted, self._snapshot, self._around.down = before, snapshot, down
        try:
            await self._in_thread(back)
            self._prober.watch(ASKER, before.checks())
        except FAILURES as error:
            log.error("the datapath could not be taken back whole: %s", error)

    def _on_health(self, target: Target, result: object) -> None:
        self._look.set()

    def _describe(self) -> None:
        found: Mapping[str, object] = state.describe(
            revision=self._revision, mode=self.config.mode, folder=self.config.pins,
            program=self.program, problem=self.problem, interfaces=self.cards.interfaces,
            wanted=self.wanted, writer=self.writer, why_down=self._around.why_down(self.wanted),
            missing=self._shaping.missing,
        )  # fmt: skip
        if self.writer is not None:
            services = dict(self.writer.services.items())
            self._flow_log.follow(self.writer.generation, services, self.wanted.limits)
        state.write(self.state_file, {**found, "flow_log": self._flow_log.describe()})

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, call, *arguments)
