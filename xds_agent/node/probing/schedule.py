"""When each target is probed: within the node's budget, jittered, never in a large burst. Pure.

Every probe waits for its turn at the budget's pace, so that no clock that jumps and no list that grows makes
a second with more probes than the budget. What is due within TOGETHER_S may go at once: a process that is
woken for every single probe pays more for waking than for probing.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence

from xds_agent.node.probing.targets import Target

PROBES_PER_S = 200.0
"""Budget of a node: less than 3 % of a core (`script/bench probes`), with gRPC somewhat more."""
TOGETHER_S = 0.05
JITTER = 0.1
"""Part of the interval by which each probe may come earlier or later."""

_Draw = Callable[[], float]


class OverBudget(ValueError):
    """More probes are asked for than a node may send; the words hold the arithmetic and the way out."""


def rate_per_s(targets: Sequence[Target]) -> float:
    """Probes a second of distinct targets."""
    return sum(1.0 / one.interval_s for one in targets)


def check_budget(
    targets: Sequence[Target], limit_per_s: float = PROBES_PER_S, *, who: str = "this node"
) -> None:
    """Raises OverBudget when distinct `targets` ask for more than `limit_per_s`."""
    asked = rate_per_s(targets)
    if asked <= limit_per_s * 1.000001:
        return
    kinds = Counter((one.check.kind, one.interval_s) for one in targets)
    parts = " + ".join(
        f"{number} {kind} every {interval_s:g} s ({number / interval_s:.1f})"
        for (kind, interval_s), number in sorted(kinds.items())
    )
    raise OverBudget(
        f"{who} is asked for {parts} = {asked:.1f} probes a second, and its budget is {limit_per_s:g}; "
        f"make the intervals {asked / limit_per_s:.2f} times as long, or let more nodes share them"
    )


class Schedule:
    """Turns of distinct targets. `draw` gives numbers from 0 to 1."""

    def __init__(self, draw: _Draw, limit_per_s: float = PROBES_PER_S) -> None:
        self._draw = draw
        self.limit(limit_per_s)
        self._targets: dict[object, Target] = {}
        # (due, number of the entry, key, target): the number keeps equal times from comparing targets.
        self._due: list[tuple[float, int, object, Target]] = []
        self._number = 0
        self._free_s = float("-inf")

    def limit(self, per_s: float) -> None:
        """Keep to another budget from the next `set` and the next turn on."""
        # A little slower, so that a second that begins with a burst holds no more either.
        self._limit, self._gap_s = per_s, (1.0 + TOGETHER_S) / per_s

    def set(self, targets: Sequence[Target], now_s: float) -> None:
        """Probe exactly these from now on; a new one comes up somewhere in its first interval.

        Raises OverBudget, and then keeps what was.
        """
        check_budget(targets, self._limit)
        before, self._targets = self._targets, {one.key: one for one in targets}
        self._due = [entry for entry in self._due if self._targets.get(entry[2]) == entry[3]]
        heapq.heapify(self._due)
        for one in targets:
            if before.get(one.key) != one:
                self._push(now_s + self._draw() * one.interval_s, one)

    def take(self, now_s: float) -> Target | None:
        """The target whose turn it is, if there is one; its next turn is set."""
        if not self._due or now_s < self.next_s:
            return None
        _, _, _, target = heapq.heappop(self._due)
        self._free_s = max(now_s, self._free_s) + self._gap_s
        jitter = JITTER * (2.0 * self._draw() - 1.0)
        self._push(now_s + target.interval_s * (1.0 + jitter), target)
        return target

    @property
    def next_s(self) -> float:
        """When `take` next has something; inf without targets."""
        return max(self._due[0][0], self._free_s - TOGETHER_S) if self._due else float("inf")

    def _push(self, due_s: float, target: Target) -> None:
        self._number += 1
        heapq.heappush(self._due, (due_s, self._number, target.key, target))
