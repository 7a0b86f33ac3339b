"""The inventories of lab and molecule say in Jinja what lab/place.py says in Python."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from lab import place

ROOT = Path(__file__).resolve().parent.parent.parent
MESSAGE = "{{ [ansible_podman_prefix ~ inventory_hostname, address, cloud | default('')] | to_json }}"


@pytest.mark.parametrize("inventory", ["inventories/lab/hosts.yml", "molecule/resources/inventory/hosts.yml"])
def test_hosts_have_the_same_names_and_addresses(inventory: str) -> None:
    said = subprocess.run(
        [
            ROOT / ".venv/bin/ansible", "lab", "--inventory", inventory, "--one-line",
            "--module-name", "ansible.builtin.debug",
            "--args", f"msg={MESSAGE}",
        ],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    in_jinja = {}
    for host, answer in re.findall(r"^(\S+) \| SUCCESS => (\{.*\})$", said, re.M):
        message = json.loads(answer)["msg"]
        in_jinja[host] = tuple(json.loads(message) if isinstance(message, str) else message)
    in_python = {
        host.name: (host.container, host.address, host.cloud or "")
        for host in place.load(ROOT / inventory).hosts
    }
    assert in_jinja == in_python
    assert in_python


def test_lab_and_molecule_share_no_network() -> None:
    labs = [
        place.load(ROOT / folder / "hosts.yml")
        for folder in ("inventories/lab", "molecule/resources/inventory")
    ]
    subnets = [{network.subnet for network in here.networks} for here in labs]
    assert subnets[0].isdisjoint(subnets[1])
