"""From a change at control to Envoy's acknowledgement back at control, over both hops, with a real Envoy.

The clock runs from ControlCore.publish (the set is compiled) to the Acknowledged outcome: control's diff,
mTLS to the node agent, journal with fsync, Envoy over the Unix socket, ACK, and all the way back. Control is
this process, agent and Envoy are their own. Beside it, in the same run, a bare echo over the same hops.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench import echo_floor
from tests.support.control import Control
from tests.support.ports import free_port
from tests.support.processes import Backend, Node
from tests.support.resources import cluster, endpoints, replaced, site
from tests.support.site_pki import SitePki
from xds_agent.protocol.control import Acknowledged
from xds_agent.snapshot.resource import Snapshot

NAME = "change_to_ack"
GOALS = {
    "eds_p50_ms": ("<=", 4.0),
    "eds_p99_ms": ("<=", 12.0),
    "cds_eds_p50_ms": ("<=", 6.0),
    "cds_eds_p99_ms": ("<=", 15.0),
    "eds_p50_ms_5000": ("<=", 6.0),
}
_WARM_UP = 20
_PAUSE_S = 0.003


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def measure(*, quick: bool = False) -> dict[str, float]:
    """All figures of this benchmark."""
    return uvloop.run(_measure(rounds=200 if quick else 1000))


async def _measure(rounds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="mpb-") as folder:
        pki = SitePki(Path(folder) / "pki")
        floor = await echo_floor.measure(pki, rounds)
        small = await _with_node(Path(folder) / "small", pki, 20, rounds, clusters=True)
        large = await _with_node(Path(folder) / "large", pki, 5000, rounds // 4, clusters=False)
    return {
        "floor_p50_ms": percentile(floor, 0.5),
        "eds_p50_ms": percentile(small["eds"], 0.5),
        "eds_p99_ms": percentile(small["eds"], 0.99),
        "cds_eds_p50_ms": percentile(small["cds_eds"], 0.5),
        "cds_eds_p99_ms": percentile(small["cds_eds"], 0.99),
        "eds_p50_ms_5000": percentile(large["eds"], 0.5),
    }


async def _with_node(
    folder: Path, pki: SitePki, services: int, rounds: int, *, clusters: bool
) -> dict[str, list[float]]:
    backend = Backend("one")
    await backend.start()
    control = Control(pki)
    await control.start()
    node = Node(folder, pki, "bench1", [control.address])
    try:
        await node.start()
        first = site(free_port(), {f"s{n}": [backend.port] for n in range(services)})
        answer = await control.apply("bench1", first, patience_s=120)
        assert isinstance(answer, Acknowledged), answer
        gc.collect()
        gc.freeze()
        moved = [replaced(first, endpoints("s0", backend.port, port)) for port in (9, 10)]
        found = {"eds": await _changes(control, moved, rounds)}
        if clusters:
            both = [
                replaced(
                    first, cluster("s0", connect_timeout_ms=900 + n), endpoints("s0", backend.port, 20 + n)
                )
                for n in (1, 2)
            ]
            found["cds_eds"] = await _changes(control, both, rounds)
        return found
    finally:
        await node.close()
        await control.stop()
        await backend.stop()


async def _changes(control: Control, sets: Sequence[Snapshot], rounds: int) -> list[float]:
    """Milliseconds of each change, going through `sets` in turn."""
    times = []
    for number in range(rounds + _WARM_UP):
        target = sets[number % len(sets)]
        control.outcomes.clear()
        started = time.perf_counter()
        answer = await control.apply("bench1", target)
        times.append((time.perf_counter() - started) * 1e3)
        assert isinstance(answer, Acknowledged), answer
        await asyncio.sleep(_PAUSE_S)
    return times[_WARM_UP:]


if __name__ == "__main__":
    import sys

    for key, value in measure(quick="--quick" in sys.argv).items():
        print(f"{key:18} {value:8.2f}  {' '.join(map(str, GOALS.get(key, ())))}")
