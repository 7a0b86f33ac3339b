"""Control is dead, the host reboots: how long until Envoy answers requests from the agent's journal?

The clock runs from starting both processes (agent and Envoy, together, as systemd would) to the first 200
through Envoy's listener.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import uvloop

from tests.support.control import Control
from tests.support.ports import free_port
from tests.support.processes import Backend, Node, ask
from tests.support.resources import site
from tests.support.site_pki import SitePki
from xds_agent.protocol.control import Acknowledged

NAME = "boot"
GOALS = {"serving_s_2": ("<=", 1.0), "serving_s_1000": ("<=", 2.0)}


def measure(*, quick: bool = False) -> dict[str, float]:
    """Seconds, median of some boots."""
    return uvloop.run(_measure(3 if quick else 7))


async def _measure(boots: int) -> dict[str, float]:
    figures = {}
    with tempfile.TemporaryDirectory(prefix="mpb-") as folder:
        pki = SitePki(Path(folder) / "pki")
        for services in (2, 1000):
            figures[f"serving_s_{services}"] = await _boots(
                Path(folder) / str(services), pki, services, boots
            )
    return figures


async def _boots(folder: Path, pki: SitePki, services: int, boots: int) -> float:
    backend, control, listen = Backend("one"), Control(pki), free_port()
    await backend.start()
    await control.start()
    node = Node(folder, pki, "bench1", [control.address])
    try:
        await node.start()
        first = site(listen, {f"s{n}": [backend.port] for n in range(services)})
        answer = await control.apply("bench1", first, patience_s=60)
        assert isinstance(answer, Acknowledged), answer
        await control.stop()
        times = []
        for _ in range(boots):
            await node.envoy.kill()
            await node.agent.kill()
            started = time.perf_counter()
            await node.start()
            await _served(listen)
            times.append(time.perf_counter() - started)
        return statistics.median(times)
    finally:
        await node.close()
        await control.stop()
        await backend.stop()


async def _served(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if (await ask(port, "s0"))[0] == 200:
                    return
            except (OSError, EOFError):
                pass
            await asyncio.sleep(0.005)


if __name__ == "__main__":
    import sys

    for key, value in measure(quick="--quick" in sys.argv).items():
        print(f"{key:18} {value:8.2f}  {' '.join(map(str, GOALS.get(key, ())))}")
