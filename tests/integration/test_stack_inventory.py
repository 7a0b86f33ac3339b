"""A Pulumi stack as inventory: what Ansible sees of it, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.stack_output import SECRET, document, host, plain

ROOT = Path(__file__).resolve().parents[2]


class Site:
    """A folder with a stack's inventory in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"

    def says(self, found: Any, **options: Any) -> Site:
        """The stack's output, saved; ``options`` are those of the plugin."""
        (self.folder / "hosts.json").write_text(json.dumps(found))
        return self.asks(source="file", path="hosts.json", **options)

    def asks(self, **options: Any) -> Site:
        (self.folder / "stack.yml").write_text(
            yaml.safe_dump({"plugin": "marchproxy.edge.pulumi_stack", **options}, sort_keys=False)
        )
        return self

    def list(self, **environment: str) -> dict[str, Any]:
        done = self.run("--list", **environment)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def refusal(self, **environment: str) -> str:
        done = self.run("--list", **environment)
        assert done.returncode != 0, f"the inventory came without its stack: {done.stdout}"
        return " ".join(done.stderr.split())

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).parent / "ansible-inventory", "-i", self.folder / "stack.yml", *words],
            env=os.environ
            | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "XDG_CACHE_HOME": str(self.cache)}
            | environment,
            cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_hosts_have_groups_variables_and_checked_keys(site: Site) -> None:
    """What the stack says is in the inventory; ssh goes on checking host keys, by the site's authority."""
    found = site.says(document(), keyed_groups=[{"key": "region", "prefix": "region"}]).list()
    names = ["edge-aws-us-east-1-1", "edge-aws-us-east-1-2"]
    for group in ("ingress", "l4", "aws", "region_us_east_1"):
        assert found[group]["hosts"] == names, group
    seen = plain(found["_meta"]["hostvars"][names[0]])
    assert (seen["address"], seen["ansible_host"]) == ("198.18.0.2", "198.18.0.2")
    assert (seen["cloud"], seen["zone"], seen["ansible_user"]) == ("aws", "us-east-1a", "admin")
    assert seen["edge_nic"]["driver"] == "ena" and seen["edge_site"] == "prod"
    assert "interconnect" not in seen
    [known] = (site.cache / "marchproxy" / "known_hosts").glob("prod-*")
    assert known.read_text() == "@cert-authority * ssh-ed25519 AAAAKEY site\n"
    assert f"UserKnownHostsFile={known}" in seen["ansible_ssh_extra_args"]
    assert f"HostKeyAlias={names[0]}" in seen["ansible_ssh_extra_args"]
    assert "StrictHostKeyChecking=yes" in seen["ansible_ssh_extra_args"]


_ROLE_NIC = f"""
- hosts: edge-aws-us-east-1-1
  gather_facts: false
  connection: local
  vars_files: [{ROOT}/roles/nic/defaults/main.yml, {ROOT}/roles/nic/vars/main.yml]
  tasks:
    - ansible.builtin.copy:
        dest: "{{{{ out }}}}"
        content: "{{{{ [nic_contract, nic_interfaces] | to_json }}}}"
"""


def test_the_card_that_the_stack_promises_is_what_role_nic_compares_and_sets(site: Site) -> None:
    """Nothing typed twice: driver and queues are compared, MTU and queues set as native XDP needs them."""
    site.says(document())
    (site.folder / "play.yml").write_text(_ROLE_NIC)
    seen = []
    for asked in ("xdp_interfaces=[]", "xdp_interfaces=[ens5]", "xdp_interfaces=[ens5] xdp_mode=skb"):
        variables = [word for one in asked.split() for word in ("-e", "{" + one.replace("=", ": ") + "}")]
        out = site.folder / "out.json"
        words = [Path(sys.executable).parent / "ansible-playbook", "-i", site.folder / "stack.yml"]
        subprocess.run(
            [*words, site.folder / "play.yml", "-e", f"out={out}", *variables],
            env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "XDG_CACHE_HOME": str(site.cache)},
            cwd=ROOT, check=True, capture_output=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        seen.append(json.loads(out.read_text()))
    promised = [{"driver": "ena", "queues": 8}]
    as_needed = [{"name": "ens5", "mtu": 9001, "channels": {"combined": "4"}}]
    assert seen == [[promised, []], [promised, as_needed], [promised, []]]


def test_a_host_shown_alone_and_the_graph(site: Site) -> None:
    site.says(document(), connect_by="private_address")
    assert json.loads(site.run("--host", "edge-aws-us-east-1-2").stdout)["ansible_host"] == "10.201.0.3"
    assert "|--edge-aws-us-east-1-1" in site.run("--graph").stdout


