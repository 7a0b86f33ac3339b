"""A site that is as it should be: what does running site.yml again cost, and how long until one edit is live?

Runs on this checkout's lab, which it brings up if need be. ``seconds_per_host`` is the second run over the
number of hosts. ``route_edit_s`` is ``playbooks/routes.yml`` with one changed split, acknowledged by every
proxy, less what Ansible itself needs to start, read the same inventory and end.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "site_runtime"
GOALS = {"changed": ("<=", 0.0), "seconds_per_host": ("<=", 5.0), "route_edit_s": ("<=", 3.0)}
ROOT = Path(__file__).resolve().parent.parent
RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.M)
OVERLAY = ROOT / "inventories/lab/edge/overlays/bench-site-runtime.yml"
# Shares of the second version of /api, one after another: each is a change against the one before.
SHARES = (7, 9, 11)
NOTHING = """
- name: Nothing
  hosts: control
  gather_facts: false
  tasks:
    - name: Say so
      ansible.builtin.debug:
        msg: "{{ edge.services | length }}"
"""


def measure(*, quick: bool = False) -> dict[str, float]:
    """Figures of the second run and of an edit; RuntimeError with Ansible's words if a run fails."""
    _command([str(ROOT / "script/lab"), "up", "--no-traffic"])
    began = time.perf_counter()
    recap = RECAP.findall(_playbook("site.yml"))
    seconds = time.perf_counter() - began
    own = statistics.median(_start_of_ansible() for _ in range(1 if quick else 3))
    edit = statistics.median(_edit(shares=SHARES[:1] if quick else SHARES))
    return {
        "changed": float(sum(int(changed) for _, changed, _, _ in recap)),
        "hosts": float(len(recap)),
        "site_s": seconds,
        "seconds_per_host": seconds / len(recap),
        "ansible_start_s": own,
        "route_edit_s": max(0.0, edit - own),
    }


def _start_of_ansible() -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".yml", dir=ROOT / ".lab") as playbook:
        playbook.write(NOTHING)
        playbook.flush()
        began = time.perf_counter()
        _playbook(playbook.name)
        return time.perf_counter() - began


def _edit(shares: tuple[int, ...]) -> list[float]:
    times = []
    with _overlay():
        for share in shares:
            OVERLAY.write_text(
                f"routes:\n  - name: shop-api\n    split: {{shop: {100 - share}, shop-v2: {share}}}\n"
            )
            began = time.perf_counter()
            recap = RECAP.findall(_playbook("playbooks/routes.yml"))
            times.append(time.perf_counter() - began)
            if sum(int(changed) for _, changed, _, _ in recap) != 1:
                raise RuntimeError(f"an edit of one route changed {recap}")
    _playbook("playbooks/routes.yml")
    return times


@contextmanager
def _overlay() -> Iterator[None]:
    OVERLAY.parent.mkdir(exist_ok=True)
    try:
        yield
    finally:
        OVERLAY.unlink(missing_ok=True)
        if not any(OVERLAY.parent.iterdir()):
            OVERLAY.parent.rmdir()


def _playbook(playbook: str) -> str:
    return _command([str(ROOT / ".venv/bin/ansible-playbook"), playbook])


def _command(argv: list[str]) -> str:
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} failed ({done.returncode}):\n{done.stdout[-4000:]}")
    return done.stdout
