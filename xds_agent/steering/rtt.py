"""A round-trip time worth deciding by: the smallest of the last few samples, smoothed, and how sure it is.

Queues only ever add to a round trip, so the smallest of several samples is near what the path itself takes
(BBR does the same). The smoothing is over these minima. Times are seconds on any one clock;
a clock that goes backwards is taken to stand still.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

WINDOW = 16
"""Samples whose minimum counts. A path that became longer is believed after as many samples."""
SMOOTHING = 0.05
"""Weight of a new minimum, once there are enough; before that all minima count alike."""
SURE_AFTER = 4
"""Samples after which half of the full confidence is there."""
FRESH_S = 60.0
"""Age of the last sample up to which nothing is lost; at twice that the estimate is worth nothing."""
LONGEST_MS = 60_000.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A round-trip time in milliseconds and a confidence from 0 (know nothing) to 1."""

    ms: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Rtt:
    """Samples of one (vantage, group) pair, taken in. Start with `Rtt()`."""

    recent_ms: tuple[float, ...] = ()
    smooth_ms: float = 0.0
    samples: int = 0
    last_s: float = -math.inf

    def after(self, sample_ms: float, at_s: float) -> Rtt:
        """With one more sample. One that cannot be (not positive, not finite, over a minute) is left out."""
        if not 0.0 < sample_ms <= LONGEST_MS or not math.isfinite(at_s):
            return self
        recent = (*self.recent_ms[-(WINDOW - 1) :], sample_ms)
        least = min(recent)
        part = max(SMOOTHING, 1.0 / (self.samples + 1))
        smooth = self.smooth_ms + part * (least - self.smooth_ms)
        return Rtt(recent, smooth, self.samples + 1, max(at_s, self.last_s))

    def at(self, now_s: float) -> Estimate | None:
        """What is believed at `now_s`; None without a sample, or when all are too old."""
        if not self.samples:
            return None
        age = max(0.0, now_s - self.last_s)
        fresh = min(1.0, max(0.0, 2.0 - age / FRESH_S))
        if fresh == 0.0:
            return None
        return Estimate(self.smooth_ms, fresh * self.samples / (self.samples + SURE_AFTER))


def combined(estimates: Iterable[Estimate | None]) -> Estimate | None:
    """What several nodes of one place say together: the median, so that one that lies changes nothing.

    With two nodes there is no telling which lies: the middle between them, and half the confidence when they
    differ by more than a half.
    """
    known = sorted((one for one in estimates if one is not None), key=lambda one: one.ms)
    if not known:
        return None
    confidence = median(one.confidence for one in known)
    if len(known) == 2 and known[1].ms > 1.5 * known[0].ms:
        confidence /= 2
    return Estimate(median(one.ms for one in known), confidence)


def blended(measured: Estimate | None, prior_ms: float | None) -> float | None:
    """Measurement and prior belief by the confidence in the measurement; None when there is neither."""
    if measured is None:
        return prior_ms
    if prior_ms is None:
        return measured.ms
    return measured.confidence * measured.ms + (1.0 - measured.confidence) * prior_ms
