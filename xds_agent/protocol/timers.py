"""Timers of a core that has no clock of its own: it learns the time only from Tick."""

from __future__ import annotations

from collections.abc import Hashable

from xds_agent.protocol.boundary import Wake


class Timers:
    """Named deadlines. A timer set while a tick is handled starts there; one set between two ticks starts at
    the next, which `wake` asks for in time: it never fires early, and late by at most its own length."""

    def __init__(self) -> None:
        self._now: float | None = None
        self._due: dict[Hashable, float] = {}
        self._unstarted: dict[Hashable, float] = {}
        self._asked: float | None = None
        # Between a tick and the wake that ends its handling, the time is known exactly.
        self._exact = False

    @property
    def now(self) -> float:
        """Monotonic seconds of the last tick, 0.0 before the first."""
        return self._now or 0.0

    def set(self, key: Hashable, after_s: float) -> None:
        """Start or restart a timer."""
        self.cancel(key)
        if self._exact:
            self._due[key] = self.now + after_s
        else:
            self._unstarted[key] = after_s

    def cancel(self, key: Hashable) -> None:
        self._due.pop(key, None)
        self._unstarted.pop(key, None)

    def running(self, key: Hashable) -> bool:
        return key in self._due or key in self._unstarted

    def tick(self, now: float) -> list[Hashable]:
        """Start what waits to be started; return what is over, in the order of the deadlines."""
        self._now, self._asked, self._exact = now, None, True
        for key, after_s in self._unstarted.items():
            self._due[key] = now + after_s
        self._unstarted.clear()
        over = sorted((at, i, key) for i, (key, at) in enumerate(self._due.items()) if at <= now)
        for _, _, key in over:
            del self._due[key]
        return [key for _, _, key in over]

    def wake(self) -> list[Wake]:
        """The one Wake that is needed now and has not been asked for."""
        self._exact = False
        times = list(self._due.values())
        if self._unstarted:
            times.append(0.0 if self._now is None else self._now + min(self._unstarted.values()))
        if not times or (self._asked is not None and self._asked <= min(times)):
            return []
        self._asked = min(times)
        return [Wake(self._asked)]
