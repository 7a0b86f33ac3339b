"""The site's balance seed: made once, never again, and taken from where it still is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DOMAIN = "shop.example"
DERIVED = str(int(hashlib.sha256(DOMAIN.encode()).hexdigest()[:8], 16))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


class Site:
    """One control host and two edges, each a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept, self.serve = folder / "control" / "balance.seed", folder / "serve.yml"
        for edge in ("edge1", "edge2"):
            (folder / edge).mkdir()
        (folder / "ansible.cfg").touch()
        hosts = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        play = {
            "hosts": "all",
            "gather_facts": False,
            "tasks": [
                {"include_vars": {"file": str(ROOT / "roles/xds_agent/vars/main.yml")}},
                {"include_tasks": str(ROOT / "roles/xds_agent/tasks/balance_seed.yml")},
                {
                    "copy": {
                        "dest": str(folder / "{{ inventory_hostname }}.found"),
                        "content": "{{ xds_agent_seed }}",
                    }
                },
            ],
        }
        (folder / "play.yml").write_text(yaml.safe_dump([play]))
        inventory = {
            "all": {"vars": hosts},
            "control": {"hosts": {"control1": {}}},
            "l4": {"hosts": {"edge1": {"xdp_interfaces": ["eth0"]}, "edge2": {"xdp_interfaces": ["eth0"]}}},
        }
        (folder / "hosts.yml").write_text(yaml.safe_dump(inventory))

    def run(self, *options: str) -> str:
        """What every host is told."""
        names = {
            "xds_agent_seed_kept": str(self.kept),
            "xds_agent_seed_at_edge": str(self.folder / "{{ inventory_hostname }}" / "balance.seed"),
            "xds_agent_serve_config": str(self.serve),
            "xds_agent_owner": subprocess.check_output(["id", "-un"], text=True).strip(),
            "xds_agent_trust_domain": DOMAIN,
        }
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.folder / "hosts.yml"),
             str(self.folder / "play.yml"), "-e", json.dumps(names), *options],
            env=os.environ | {"ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        found = {path.read_text() for path in self.folder.glob("*.found")}
        assert len(found) == 1, found
        (seed,) = found
        assert not seed or seed not in done.stdout
        return seed


def test_a_new_site_gets_a_secret_that_stays(site: Site) -> None:
    seed = site.run()
    assert seed == site.kept.read_text()
    assert 0 <= int(seed) < 1 << 32
    assert seed != DERIVED
    assert site.kept.stat().st_mode & 0o777 == 0o600
    site.serve.touch()
    assert site.run() == seed


def test_an_older_site_keeps_what_its_edges_balance_by(site: Site) -> None:
    """No connection moves with the upgrade."""
    site.serve.touch()
    assert site.run() == DERIVED


def test_a_control_host_made_anew_takes_it_from_an_edge(site: Site) -> None:
    (site.folder / "edge2" / "balance.seed").write_text("12345678")
    assert site.run() == "12345678"
    assert site.kept.read_text() == "12345678"


def test_a_check_makes_nothing(site: Site) -> None:
    for name in ("control1", "edge1", "edge2"):
        (site.folder / f"{name}.found").touch()
    assert site.run("--check") == ""
    assert not site.kept.exists()
