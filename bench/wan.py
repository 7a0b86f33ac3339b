"""How true the lab's WAN is: packets between two namespaces, delayed by it, against the clock.

Packets leave at a fixed pace over a WAN of 40 ms, and the kernel notes when each arrives. The error of a
packet is what it took, less the median without the WAN, less the delay that was set. At 2,000 packets a
second, in `heavy_*` at 10,000. The machine's other work is in all of it.
"""

from __future__ import annotations

import socket
import statistics
import struct
import tempfile
import time
from pathlib import Path

from lab.wan import running
from lab.wan.table import Way
from tests.support.far_networks import FarNetworks, far_networks

NAME = "wan"
GOALS = {"error_p50_ms": ("<=", 1.0), "error_p99_ms": ("<=", 1.0), "lost": ("==", 0.0)}

DELAY_MS = 40.0
PACKETS_PER_S, HEAVY_PER_S = 2000, 10_000
SECONDS, QUICK_SECONDS = 10.0, 1.5
_STAMPS_NS = 35  # SO_TIMESTAMPNS: when the kernel got it, by the wall clock
_BUFFER = 33  # SO_RCVBUFFORCE
_STAMP = struct.Struct("@qq")
_PACKET = struct.Struct("@q92x")


def measure(*, quick: bool = False) -> dict[str, float]:
    """Milliseconds; --quick sends for 1.5 s each."""
    seconds = QUICK_SECONDS if quick else SECONDS
    with tempfile.TemporaryDirectory() as folder, far_networks(Path(folder)) as far:
        short = _took_ms(far, PACKETS_PER_S, min(seconds, 2.0))
        least = statistics.median(short)
        far.set(Way(delay_us=round(DELAY_MS * 1000)), Way())
        began = _cpu_s(far)
        at_pace = _errors(_took_ms(far, PACKETS_PER_S, seconds), least)
        cpu = (_cpu_s(far) - began) / seconds
        heavy = _errors(_took_ms(far, HEAVY_PER_S, seconds), least)
    sent = round(PACKETS_PER_S * seconds)
    return {
        "error_p50_ms": statistics.median(at_pace),
        "error_p99_ms": _percentile(at_pace, 0.99),
        "error_max_ms": max(at_pace),
        "within_1ms": sum(one <= 1.0 for one in at_pace) / len(at_pace),
        "lost": float(sent - len(at_pace)),
        "cpu_percent": 100.0 * cpu,
        "short_way_ms": least,
        "heavy_error_p99_ms": _percentile(heavy, 0.99),
        "heavy_lost": float(round(HEAVY_PER_S * seconds) - len(heavy)),
    }


def _errors(took_ms: list[float], least_ms: float) -> list[float]:
    return [abs(one - least_ms - DELAY_MS) for one in took_ms]


def _took_ms(far: FarNetworks, per_s: int, seconds: float) -> list[float]:
    """What each packet took that arrived, in milliseconds."""
    with (
        far.bound("right", socket.SOCK_DGRAM, timeout_s=2.0) as right,
        far.bound("left", socket.SOCK_DGRAM) as left,
    ):
        right.setsockopt(socket.SOL_SOCKET, _STAMPS_NS, 1)
        right.setsockopt(socket.SOL_SOCKET, _BUFFER, 1 << 26)
        target, began = right.getsockname(), time.perf_counter()
        for number in range(round(per_s * seconds)):
            _wait_until(began + number / per_s)
            left.sendto(_PACKET.pack(time.time_ns()), target)
        found = []
        while len(found) < round(per_s * seconds):
            try:
                packet, extra, _, _ = right.recvmsg(_PACKET.size, 256)
            except TimeoutError:
                break
            seconds_, nanoseconds = _STAMP.unpack(extra[0][2])
            arrived_ns = seconds_ * 1_000_000_000 + nanoseconds
            found.append((arrived_ns - _PACKET.unpack(packet)[0]) / 1e6)
        return found


def _wait_until(moment: float) -> None:
    while (left := moment - time.perf_counter()) > 0:
        if left > 0.0005:
            time.sleep(left - 0.0003)


def _cpu_s(far: FarNetworks) -> float:
    """CPU time of the WAN's program so far."""
    fields = Path(f"/proc/{running.process(far.place)}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100.0


def _percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, round(part * len(values)))]
