"""Probes what several askers want to know, each distinct target once, within the node's budget."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from xds_agent.node.probing.dialing import Dialer
from xds_agent.node.probing.icmp import Pinger
from xds_agent.node.probing.outcome import Answered, Failed, Outcome, of_error, silence
from xds_agent.node.probing.schedule import PROBES_PER_S, TOGETHER_S, Schedule
from xds_agent.node.probing.tally import Tally, Window
from xds_agent.node.probing.targets import Kind, Target, distinct
from xds_agent.node.probing.udp import udp

_AT_ONCE = 256
"""Probes under way; one more waits. At 200 a second and a second's timeout this is never reached."""
_DIALLED = ("tcp", "http", "grpc")


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of a target. Times are of the prober's clock (monotonic seconds)."""

    tally: Tally = field(default_factory=Tally)
    window: Window = field(default_factory=Window)
    last_s: float | None = None
    """When it was last probed."""

    @property
    def healthy(self) -> bool | None:
        """None: nobody knows, which is not the same as down."""
        return self.tally.healthy


OnChange = Callable[[Target, Result], None]


class Prober:
    """`watch` what an asker wants; `run` until cancelled; read `result`. Event-loop thread only."""

    def __init__(
        self, *, limit_per_s: float = PROBES_PER_S, draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.sent = 0
        self._clock = clock
        self._askers: dict[str, tuple[Target, ...]] = {}
        self._wanted: frozenset[object] = frozenset()
        self._schedule = Schedule(draw, limit_per_s)
        self._results: dict[object, Result] = {}
        self._listeners: list[OnChange] = []
        # Key -> its task; None where a dialer does without.
        self._under_way: dict[object, asyncio.Task[Outcome] | None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._dialer = Dialer()
        self._pinger = Pinger()
        self._ways: dict[Kind, Callable[[Target], Awaitable[Outcome]]] = {
            "icmp": self._pinger.icmp,
            "udp": udp,
        }

    def listen(self, on_change: OnChange) -> None:
        """Be told whenever the health of a target changes."""
        self._listeners.append(on_change)

    def limit(self, per_s: float) -> None:
        """The node's budget from now on; what is watched already stays, more slowly if need be."""
        self._schedule.limit(per_s)

    def watch(self, asker: str, targets: Iterable[Target]) -> None:
        """Probe these for `asker` from now on, in place of what it asked for before; none ends it.

        Raises OverBudget when all askers together want more than the node's budget; all stays as it was.
        """
        askers = {**self._askers, asker: distinct(targets)}
        wanted = distinct(one for own in askers.values() for one in own)
        self._schedule.set(wanted, self._clock())
        self._askers = {name: own for name, own in askers.items() if own}
        self._wanted = frozenset(one.key for one in wanted)
        self._results = {key: found for key, found in self._results.items() if key in self._wanted}
        self._turn_soon()

    def result(self, target: Target) -> Result:
        """Of a target, by its address, port and check; intervals make no difference."""
        return self._results.get(target.key, Result())

    def results(self, asker: str) -> Mapping[Target, Result]:
        """Of everything an asker watches."""
        return {one: self.result(one) for one in self._askers.get(asker, ())}

    async def run(self) -> None:
        """Probe until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._turn()
        try:
            await self._loop.create_future()
        finally:
            self._loop = None
            self._cancel_timer()
            tasks = [task for task in self._under_way.values() if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._under_way.clear()
            self.close()

    def close(self) -> None:
        """The sockets that `probe` opened for itself; `run` does this at its end."""
        self._pinger.close()
        self._dialer.close()

    async def probe(self, target: Target) -> Outcome:
        """Once, now, whatever the schedule says. Never raises but for being cancelled."""
        if target.check.kind in _DIALLED:
            return await self._dialer.ask(target)
        try:
            async with asyncio.timeout(target.timeout_s):
                return await self._ways[target.check.kind](target)
        except TimeoutError:
            return silence(target.timeout_s)
        except OSError as error:
            return of_error(error)

    def _turn(self) -> None:
        """Start what is due, and come again when the next one is."""
        self._cancel_timer()
        while len(self._under_way) < _AT_ONCE and (target := self._schedule.take(self._clock())):
            self._start(target)
        wait_s = max(TOGETHER_S, self._schedule.next_s - self._clock())
        if self._loop is not None and len(self._under_way) < _AT_ONCE and wait_s < math.inf:
            # What failed at once may have asked for a turn meanwhile.
            self._cancel_timer()
            # uvloop counts whole milliseconds: what is rounded down comes too early.
            self._timer = self._loop.call_later(math.ceil(wait_s * 1000) / 1000, self._turn)

    def _turn_soon(self) -> None:
        """Targets have changed, or a place is free."""
        if self._loop is not None:
            self._cancel_timer()
            self._timer = self._loop.call_later(0, self._turn)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, target: Target) -> None:
        key = target.key
        if key in self._under_way:
            # Its timeout is longer than its interval: one at a time.
            return
        self.sent += 1
        if target.check.kind in _DIALLED:
            self._under_way[key] = None
            self._dialer.dial(target, lambda outcome: self._ended(target, outcome))
            return
        task = asyncio.create_task(self.probe(target), name=f"probe {target}")
        self._under_way[key] = task

        def ended(task: asyncio.Task[Outcome]) -> None:
            if not task.cancelled():
                self._ended(target, task.result())

        task.add_done_callback(ended)

    def _ended(self, target: Target, outcome: Outcome) -> None:
        del self._under_way[target.key]
        if target.key in self._wanted:
            self._take(target, outcome)
        if len(self._under_way) == _AT_ONCE - 1:
            self._turn_soon()

    def _take(self, target: Target, outcome: Outcome) -> None:
        before = self.result(target)
        now = self._clock()
        rtt_ms = outcome.rtt_ms if isinstance(outcome, Answered | Failed) else None
        tally = before.tally.after(
            outcome, now, unhealthy_after=target.unhealthy_after, healthy_after=target.healthy_after
        )
        found = Result(tally, before.window.after(rtt_ms), now)
        self._results[target.key] = found
        if (found.healthy, tally.silent) != (before.healthy, before.tally.silent):
            for listener in self._listeners:
                listener(target, found)
