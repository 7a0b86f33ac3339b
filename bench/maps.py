"""An edit of one service among 10,000, and the death of a backend, from the agent's side: how soon it is in
the maps, and what memory the agent takes.

One agent's datapath (loader, prober, maps, native XDP on a veth pair) in a process and a network namespace of
its own. Of its 10,000 services 300 go by `nat` to reals of their own, the others by `gue` to one of 200 sets
of backends: 500 tables of rings. Times are from the agent's receipt of a revision to the last write;
milliseconds of `*_cpu_ms` are of the thread that writes. The lock-out questions before a change are asked of
a control plane that answers at once, and of no gateway.

`edit_ms` changes a limit, `ring_edit_ms` a backend of a service with a ring of its own, `shared_ring_edit_ms`
one of a service that shared its ring until then; `added_ms` adds a service. `kill_ms` is from the kill of a
backend (its check: tcp, every 500 ms, two in a row) to the ring that leads elsewhere, `health_cpu_ms` the
agent's part of it, both with a deny list of a million prefixes in place, which `deny_s` says was put there.
`rss_mb` is the agent's whole process with gRPC and what it knows of the revision, `ours_mb` what the datapath
added to it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.xdp_objects import BUILD

NAME = "maps"
GOALS = {
    "edit_ms": ("<=", 10.0),
    "ring_edit_ms": ("<=", 10.0),
    "shared_ring_edit_ms": ("<=", 10.0),
    "added_ms": ("<=", 10.0),
    "rss_mb": ("<=", 120.0),
    "kill_ms": ("<=", 1500.0),
}
ROOT = Path(__file__).resolve().parents[1]


def measure(*, quick: bool = False) -> dict[str, float]:
    """Milliseconds, seconds and MiB. --quick: 1,000 services and a tenth of the prefixes. Needs root."""
    subprocess.run(["make", "-s", "-C", str(BUILD.parent)], check=True)
    # Where an agent has its rings on file, too: in memory.
    with tempfile.TemporaryDirectory(prefix="mpm-", dir="/run") as folder:
        sizes = ["1000", "100000"] if quick else ["10000", "1000000"]
        words = [sys.executable, "-m", "bench.maps_host", folder, *sizes]
        done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, env=os.environ)
    if done.returncode:
        raise RuntimeError(f"the host under measurement ended with {done.returncode}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
