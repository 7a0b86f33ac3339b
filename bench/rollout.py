"""A change through a whole site: as many real Envoys as there is memory for, full waves, what it waits for.

Each proxy is a network namespace with a real node agent and a real Envoy; control is `xds-agent serve` with a
shadow. Half of the free memory is used at 150 MB a proxy, 40 proxies at most. The change swaps every service
for one of another name; its times are those of control's own audit: `shadow_s` from the stored revision to
the first wave, `waiting_s` the soaks between the waves, `waves_s` the rest, acknowledgements and canaries'
requests.

`gate_ms` is what the shadow adds to a change of one service: the same edits with it and without, medians.
`gate_10000_s` is a shadow's whole way from nothing to a site of 10,000 services with five endpoints each,
`gate_10000_edit_ms` one service of those edited after that. Envoy begins all active checks at once, a socket
for each endpoint: of `gate_10000_checked` services the endpoints are checked, as many as this machine allows
open files (all where its hard limit is above 52,000).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from bench.big_site import ENDPOINTS, document
from tests.support.fault_site import FaultSite
from tests.support.processes import envoy_binary
from tests.support.real_material import real_material
from tests.support.segment import may_make_namespaces
from tests.support.site_pki import SitePki
from xds_agent.compile import Compiler
from xds_agent.model import load_site
from xds_agent.rollout.shadow import Shadows

NAME = "rollout"
GOALS = {"gate_ms": ("<=", 150.0)}
WAVES, SOAK_S = [1, "25%", "100%"], 1.0
PROXY_MB, PROXIES_MOST = 150, 40
_EDITS = 15
# Files an Envoy needs beside those of its checks.
_OTHER_FILES = 2_000


def measure(*, quick: bool = False) -> dict[str, float]:
    """Seconds and milliseconds."""
    if why := may_make_namespaces():
        raise SystemExit(f"this benchmark gives each proxy a host of its own: {why}")
    return uvloop.run(_measure(quick=quick))


async def _measure(*, quick: bool) -> dict[str, float]:
    envoys = min(4 if quick else PROXIES_MOST, _free_mb() // 2 // PROXY_MB)
    with tempfile.TemporaryDirectory(prefix="mpb-") as name:
        folder = Path(name)
        pki = SitePki(folder / "pki")
        figures = {"envoys": float(envoys)}
        async with FaultSite(folder, pki, names=[f"edge{n}" for n in range(envoys)]) as site:
            site.rollout = {"waves": WAVES, "soak": f"{SOAK_S:g}s"}
            figures |= await _swap(site)
            with_shadow_ms = await _edit_ms(site)
            await site.without_shadow()
            figures["gate_ms"] = with_shadow_ms - await _edit_ms(site)
        if not quick:
            figures |= await _big(folder)
    return figures


async def _swap(site: FaultSite) -> dict[str, float]:
    started = time.monotonic()
    answer = (await site.change(timeout_s=60)).json()
    total_s = time.monotonic() - started
    assert answer["outcome"] == "live", answer
    at = await _audited(site, answer["number"])
    shadow_s = (at["revision.waves"] - at["revision.change"]).total_seconds()
    waiting_s = SOAK_S * (len(WAVES) - 1)
    waves_s = (at["revision.live"] - at["revision.waves"]).total_seconds() - waiting_s
    return {"total_s": total_s, "shadow_s": shadow_s, "waves_s": waves_s, "waiting_s": waiting_s}


async def _edit_ms(site: FaultSite) -> float:
    """From the stored revision to the first wave, of edits that change one service and hardly soak."""
    site.rollout = {"waves": [1, "100%"], "soak": "10ms"}
    times = []
    # The first one brings the shadow, or finds it gone.
    await site.edit(timeout_s=60)
    for _ in range(_EDITS):
        answer = (await site.edit(timeout_s=60)).json()
        assert answer["outcome"] == "live", answer
        at = await _audited(site, answer["number"])
        times.append((at["revision.waves"] - at["revision.change"]).total_seconds() * 1e3)
    return statistics.median(times)


async def _audited(site: FaultSite, number: int) -> dict[str, dt.datetime]:
    """When each step of this revision was written down."""
    answer = await asyncio.to_thread(site.serve.get, "/v1/audit")
    rows: list[dict[str, Any]] = [row for row in answer.json()["rows"] if row["subject"] == str(number)]
    return {row["action"]: dt.datetime.fromisoformat(row["at"]) for row in rows}


async def _big(folder: Path) -> dict[str, float]:
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    checked = min(10_000, (files - _OTHER_FILES) // ENDPOINTS)
    said = document(10_000, checked=checked)
    site = load_site(said)
    material, _ = real_material(site)
    compiler = Compiler()
    first = compiler.compile(site, material).snapshots()
    said["edge"]["services"][0]["endpoints"][0]["port"] = 8081
    second = compiler.compile(load_site(said), material).snapshots()
    binary = envoy_binary()
    assert binary is not None
    shadows = Shadows(binary, folder / "shadows")
    try:
        whole_s = await _tried(shadows, {}, first)
        return {
            "gate_10000_checked": float(checked),
            "gate_10000_s": whole_s,
            "gate_10000_edit_ms": await _tried(shadows, first, second) * 1e3,
        }
    finally:
        await shadows.stop()


async def _tried(shadows: Shadows, old: Any, new: Any) -> float:
    started = time.monotonic()
    tried = await shadows.try_out(old, new)
    assert not tried.refusals and not tried.notes, tried
    return time.monotonic() - started


def _free_mb() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    raise AssertionError("no MemAvailable")
