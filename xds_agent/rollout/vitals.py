"""What heartbeats said of each proxy: Envoy's state, the counters of the gate. Event-loop thread only."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from xds_agent.rollout.gate import Counters, Window

# How far back "before the change" reaches at most.
REMEMBERED_S = 120.0
# Not heard yet, serving, or a host of the L4 tier alone.
WELL = ("", "LIVE", "NONE")

Ask = Callable[[Collection[str]], None]


@dataclass
class Vitals:
    """Fed by the reports; `ask` makes the named nodes send a heartbeat with counters at once."""

    ask: Ask = field(default=lambda names: None)
    clock: Callable[[], float] = time.monotonic
    _counters: dict[str, deque[tuple[float, Counters]]] = field(init=False, default_factory=dict)
    _states: dict[str, str] = field(init=False, default_factory=dict)
    # Since when the Envoy of each that is not well has not been.
    _ill: dict[str, float] = field(init=False, default_factory=dict)
    _heard: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    def heard(self, name: str, envoy_state: str, counters: Counters) -> None:
        """A heartbeat; `counters` is empty in those that carry none."""
        self._states[name] = envoy_state
        if envoy_state in WELL:
            self._ill.pop(name, None)
        else:
            self._ill.setdefault(name, self.clock())
        self._heard.set()
        if not counters:
            return
        samples = self._counters.setdefault(name, deque())
        samples.append((self.clock(), dict(counters)))
        while len(samples) > 2 and samples[0][0] < self.clock() - REMEMBERED_S:
            samples.popleft()

    def envoy_state(self, name: str) -> str:
        """As last heard; empty when nothing was."""
        return self._states.get(name, "")

    async def ill(self, names: Collection[str], *, for_s: float) -> dict[str, str]:
        """Those of them whose Envoy has not been well for so long, with its state; others are waited for.

        One look proves little: an agent that has just restarted says AWAY until its Envoy is back.
        """
        while True:
            found = {name: self._states[name] for name in names if name in self._ill}
            left_s = max((self._ill[name] + for_s - self.clock() for name in found), default=0.0)
            if left_s <= 0:
                return found
            self._heard.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._heard.wait()

    async def fresh(self, names: Collection[str], *, within_s: float) -> dict[str, Counters]:
        """Ask these nodes, and give the counters of those that answered in time."""
        since = self.clock()
        # Who never sent any will not begin now.
        wanted = set(names) & self._counters.keys()
        self.ask(wanted)
        try:
            async with asyncio.timeout(within_s):
                while wanted - self._since(since, wanted).keys():
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            pass
        return self._since(since, wanted)

    def earliest(self, names: Collection[str]) -> dict[str, Counters]:
        """The oldest counters that are remembered, of each name that has any."""
        return {name: self._counters[name][0][1] for name in names if self._counters.get(name)}

    def _since(self, moment: float, names: Collection[str]) -> dict[str, Counters]:
        newest = ((name, self._counters[name][-1]) for name in names if self._counters.get(name))
        return {name: counters for name, (at, counters) in newest if at >= moment}


def windows(
    names: Collection[str],
    earlier: Mapping[str, Counters],
    start: Mapping[str, Counters],
    now: Mapping[str, Counters],
) -> dict[str, Window]:
    """One window per name."""
    return {name: Window(earlier.get(name), start.get(name), now.get(name)) for name in names}
