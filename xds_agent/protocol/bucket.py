"""TokenBucket: lets a limited number of initial syncs start per second, so that a reconnect storm cannot
delay the pushes of everybody else."""

from __future__ import annotations


class TokenBucket:
    """`rate_per_s` tokens a second, at most `burst` at once. Time comes from the caller."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self.rate_per_s = rate_per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        # When tokens were last added; None while it is full, since nothing is to be added then.
        self._filled_at: float | None = None

    def take(self) -> bool:
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def refill(self, now: float) -> None:
        """Add what came in since the last call; the first after the bucket was full only notes the time."""
        if self._filled_at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self.rate_per_s)
        self._filled_at = now if self._tokens < self._burst else None

    @property
    def full(self) -> bool:
        return self._tokens >= self._burst
