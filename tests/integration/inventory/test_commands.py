"""The inventory through Ansible's own commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.inventory.planted import SHOP
from tests.support.site_inventory import ROOT, SiteInventory
from xds_agent.model import load_site


def _ansible(command: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    executable = Path(sys.executable).with_name(command)
    return subprocess.run(
        [executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def _validate(inventory: SiteInventory, program: str) -> subprocess.CompletedProcess[str]:
    """As from a folder of somebody's own; `program` runs the command."""
    environment = {key: value for key, value in os.environ.items() if key != "ANSIBLE_CONFIG"}
    return subprocess.run(
        [sys.executable, "-c", program, "validate", str(inventory.folder)],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_ansible_inventory_puts_the_edge_on_control_only(inventory: SiteInventory) -> None:
    inventory.write({"edge/shop.yml": SHOP})
    done = _ansible("ansible-inventory", "-i", str(inventory.folder), "--list")
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    hostvars = json.loads(done.stdout)["_meta"]["hostvars"]
    assert {host for host, variables in hostvars.items() if "edge" in variables} == {"control1"}
    assert hostvars["control1"]["edge"]["services"][0]["name"] == "shop"


def test_the_plugin_needs_no_pydantic(inventory: SiteInventory) -> None:
    inventory.write({"edge/shop.yml": SHOP})
    program = (
        "import sys; sys.modules['pydantic'] = None\n"
        "from ansible.plugins.loader import init_plugin_loader\n"
        f"init_plugin_loader([{str(ROOT / '.collections')!r}])\n"
        "from ansible_collections.marchproxy.edge.plugins.module_utils.site_document import "
        "build_from_inventory\n"
        f"print(len(build_from_inventory({str(inventory.folder)!r})['edge']['services']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "1", done.stderr


def test_variables_beside_it_are_those_of_the_folder_it_runs_in(
    inventory: SiteInventory, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each time, not of the first one in this process: Ansible remembers where "." led."""
    inventory.write({"edge/shop.yml": SHOP})
    beside, other = tmp_path_factory.mktemp("beside"), tmp_path_factory.mktemp("other")
    (beside / "group_vars").mkdir(parents=True)
    (beside / "group_vars/control.yml").write_text("a: [")
    for folder, read in ((beside, False), (other, True)):
        monkeypatch.chdir(folder)
        problems = inventory.report()
        assert (problems == []) is read, problems
    monkeypatch.chdir(beside)
    assert "Ansible cannot read the inventory" in inventory.report()[0]


def test_a_folder_that_was_removed_is_one_sentence(inventory: SiteInventory, tmp_path: Path) -> None:
    inventory.write({"edge/shop.yml": SHOP})
    gone = tmp_path / "gone"
    gone.mkdir()
    program = (
        f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})\n"
        "from xds_agent.cli import main\nmain()\n"
    )
    done = _validate(inventory, program)
    assert done.returncode == 1
    assert "the folder you are in was removed" in done.stderr, done.stderr


def test_hosts_that_cannot_be_read_are_an_error_in_a_folder_without_ansible_cfg_too(
    inventory: SiteInventory,
) -> None:
    """Ansible alone warns there, and has fewer hosts."""
    inventory.write({"edge/shop.yml": SHOP, "more.yml": "all: {children: [\n"})
    done = _validate(inventory, "from xds_agent.cli import main\nmain()\n")
    assert done.returncode == 1
    assert "failed to parse inventory source" in done.stderr and "more.yml" in done.stderr, done.stderr


@pytest.mark.parametrize("site", ["lab", "example"])
def test_the_sites_of_the_repository_are_right(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lab import partners

    partners.ensure(ROOT / ".lab" / "partners")
    monkeypatch.chdir(ROOT)
    inventory = SiteInventory.__new__(SiteInventory)
    inventory.folder = ROOT / "inventories" / site
    assert inventory.report() == []


def test_the_lab_serves_what_its_table_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from lab import partners

    partners.ensure(ROOT / ".lab" / "partners")
    monkeypatch.chdir(ROOT)
    inventory = SiteInventory.__new__(SiteInventory)
    inventory.folder = ROOT / "inventories" / "lab"
    site = inventory.load()
    assert site.not_acted_on == ()
    for service in site.edge.services:
        clouds = [endpoint.cloud for endpoint in site.endpoints_of(service)]
        assert sorted(clouds) == ["aws", "aws", "azure", "gcp"], service.name
        assert service.steering.order == ("aws", "gcp", "azure")


def test_the_example_passes_a_syntax_check() -> None:
    done = _ansible("ansible-playbook", "-i", "inventories/example", "site.yml", "--syntax-check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_inventory_sources_with_an_edge_each(inventory: SiteInventory, tmp_path: Path) -> None:
    inventory.write({"edge/shop.yml": SHOP})
    second = SiteInventory(tmp_path / "second")
    (second.folder / "hosts.yml").unlink()
    second.write({"edge/more.yml": "services:\n  - {name: shop}\n  - {name: chat, endpoints: []}\n"})
    done = _ansible(
        "ansible-inventory", "-i", str(tmp_path / "second"), "-i", str(inventory.folder / "hosts.yml"),
        "-i", str(inventory.folder / "edge.yml"), "--host", "control1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    variables = json.loads(done.stdout)
    assert [service["name"] for service in variables["edge"]["services"]] == ["chat", "shop"]
    [problem] = variables["edge_gathered"]["problems"]
    assert problem["message"].startswith("'shop' is already at ")
    assert problem["message"].endswith("second/edge/more.yml:2")


def test_an_action_plugin_gathers_the_same_document(inventory: SiteInventory) -> None:
    """From task_vars, under --limit, with the host facts of hosts that are left out."""
    inventory.write({"edge/shop.yml": SHOP, "group_vars/control.yml": "unused: 1\n"})
    plugins = inventory.folder / "action_plugins"
    plugins.mkdir()
    (plugins / "gather_site.py").write_text(
        "import json\n"
        "from ansible.plugins.action import ActionBase\n"
        "from ansible_collections.marchproxy.edge.plugins.module_utils.site_document import site_document\n"
        "class ActionModule(ActionBase):\n"
        "    def run(self, tmp=None, task_vars=None):\n"
        "        super().run(tmp, task_vars)\n"
        f"        with open({str(inventory.folder / 'document.out')!r}, 'w') as out:\n"
        "            json.dump(site_document(task_vars, self._templar), out)\n"
        "        return {'changed': False}\n"
    )
    (inventory.folder / "library").mkdir()
    (inventory.folder / "library" / "gather_site.py").write_text("")
    (inventory.folder / "play.yml").write_text(
        "- hosts: control\n  gather_facts: false\n  tasks: [{gather_site: {}}]\n"
    )
    # The play stands beside the inventory, not in it.
    site = inventory.folder / "site"
    site.mkdir()
    for name in ("hosts.yml", "edge.yml", "edge", "group_vars"):
        (inventory.folder / name).rename(site / name)
    play = str(inventory.folder / "play.yml")
    done = _ansible("ansible-playbook", "-i", str(site), play, "--limit", "control1")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((inventory.folder / "document.out").read_text())
    loaded = load_site(document)
    assert len(loaded.endpoints_of(loaded.edge.services[0])) == 2
    inventory.folder = site
    ours = inventory.document()
    assert (document["edge"], document["hosts"]) == (ours["edge"], ours["hosts"])
