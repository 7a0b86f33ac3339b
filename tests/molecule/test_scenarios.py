"""Every molecule scenario, as ``molecule test`` runs it from the root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCENARIOS = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))

# A host's task, a line of pytest's that verify.yml shows, molecule's own.
FAILED = re.compile(r'fatal: |failed: \[|"E  |"FAILED |^ERROR ')

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1800)]


def test_there_is_a_default_scenario() -> None:
    assert "default" in SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario: str) -> None:
    if os.getuid() != 0:
        pytest.skip("molecule's hosts are podman containers of root: run as root")
    if not shutil.which("podman"):
        pytest.skip("podman is not installed: script/test installs it")
    # Molecule finds Ansible through PATH.
    path = f"{ROOT / '.venv/bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    done = subprocess.run(
        ["molecule", "test", "--scenario-name", scenario],
        cwd=ROOT,
        env=os.environ | {"PATH": path, "ANSIBLE_NOCOLOR": "1", "NO_COLOR": "1", "MOLECULE_NO_LOG": "false"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        # Once more at the end, where it is seen: who reads a report of CI may have no more than that.
        why = "\n".join(line.strip()[:1000] for line in done.stdout.splitlines() if FAILED.search(line))
        said = done.stdout[-20000:]
        pytest.fail(
            f"molecule test -s {scenario} gave {done.returncode}\n{said}\n{why[-6000:]}", pytrace=False
        )
