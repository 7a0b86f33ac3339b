"""A small site as a user writes it: an inventory folder on disk, a playbook, and a way to run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_PYTHON = Path("/usr/bin/python3")

# Such a site as the document that control is given.
DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "edge": {
        "tenants": [{"name": "retail"}, {"name": "bank"}],
        "certificates": [{"name": "shop"}, {"name": "bank"}],
        "domains": [
            {"name": "shop.example.com", "tenant": "retail", "certificate": "shop"},
            {"name": "bank.example.com", "tenant": "bank", "certificate": "bank"},
        ],
        "services": [
            {
                "name": "shop",
                "tenant": "retail",
                "domains": ["shop.example.com"],
                "endpoints": [{"group": "shop_backends", "port": 8080}],
            },
            {
                "name": "vault",
                "tenant": "bank",
                "domains": ["bank.example.com"],
                "endpoints": [{"address": f"10.9.0.{n}", "port": 443} for n in range(1, 21)],
            },
        ],
        "routes": [{"domains": ["shop.example.com"], "prefix": "/old", "service": "shop"}],
    },
    "hosts": {
        "control1": {"address": "10.0.0.1", "groups": ["control"]},
        "edge1": {"address": "10.0.0.2", "groups": ["ingress"], "cloud": "aws", "region": "us-east-1"},
        "edge2": {"address": "10.0.0.3", "groups": ["ingress"], "cloud": "gcp", "region": "us-east1"},
        "back1": {"address": "10.0.1.1", "groups": ["shop_backends"], "cloud": "aws"},
        "back2": {"address": "10.0.1.2", "groups": ["shop_backends"], "cloud": "gcp"},
    },
    "origins": {"edge.services[shop]": "edge/shop.yml:3:5"},
}


THREE = ("edge1", "edge2", "edge3")


def three_proxies(document: dict[str, Any], *, soak: str) -> dict[str, Any]:
    """`document` with three proxies, of which edge1 is the first wave of any edit."""
    for number, name in enumerate(THREE, 1):
        document["hosts"][name] = {"address": f"10.0.0.{number + 1}", "groups": ["ingress"], "cloud": "aws"}
    document["edge"]["rollout"] = {"waves": [1, "100%"], "soak": soak}
    return document


_EDGE = {
    "tenants": [{"name": "retail"}],
    "certificates": [{"name": "shop"}],
    "domains": [{"name": "shop.example.com", "tenant": "retail", "certificate": "shop"}],
}
_SHOP = """\
services:
  - name: shop
    tenant: retail
    domains: [shop.example.com]
    endpoints:
      - {address: 10.1.0.11, port: 8080, cloud: aws, region: us-east-1}
      - {address: 10.1.0.12, port: 8080, cloud: gcp, region: us-east1}
  - name: shop-v2
    tenant: retail
    endpoints:
      - {address: 10.1.0.11, port: 8090, cloud: aws, region: us-east-1}
"""
_ROUTES = """\
routes:
  - {domains: [shop.example.com], prefix: /api, split: {shop: 95, shop-v2: 5}}
"""
_PLAY = """\
- name: Bring the edge live
  hosts: control
  gather_facts: false
  tasks:
    - name: Bring the inventory live
      marchproxy.edge.fleet:
        socket: "{{ control_socket }}"
        reason: "{{ reason | default('a test') }}"
        timeout: 20
      run_once: true
      register: fleet_result
      ignore_errors: "{{ keep_result is defined }}"
    - name: Keep the result
      ansible.builtin.copy:
        content: "{{ fleet_result | to_json }}"
        dest: "{{ keep_result }}"
        mode: "0644"
      check_mode: false
      diff: false
      no_log: true
      run_once: true
      when: keep_result is defined
"""


@dataclass
class Played:
    """One finished run."""

    code: int
    output: str

    def __str__(self) -> str:
        return self.output


class SmallSite:
    """control1 (local connection), edge1 and edge2; files under `folder` may be edited between runs."""

    def __init__(self, folder: Path, socket: Path) -> None:
        self.folder = folder
        self.inventory = folder / "inventory"
        self.socket = socket
        self.result_file = folder / "result.json"
        (self.inventory / "edge").mkdir(parents=True)
        self.write("inventory/hosts.yml", yaml.safe_dump(self.hosts()))
        self.write("inventory/edge.yml", "plugin: marchproxy.edge.edge\n")
        self.write("inventory/edge/base.yml", yaml.safe_dump(_EDGE))
        self.write("inventory/edge/shop.yml", _SHOP)
        self.write("inventory/edge/routes.yml", _ROUTES)
        self.write("play.yml", _PLAY)

    def hosts(self) -> dict[str, Any]:
        python = SYSTEM_PYTHON if SYSTEM_PYTHON.exists() else Path(sys.executable)
        local = {"ansible_connection": "local", "ansible_python_interpreter": str(python)}
        return {
            "all": {
                "vars": {"control_socket": str(self.socket)},
                "children": {
                    "control": {"hosts": {"control1": {"ansible_host": "10.0.0.1", **local}}},
                    "ingress": {
                        "hosts": {
                            "edge1": {"ansible_host": "10.0.0.2", "cloud": "aws", "region": "us-east-1"},
                            "edge2": {"ansible_host": "10.0.0.3", "cloud": "gcp", "region": "us-east1"},
                        }
                    },
                },
            }
        }

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file; it must be there."""
        text = (self.folder / name).read_text()
        assert old in text, f"{old!r} is not in {name}"
        self.write(name, text.replace(old, new))

    def play(self, *arguments: str, playbook: str = "play.yml") -> Played:
        """ansible-playbook as a user runs it from the root."""
        command = [
            str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.inventory),
            str(self.folder / playbook), *arguments,
        ]  # fmt: skip
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "ansible-local"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "ansible-remote"),
        }
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False
        )
        return Played(done.returncode, done.stdout + done.stderr)

    def result(self, *arguments: str) -> dict[str, Any]:
        """What the fleet task returned."""
        self.result_file.unlink(missing_ok=True)
        played = self.play("-e", f"keep_result={self.result_file}", *arguments)
        assert self.result_file.exists(), played.output
        found: dict[str, Any] = json.loads(self.result_file.read_text())
        return found
