"""GCRA parameters for rates that people write."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

_SECOND_NS = 1_000_000_000
_CLOCK_MONOTONIC_COARSE = 6  # linux/time.h; the time module has no name for it
_BYTES = 1024
NO_LIMIT = {"interval_ns": 0, "burst_ns": 0}
# The shortest interval is that many units of the sources' clock: rates are exact to a thousandth ...
_INTERVAL_BITS = 11
# ... unless a full bucket would then be much of what a cell can say: when the clock has gone round, an idle
# cell seems that full by chance. No more than a sixtieth is given up for it.
_FULL_BITS, _FULL_MOST_BITS, _INTERVAL_LEAST = 26, 30, 60
_BURST_MOST = 1 << 28
# What rates of bytes are exact for: the smallest frame of Ethernet. The largest that a packet can be is what
# may come on top of a full bucket.
_SMALLEST_FRAME, _LARGEST_FRAME = 64, 1 << 16


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
        interval = max(1, round(self.time_ns(_BYTES)))
        return {"interval_ns": interval, "burst_ns": self.burst * interval // _BYTES + tick_ns()}

    def time_ns(self, size: int) -> float:
        """Of so many bytes. Raises ValueError."""
        self._check(100 * _SECOND_NS)
        return size * _SECOND_NS / self.per_second

    def _check(self, most: int) -> None:
        if not 0 < self.per_second <= most:
            raise ValueError(f"a rate of {self.per_second} per second is not between 0 and {most:,}")
        if self.burst < 1:
            raise ValueError(f"a burst of {self.burst} would let nothing pass")


def source_parameters(
    rates: Mapping[str, Rate | None], of_bytes: Mapping[str, Rate | None] | None = None
) -> dict[str, int | dict[str, int]]:
    """What the program needs for limits of sources, by name, for struct settings.

    Their cells are 32 bits wide and shared by all of these limits, so all are in units of one clock.
    What does not fit into whole units is the stricter for it. Raises ValueError.
    """
    of_bytes = of_bytes or {}
    intervals: list[float] = [rate.parameters()["interval_ns"] for rate in rates.values() if rate]
    intervals += [rate.time_ns(_SMALLEST_FRAME) for rate in of_bytes.values() if rate]
    shortest = math.floor(min(intervals, default=1))
    shift = max(0, shortest.bit_length() - _INTERVAL_BITS)
    while True:
        found = {name: _in_units(rate, shift) for name, rate in rates.items()}
        found_bytes = {name: _bytes_in_units(rate, shift) for name, rate in of_bytes.items()}
        most = [one["burst"] + one["interval"] for one in found.values()]
        most += [one["burst"] + one["interval"] * (_LARGEST_FRAME // _BYTES) for one in found_bytes.values()]
        full = max(most, default=0)
        fits = full >> _FULL_BITS == 0 or shortest >> shift + 1 < _INTERVAL_LEAST
        if fits and full >> _FULL_MOST_BITS == 0:
            return {**found, **found_bytes, "source_shift": shift, "source_full": full}
        shift += 1


def _in_units(rate: Rate | None, shift: int) -> dict[str, int]:
    if rate is None:
        return {"interval": 0, "burst": 0}
    interval = -(-rate.parameters()["interval_ns"] >> shift)
    # More packets at once than a cell can count are no limit anybody would notice.
    packets = min(rate.burst, _BURST_MOST)
    return {"interval": interval, "burst": (packets - 1) * interval + (tick_ns() >> shift)}


def _bytes_in_units(rate: Rate | None, shift: int) -> dict[str, int]:
    if rate is None:
        return {"interval": 0, "burst": 0}
    interval = math.ceil(rate.time_ns(_BYTES) / (1 << shift))
    burst = min(rate.burst, _BURST_MOST * _BYTES)
    return {"interval": interval, "burst": burst * interval // _BYTES + (tick_ns() >> shift)}


def tick_ns() -> int:
    """Resolution of the coarse clock of this kernel."""
    return round(time.clock_getres(_CLOCK_MONOTONIC_COARSE) * _SECOND_NS)
