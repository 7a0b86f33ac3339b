"""GCRA parameters for rates that people write."""

from __future__ import annotations

import time
from dataclasses import dataclass

_SECOND_NS = 1_000_000_000
_CLOCK_MONOTONIC_COARSE = 6  # linux/time.h; the time module has no name for it
_BYTES = 1024
NO_LIMIT = {"interval_ns": 0, "burst_ns": 0}


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second` on the long run; `burst` at once: packets, or bytes where a limit is one of bytes."""

    per_second: float
    burst: int = 1

    def parameters(self) -> dict[str, int]:
        """What the program needs, for struct limit.

        The program's clock (coarse, no more than a memory read) stands still for a tick of up to 10 ms. What
        a tick may let pass must fit into the burst, or the rate would never be reached: the tick is added.
        The long-run rate is not changed by it. Raises ValueError.
        """
        self._check(_SECOND_NS)
        interval = max(1, round(_SECOND_NS / self.per_second))
        return {"interval_ns": interval, "burst_ns": (self.burst - 1) * interval + tick_ns()}

    def byte_parameters(self) -> dict[str, int]:
        """The same for a limit of bytes, whose interval is that of 1024 of them. Raises ValueError."""
        self._check(100 * _SECOND_NS)
        interval = max(1, round(_BYTES * _SECOND_NS / self.per_second))
        return {"interval_ns": interval, "burst_ns": self.burst * interval // _BYTES + tick_ns()}

    def _check(self, most: int) -> None:
        if not 0 < self.per_second <= most:
            raise ValueError(f"a rate of {self.per_second} per second is not between 0 and {most:,}")
        if self.burst < 1:
            raise ValueError(f"a burst of {self.burst} would let nothing pass")


def tick_ns() -> int:
    """Resolution of the coarse clock of this kernel."""
    return round(time.clock_getres(_CLOCK_MONOTONIC_COARSE) * _SECOND_NS)
