"""Which cards `--check` says would be tried before the datapath comes on them."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ANSIBLE = Path(sys.executable).with_name("ansible")


@pytest.mark.parametrize(
    ("record", "preflight", "tried"),
    [
        (None, True, ["eth0", "eth1"]),
        ("5f3a 6.1.0-28-amd64 native eth0", True, ["eth1"]),
        (None, False, []),
    ],
)
def test_a_card_that_carried_no_confirmed_program_is_named(
    record: str | None, preflight: bool, tried: list[str]
) -> None:
    known = {} if record is None else {"content": base64.b64encode(record.encode()).decode()}
    given = {"xdp_interfaces": ["eth0", "eth1"], "xdp_preflight": preflight, "xdp_known": known}
    found = subprocess.run(
        [ANSIBLE, "localhost", "-i", "localhost,", "-c", "local", "-m", "ansible.builtin.debug",
         "-a", "msg=tried:{{ xdp_to_try | join(',') }}:",
         "-e", f"@{ROOT / 'roles' / 'xdp' / 'vars' / 'main.yml'}", "-e", json.dumps(given)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    assert f"tried:{','.join(tried)}:" in found
