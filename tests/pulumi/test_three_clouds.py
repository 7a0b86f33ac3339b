"""The cloud programs of pulumi/, unmodified, in all three clouds at once."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.pulumi.conftest import ROOT, Stack, made_in
from tests.support.cloud_sites import site_of


@pytest.fixture
def site(cli: str, tmp_path: Path) -> Iterator[Stack]:
    """A stack of the real program, for a site of control and three edge hosts."""
    stack = made_in(cli, tmp_path, ROOT / "pulumi")
    stack.environment |= {"EDGE_SKIP_CREDENTIALS": "1"}
    write(stack, 4)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "ca"], check=True)
    stack.must("config", "set", "edge:site", str(tmp_path / "tested.yaml"))
    stack.must("config", "set", "--secret", "edge:hostCaKey", told=(tmp_path / "ca").read_text())
    yield stack


def write(stack: Stack, hosts: int) -> None:
    (stack.place / "tested.yaml").write_text(site_of(hosts, name="tested", interconnect="wireguard"))


def test_a_site_is_made_grows_and_goes(site: Stack) -> None:
    """One site file, three clouds: made, unchanged, refreshed, grown by a host, destroyed to nothing."""
    site.up()
    hosts = site.inventory()["hosts"]
    assert Counter(host["cloud"] for host in hosts) == {"aws": 2, "gcp": 1, "azure": 1}
    edges = {host["cloud"]: host["private_address"] for host in hosts if "ingress" in host["groups"]}
    # Each cloud keeps other addresses of a subnet; in AWS the NAT gateway may have taken the first.
    assert edges["aws"] in ("10.101.0.4", "10.101.0.5")
    assert (edges["gcp"], edges["azure"]) == ("10.102.0.2", "10.103.0.4")
    joined = site.inventory()["interconnect"]
    assert [one["gateways"] for one in joined["networks"]] == [
        [h["name"]] for h in hosts if "ingress" in h["groups"]
    ]
    # In AWS somebody moves routes when a gateway dies; the others do it themselves, by a balancer.
    [tables] = joined["tables"]
    assert (tables["cloud"], tables["ranges"]) == ("aws", ["10.102.0.0/20", "10.103.0.0/20"])
    routes = [record for record in site.held() if record["token"] == "aws:ec2/route:Route"]
    moved = [record for record in routes if record["inputs"].get("networkInterfaceId")]
    assert len(moved) == 2 * len(tables["tables"])
    site.must("up", "--yes", "--expect-no-changes")
    site.must("refresh", "--yes", "--expect-no-changes")
    write(site, 5)
    site.up()
    grown = site.inventory()["hosts"]
    assert len(grown) == 5
    assert all(host in grown for host in hosts), "nobody else moved"
    key = (site.place / "ca").read_text().splitlines()[1]
    assert key not in site.must("stack", "export")
    assert all(key not in file.read_text() for file in (site.place / "state").rglob("*.json"))
    # Addresses outlive their hosts: they are protected, and given up by name only.
    refused = site.run("destroy", "--yes")
    assert refused.returncode != 0 and "protect" in refused.stdout
    site.must("state", "unprotect", "--all", "--yes")
    site.must("destroy", "--yes")
    kept = Counter(record["token"].rpartition(":")[2] for record in site.held())
    assert not kept.keys() - {"Eip", "Address", "PublicIPAddress", "ResourceGroup"}, kept


def test_an_inventory_by_the_real_cli(site: Stack, tmp_path: Path) -> None:
    """The plugin asks the CLI: hosts once the stack is made; before, and without a passphrase, a sentence."""
    inventory = tmp_path / "stack.yml"
    asked = {"stack": "tested", "project": str(site.place / "project"), "command": [site.cli]}
    inventory.write_text(yaml.safe_dump({"plugin": "marchproxy.edge.pulumi_stack", **asked}, sort_keys=False))
    before = _ansible(site, inventory)
    assert before.returncode != 0
    assert "stack tested has no output edge_inventory" in " ".join(before.stderr.split())
    site.up()
    found = json.loads(_ansible(site, inventory).stdout)
    assert len(found["ingress"]["hosts"]) == 3


def _ansible(site: Stack, inventory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / ".venv" / "bin" / "ansible-inventory", "-i", inventory, "--list"],
        env={**site.surroundings(()), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
