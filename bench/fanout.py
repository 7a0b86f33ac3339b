"""One change to many node agents: how long until the last of N streams has acknowledged it, and at what cost.

N streams of the fleet (bench/fleet.py, one core) stand at control's real core and server, in a process of its
own, over mTLS. The clock runs from asking for a change, about 1 KB of endpoints and their Revision, until the
last stream has acknowledged; CPU and memory are the server process's. Where Go is installed, a
go-control-plane (bench/peers) meets the same fleet and the same change in turn, so that the ratio holds on a
busy machine too: `peer_*`. Either way a stream gets one response and acknowledges it: so small a change comes
within our Revision.

`--peer HOST:PORT` times a delta ADS server that runs already, without TLS, and must change something by
itself: there the clock runs from the first arrival of a change to the last acknowledgement.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench.fleet import Fleet
from tests.support.site_pki import SitePki
from xds_agent.snapshot.resource import ENDPOINTS, REVISION

NAME = "fanout"
SIZES = (1, 100, 250, 1000)
# Of p50 against go-control-plane in the same run.
GOALS = {"ratio_p50_1000": ("<=", 1.0), "ratio_cpu_1000": ("<=", 1.0)}
GO = Path(__file__).resolve().parent / "peers/go_control_plane"
_WARM_UP = 3
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") / 1024


def measure(*, quick: bool = False, peer: str = "") -> dict[str, float]:
    """Milliseconds, microseconds of CPU, KB."""
    return uvloop.run(_measure(SIZES[:2] if quick else SIZES, 20 if quick else 60, peer))


async def _measure(sizes: Sequence[int], rounds: int, peer: str) -> dict[str, float]:
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="mpb-") as name:
        folder = Path(name)
        pki = SitePki(folder / "pki")
        pki.host("control1")
        servers = {"": (REVISION, [sys.executable, "-m", "bench.fanout_server", str(pki.folder)])}
        if not peer and (built := await _build(folder)):
            servers["peer_"] = (ENDPOINTS, [str(built), str(pki.folder)])
        for nodes in sizes:
            for prefix, (last_type, command) in servers.items():
                found = await _served(pki, nodes, rounds, last_type, [*command, str(nodes)])
                figures |= {f"{prefix}{key}_{nodes}": value for key, value in found.items()}
            if peer:
                found = await _running(pki, nodes, rounds, peer)
                figures |= {f"peer_{key}_{nodes}": value for key, value in found.items()}
            for key in ("p50_ms", "cpu_us_per_stream"):
                if f"peer_{key}_{nodes}" in figures and not peer:
                    ratio = figures[f"{key}_{nodes}"] / figures[f"peer_{key}_{nodes}"]
                    figures[f"ratio_{key.split('_')[0]}_{nodes}"] = ratio
    figures["rss_kb_per_stream"] = figures.get(f"rss_kb_per_stream_{sizes[-1]}", math.nan)
    return figures


async def _build(folder: Path) -> Path | None:
    """go-control-plane as a server, or None, with the reason said."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        print("no peer: this machine has no Go, so go-control-plane is not measured")
        return None
    print("building go-control-plane (minutes the first time)", flush=True)
    target = folder / "peer"
    process = await asyncio.create_subprocess_exec(
        go, "build", "-o", str(target), ".", cwd=GO,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    if process.returncode != 0:
        print(f"no peer: go build failed: {said.decode(errors='replace')[-500:]}")
        return None
    return target


async def _served(
    pki: SitePki, nodes: int, rounds: int, last_type: str, command: Sequence[str]
) -> dict[str, float]:
    """Figures of a server that says its port and makes one change for each line."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    fleet = Fleet(pki, [f"edge{n}" for n in range(nodes)], last_type)
    try:
        assert process.stdin is not None and process.stdout is not None
        port = int(await process.stdout.readline())
        empty_kb = _rss_kb(process.pid)
        await fleet.connect(port)
        gc.collect()
        gc.freeze()
        times = []
        for number in range(rounds + _WARM_UP):
            if number == _WARM_UP:
                before_s = _cpu_s(process.pid)
            started, change = time.monotonic(), fleet.begin()
            process.stdin.write(b"change\n")
            await fleet.all_answered()
            times.append((change.ended - started) * 1e3)
            await asyncio.sleep(0.01)
        return _percentiles(times[_WARM_UP:]) | {
            "cpu_us_per_stream": (_cpu_s(process.pid) - before_s) * 1e6 / rounds / nodes,
            "rss_kb_per_stream": (_rss_kb(process.pid) - empty_kb) / nodes,
        }
    finally:
        fleet.close()
        process.kill()
        await process.wait()


async def _running(pki: SitePki, nodes: int, rounds: int, address: str) -> dict[str, float]:
    """Figures of a server that is there already and changes when it likes."""
    host, _, port = address.rpartition(":")
    fleet = Fleet(pki, [f"edge{n}" for n in range(nodes)], ENDPOINTS, tls=False)
    try:
        await fleet.connect(int(port), host)
        times = []
        for _ in range(rounds):
            change = fleet.begin()
            await fleet.all_answered()
            times.append((change.ended - change.began) * 1e3)
        return _percentiles(times)
    finally:
        fleet.close()


def _percentiles(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "p50_ms": statistics.median(times),
        "p99_ms": ordered[min(len(times) - 1, int(len(times) * 0.99))],
    }


def _cpu_s(pid: int) -> float:
    """User and system time of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _rss_kb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KB
