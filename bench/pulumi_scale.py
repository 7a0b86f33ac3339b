"""How long the cloud programs take as a site grows: against a recorder, and with the real engine.

The engine works on simulated clouds whose hosts exist on paper. It starts a Python program per run and a
provider per region, so that even a run that changes nothing has its price.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.support.cloud_sites import site_of
from tests.support.stack_output import document, host

NAME = "pulumi_scale"
GOALS = {"preview_mock_s_200": ("<=", 5.0), "inventory_s_1000": ("<=", 3.0)}
ROOT = Path(__file__).resolve().parent.parent
SIZES, QUICK_SIZES = (10, 50, 200), (10,)
PYTHON = ROOT / "pulumi" / ".venv" / "bin" / "python"
# What a real account of this size has asked its clouds for.
QUOTAS = {"Elastic IPs": 1000, "vCPUs": 10_000, "cores": 10_000, "CPUS": 10_000, "STATIC_ADDRESSES": 1000}
# In the environment of pulumi/, with SDKs already loaded: what a preview costs beyond starting Python.
MOCK = """
import sys, time
sys.path[:0] = [{root!r}, {root!r} + "/pulumi"]
from edge_iac.program import run
from tests.unit.pulumi.support.graph import AUTHORITY, run_program
for site in sys.argv[1:]:
    began = time.perf_counter()
    run_program(run, stack="big", config=dict(site=site, hostCaKey=AUTHORITY))
print(time.perf_counter() - began)
"""


def measure(*, quick: bool = False) -> dict[str, float]:
    """Seconds; `script/pulumi --prepare` comes first and is not counted."""
    subprocess.run([ROOT / "script" / "pulumi", "--prepare"], check=True, stdout=subprocess.DEVNULL)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="mpb-") as folder:
        place = Path(folder)
        figures["preview_mock_s_200"] = _mock(place)
        for hosts in QUICK_SIZES if quick else SIZES:
            figures |= _engine(place / str(hosts), hosts)
        figures["inventory_s_1000"] = _inventory(place)
    return figures


def _mock(place: Path) -> float:
    files = []
    for hosts in (4, 200):
        # A site is called as its file.
        file = place / f"mock{hosts}" / "big.yaml"
        file.parent.mkdir()
        file.write_text(site_of(hosts))
        files.append(file)
    done = _run([PYTHON, "-c", MOCK.format(root=str(ROOT)), *files], {"EDGE_SKIP_CREDENTIALS": "1"})
    return float(done.splitlines()[-1])


def _engine(place: Path, hosts: int) -> dict[str, float]:
    place.mkdir()
    (place / "big.yaml").write_text(site_of(hosts))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / "ca"], check=True)
    environment = {"MARCHPROXY_SIMULATED": str(place), "SIMCLOUD_QUOTAS": json.dumps(QUOTAS)}
    _pulumi(environment, "stack", "init", "big")
    _pulumi(environment, "config", "set", "edge:site", str(place / "big.yaml"))
    _pulumi(environment, "config", "set", "--secret", "edge:hostCaKey", told=(place / "ca").read_text())
    words = ("--yes", "--skip-preview", "--suppress-outputs", "--suppress-progress", "--stack", "big")
    figures = {
        f"up_s_{hosts}": _pulumi(environment, "up", *words),
        f"noop_s_{hosts}": _pulumi(environment, "up", *words, "--expect-no-changes"),
    }
    # Addresses outlive their hosts: whoever wants them gone says so.
    _pulumi(environment, "state", "unprotect", "--all", "--yes", "--stack", "big")
    return figures | {f"destroy_s_{hosts}": _pulumi(environment, "destroy", *words)}


def _pulumi(environment: Mapping[str, str], *words: str, told: str = "") -> float:
    began = time.perf_counter()
    _run([ROOT / "script" / "pulumi", "--simulated", *words, "--non-interactive"], environment, told)
    return time.perf_counter() - began


def _inventory(place: Path) -> float:
    """`ansible-inventory --graph`: all that a playbook waits for before it starts."""
    (place / "hosts.json").write_text(json.dumps(document(*(host(number) for number in range(1000)))))
    file = place / "stack.yml"
    file.write_text("plugin: marchproxy.edge.pulumi_stack\nsource: file\npath: hosts.json\n")
    began = time.perf_counter()
    _run(
        [Path(sys.executable).parent / "ansible-inventory", "-i", file, "--graph"],
        {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "XDG_CACHE_HOME": str(place / "cache")},
    )
    return time.perf_counter() - began


def _run(command: list[str | Path], environment: Mapping[str, str], told: str = "") -> str:
    surroundings = os.environ | environment
    done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, input=told)
    if done.returncode:
        said = (done.stdout + done.stderr)[-3000:]
        raise RuntimeError(f"{' '.join(map(str, command))[:300]} failed:\n{said}")
    return done.stdout