def _state(folder: Path, outputs: dict[str, Any]) -> Path:
    file = folder / "state" / ".pulumi" / "stacks" / "edge" / "prod.json"
    file.parent.mkdir(parents=True)
    resources = [{"type": "pulumi:pulumi:Stack", "urn": "urn:pulumi:prod", "outputs": outputs}]
    file.write_text(
        json.dumps({"version": 3, "checkpoint": {"stack": "prod", "latest": {"resources": resources}}})
    )
    return file


def test_the_state_of_a_local_backend_needs_no_cli(site: Site) -> None:
    _state(site.folder, {"edge_inventory": document()})
    site.asks(source="state", stack="prod", path="state")
    assert site.list(PATH="/nowhere")["ingress"]["hosts"]


def test_a_locked_stack_is_not_read(site: Site) -> None:
    """While an update runs, and after one was killed, nobody knows which hosts there are."""
    _state(site.folder, {"edge_inventory": document()})
    locks = site.folder / "state" / ".pulumi" / "locks" / "organization" / "edge" / "prod"
    locks.mkdir(parents=True)
    (locks / "0.json").write_text("{}")
    said = site.asks(source="state", stack="prod", path="state").refusal()
    assert "locked" in said and "pulumi cancel -s prod" in said


def _cut_short(folder: Path) -> None:
    file = _state(folder, {"edge_inventory": document()})
    file.write_text(file.read_text()[:100])


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: None, "has no state; pulumi up -s prod makes it"),
        (lambda folder: _state(folder, {}), "it has not been made yet, or was destroyed"),
        (_cut_short, "cannot read"),
        (lambda folder: _state(folder, {"edge_inventory": SECRET}), "edge_inventory is a secret"),
    ],
    ids=["missing", "not made", "cut short", "secret"],
)
def test_a_stack_that_cannot_be_read_is_an_error(
    site: Site, prepare: Callable[[Path], None], words: str
) -> None:
    prepare(site.folder)
    assert words in site.asks(source="state", stack="prod", path="state").refusal()


def test_what_is_no_inventory_of_ours_is_refused(site: Site) -> None:
    """Never an inventory with fewer hosts; tests/unit/modules has every sentence."""
    said = site.says(document(host(1, user="[secret]"))).refusal()
    assert "edge_inventory.hosts[0].user is a secret" in said
    assert "stack.yml" in said


def test_a_missing_cli_says_how_to_get_one(site: Site) -> None:
    said = site.asks(stack="prod").refusal(PATH="/nowhere", HOME=str(site.folder))
    assert "there is no command pulumi" in said and "source: state" in said


def test_templates_in_names_stay_text(site: Site) -> None:
    """Labels come from outside: they are data, not Jinja."""
    site.says(document(host(1, labels={"note": "{{ lookup('pipe', 'touch x') }}"})))
    seen = plain(site.list()["_meta"]["hostvars"]["edge-aws-us-east-1-1"])
    assert seen["edge_labels"]["note"].startswith("{{ lookup")


def test_a_cache_is_kept_where_asked_for(site: Site) -> None:
    """With a cache the second run does not ask; what the cache holds is checked like all else."""
    options = {
        "cache": True, "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(site.folder / "kept"),
    }  # fmt: skip
    site.says(document(), **options)
    assert site.list()["ingress"]["hosts"]
    (site.folder / "hosts.json").unlink()
    assert site.list()["ingress"]["hosts"]


def test_a_thousand_hosts(site: Site) -> None:
    """All of them arrive; script/bench pulumi_scale says how fast."""
    found = site.says(document(*(host(number) for number in range(1000)))).list()
    assert len(found["ingress"]["hosts"]) == 1000


def test_what_joins_regions_goes_to_the_hosts_and_route_tables_to_control_only(site: Site) -> None:
    networks = [{"cloud": "aws", "region": "us-east-1", "ranges": ["10.201.0.0/22"], "gateways": ["a"]}]
    joined = {"type": "wireguard", "networks": networks, "tables": [{"cloud": "aws", "tables": ["rtb-1"]}]}
    stack = document(host(1), host(2, groups=["control"]), interconnect=joined)
    seen = plain(site.says(stack).list()["_meta"]["hostvars"])
    edge, control = seen["edge-aws-us-east-1-1"], seen["edge-aws-us-east-1-2"]
    assert edge["interconnect"] == {"type": "wireguard", "routes": "cloud", "networks": networks}
    assert control["interconnect_tables"] == joined["tables"] and "interconnect_tables" not in edge
