"""What a row of outcomes says: health with hysteresis, and round trips. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from xds_agent.node.probing.outcome import Answered, Failed, Outcome

WINDOW = 64
"""Round trips that p50 and p95 are of."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Health of one target: None until something is known.

    Silence is no verdict on one that has never answered: a firewall between here and there looks the same.
    """

    healthy: bool | None = None
    since_s: float = 0.0
    """When it became so."""
    good: int = 0
    bad: int = 0
    """In a row."""
    answered: bool = False
    """Whether it ever answered, be it with a refusal."""
    words: str = "not probed yet"
    silent: bool = False
    """It has never answered, and so many in a row have failed. Who compares places knows nothing by that; who
    has to choose a backend here and now, and has no other word, counts it as down."""

    def after(self, outcome: Outcome, now_s: float, *, unhealthy_after: int, healthy_after: int) -> Tally:
        """With one more. The first good one counts at once; later ones need to be so many in a row."""
        well: bool | None
        if isinstance(outcome, Answered):
            good = self.good + 1
            well = True if self.healthy is None or good >= healthy_after else self.healthy
            return Tally(well, self._since(well, now_s), good, 0, True, "")
        if isinstance(outcome, Failed):
            bad = self.bad + 1
            answered = self.answered or outcome.firm
            well = False if answered and bad >= unhealthy_after else self.healthy
            words = outcome.words if answered else f"{outcome.words}; it has never answered"
            silent = not answered and bad >= unhealthy_after
            return Tally(well, self._since(well, now_s), 0, bad, answered, words, silent)
        return replace(self, words=outcome.words)

    def _since(self, healthy: bool | None, now_s: float) -> float:
        return self.since_s if healthy == self.healthy else now_s


@dataclass(frozen=True, slots=True)
class Window:
    """The last round trips, in milliseconds."""

    rtts_ms: tuple[float, ...] = ()
    count: int = 0
    """All that were ever taken: tells a reader which ones are new."""

    def after(self, rtt_ms: float | None) -> Window:
        """With one more; None and what cannot be are left out."""
        if rtt_ms is None or not 0.0 < rtt_ms < 60_000.0:
            return self
        return Window((*self.rtts_ms[-(WINDOW - 1) :], rtt_ms), self.count + 1)

    @property
    def least_ms(self) -> float:
        """Smallest; 0 when there is none."""
        return min(self.rtts_ms, default=0.0)

    def percentile_ms(self, percent: float) -> float:
        """Nearest rank; 0 when there is none."""
        if not self.rtts_ms:
            return 0.0
        ranked = sorted(self.rtts_ms)
        return ranked[max(0, ceil(percent / 100.0 * len(ranked)) - 1)]
