"""Probes what several askers want to know, each distinct target once, within the node's budget."""

from __future__ import annotations

import asyncio
import errno
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from xds_agent.node.probing import connect
from xds_agent.node.probing.grpc_health import grpc_health
from xds_agent.node.probing.icmp import Pinger
from xds_agent.node.probing.outcome import Answered, Failed, Outcome, Unable
from xds_agent.node.probing.schedule import PROBES_PER_S, Schedule
from xds_agent.node.probing.tally import Tally, Window
from xds_agent.node.probing.targets import Kind, Target, distinct
from xds_agent.node.probing.udp import udp

_AT_ONCE = 256
"""Probes under way; one more waits. At 200 a second and a second's timeout this is never reached."""
# What says that this host cannot ask, not that nobody answers.
_OURS = frozenset(
    {
        errno.EACCES, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EMFILE, errno.ENETDOWN,
        errno.ENETUNREACH, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPERM,
    }
)  # fmt: skip


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
        self._changed = asyncio.Event()
        self._under_way: dict[object, asyncio.Task[None]] = {}
        self._pinger = Pinger()
        self._ways: dict[Kind, Callable[[Target], Awaitable[Outcome]]] = {
            "tcp": connect.tcp,
            "http": connect.http,
            "grpc": grpc_health,
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
        self._changed.set()

    def result(self, target: Target) -> Result:
        """Of a target, by its address, port and check; intervals make no difference."""
        return self._results.get(target.key, Result())

    def results(self, asker: str) -> Mapping[Target, Result]:
        """Of everything an asker watches."""
        return {one: self.result(one) for one in self._askers.get(asker, ())}

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            while True:
                self._changed.clear()
                while len(self._under_way) < _AT_ONCE and (target := self._schedule.take(self._clock())):
                    self._start(target)
                await self._pause()
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.close()

    def close(self) -> None:
        """The sockets that `probe` opened for itself; `run` does this at its end."""
        self._pinger.close()

    async def probe(self, target: Target) -> Outcome:
        """Once, now, whatever the schedule says. Never raises but for being cancelled."""
        try:
            async with asyncio.timeout(target.timeout_s):
                return await self._ways[target.check.kind](target)
        except TimeoutError:
            return Failed(f"no answer within {target.timeout_s * 1000:.0f} ms", firm=False)
        except ConnectionRefusedError:
            return Failed("connection refused", firm=True)
        except ConnectionResetError:
            return Failed("connection reset", firm=True)
        except OSError as error:
            words = error.strerror or str(error)
            return Unable(words) if error.errno in _OURS else Failed(words, firm=False)

    def _start(self, target: Target) -> None:
        if target.key in self._under_way:
            # Its timeout is longer than its interval: one at a time.
            return
        self.sent += 1
        task = asyncio.create_task(self._one(target), name=f"probe {target}")
        self._under_way[target.key] = task

        def ended(_: asyncio.Task[None]) -> None:
            del self._under_way[target.key]
            if len(self._under_way) == _AT_ONCE - 1:
                self._changed.set()

        task.add_done_callback(ended)

    async def _one(self, target: Target) -> None:
        outcome = await self.probe(target)
        if target.key in self._wanted:
            self._take(target, outcome)

    def _take(self, target: Target, outcome: Outcome) -> None:
        before = self.result(target)
        now = self._clock()
        rtt_ms = outcome.rtt_ms if isinstance(outcome, Answered | Failed) else None
        found = replace(
            before,
            tally=before.tally.after(
                outcome, now, unhealthy_after=target.unhealthy_after, healthy_after=target.healthy_after
            ),
            window=before.window.after(rtt_ms),
            last_s=now,
        )
        self._results[target.key] = found
        if found.healthy != before.healthy:
            for listener in self._listeners:
                listener(target, found)

    async def _pause(self) -> None:
        """Until the next turn, or until targets change or a place is free."""
        full = len(self._under_way) >= _AT_ONCE
        wait_s = None if full else self._schedule.next_s - self._clock()
        if wait_s is not None and wait_s <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(None if wait_s in (None, float("inf")) else wait_s):
                await self._changed.wait()
        except TimeoutError:
            return
