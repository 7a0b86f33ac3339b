"""How long a site takes from model JSON to snapshots, cold and after an edit, and how much memory.

Each size runs in a process of its own, so that one is not measured in the memory of another. `edit_ms` is one
service changed among 10,000: new parts, new route configuration, new digests. `ansible_s_2000` is a real
inventory of 2,000 services in YAML, through Ansible and the edge plugin, to the site document. Those with
`cpu` are the process's own time: on a busy machine the others also count the waiting.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import yaml

from bench.big_site import document, edge
from xds_agent.compile import Compiler, KeyPair, Material, Trust
from xds_agent.model import Site, load_site

NAME = "compile_scale"
GOALS = {"cold_s_10000": ("<=", 3.0), "edit_ms": ("<=", 20.0), "rss_mb": ("<=", 400.0)}

ROOT = Path(__file__).resolve().parents[1]
_SIZES = (100, 1_000, 10_000)
_EDITS = 50
_ANSIBLE_SERVICES = 2_000
_GATHER = "from tests.support.site_inventory import SiteInventory; from pathlib import Path; import sys; "
_GATHER += "d = SiteInventory(Path(sys.argv[1])).document(); print(len(d['edge']['services']))"


def measure(*, quick: bool = False) -> dict[str, float]:
    """Seconds, milliseconds and megabytes; --quick leaves out the largest size and Ansible."""
    figures: dict[str, float] = {}
    for size in _SIZES[:-1] if quick else _SIZES:
        found = _in_own_process(size)
        figures[f"cold_s_{size}"] = found["cold_s"]
        if size == _SIZES[-1]:
            figures |= {
                key: found[key] for key in ("cold_cpu_s", "edit_ms", "edit_cpu_ms", "reload_s", "rss_mb")
            }
    if not quick:
        figures["ansible_s_2000"] = _through_ansible()
    return figures


def _in_own_process(size: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.compile_scale", str(size)],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _run(size: int) -> dict[str, float]:
    """Figures of one size, in this process."""
    text = json.dumps(document(size))
    started, started_cpu = time.perf_counter(), time.process_time()
    site = load_site(json.loads(text))
    material = _material(site)
    compiler = Compiler()
    compiler.compile(site, material).snapshots()
    cold_s, cold_cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
    walls, cpus = [], []
    for number in range(_EDITS):
        edited = _edited(site, size // 2, number)
        wall, cpu = time.perf_counter(), time.process_time()
        compiler.compile(edited, material).snapshots()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    started = time.perf_counter()
    compiler.compile(load_site(json.loads(text)), material).snapshots()
    return {
        "cold_s": cold_s,
        "cold_cpu_s": cold_cpu_s,
        "edit_ms": statistics.median(walls) * 1e3,
        "edit_cpu_ms": statistics.median(cpus) * 1e3,
        "reload_s": time.perf_counter() - started,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _edited(site: Site, at: int, number: int) -> Site:
    """The site with one service changed: its cluster, its route and its endpoints."""
    services = list(site.edge.services)
    old = services[at]
    first = old.endpoints[0].model_copy(update={"weight": 2 + number})
    services[at] = old.model_copy(
        update={
            "connect_timeout": timedelta(seconds=2 + number),
            "timeout": timedelta(seconds=20 + number),
            "endpoints": (first, *old.endpoints[1:]),
        }
    )
    return dataclasses.replace(site, edge=site.edge.model_copy(update={"services": tuple(services)}))


def _material(site: Site) -> Material:
    pair = KeyPair(b"chain", b"key")
    return Material({one.name: pair for one in site.edge.certificates}, {"site-ca": Trust(b"ca")})


def _through_ansible() -> float:
    """Seconds from files to the site document."""
    from tests.support.site_inventory import SiteInventory

    with tempfile.TemporaryDirectory(prefix="mpb-") as folder:
        whole = edge(_ANSIBLE_SERVICES)
        files = {f"edge/{key}.yml": yaml.safe_dump({key: value}) for key, value in whole.items()}
        SiteInventory(Path(folder)).write(files)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", _GATHER, folder], cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps(_run(int(sys.argv[1]))))
