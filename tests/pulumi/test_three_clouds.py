"""The cloud programs of pulumi/, unmodified, in all three clouds at once."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pulumi.conftest import ROOT, Stack, made_in, site_in
from tests.support.cloud_sites import site_of

# A key file's first line of base64 is the same in all of type ed25519; the fourth holds secret bytes.
OPENSSH_KEY = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW"
AUTHORITY_LINE = 4
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def site(cli: str, tmp_path: Path) -> Iterator[Stack]:
    """A stack of the real program, for a site of control and three edge hosts."""
    stack = made_in(cli, tmp_path, ROOT / "pulumi")
    stack.environment |= {"EDGE_SKIP_CREDENTIALS": "1"}
    write(stack, 4, leaving="gcp")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "ca"], check=True)
    stack.must("config", "set", "edge:site", str(tmp_path / "tested.yaml"))
    stack.must("config", "set", "--secret", "edge:hostCaKey", told=(tmp_path / "ca").read_text())
    yield stack


# Google Cloud's region may go from the beginning.
NAME = {"provider": "azure", "zone": "names/example.com", "name": "edge.example.com"}


def write(stack: Stack, hosts: int, **more: Any) -> None:
    (stack.place / "tested.yaml").write_text(site_of(hosts, name="tested", dns=NAME, **more))


def test_a_site_is_made_adopted_grows_and_goes(site: Stack, tmp_path: Path) -> None:
    """One site file, three clouds: made, refreshed, imported into another stack, grown, destroyed."""
    said = _ansible(site, _inventory(site, tmp_path))
    assert said.returncode != 0
    assert "stack tested has no output edge_inventory" in " ".join(said.stderr.split())
    site.up()
    hosts = site.inventory()["hosts"]
    assert Counter(host["cloud"] for host in hosts) == {"aws": 2, "gcp": 1, "azure": 1}
    edges = {host["cloud"]: host["private_address"] for host in hosts if "ingress" in host["groups"]}
    # Each cloud keeps other addresses of a subnet; in AWS NAT gateway and balancer may have taken the first.
    assert edges["aws"] in ("10.101.0.4", "10.101.0.5", "10.101.0.6")
    assert (edges["gcp"], edges["azure"]) == ("10.102.0.2", "10.103.0.4")
    found = json.loads(_ansible(site, _inventory(site, tmp_path)).stdout)
    assert len(found["ingress"]["hosts"]) == 3
    site.must("refresh", "--yes", "--expect-no-changes")
    _lives_on(_imported(site), hosts)


def _imported(site: Stack) -> Stack:
    """Another stack that takes over all that ``site`` made: networks, addresses, hosts, names."""
    other = replace(site, name="other")
    other.must("stack", "init", other.name)
    other.must("config", "set", "edge:site", str(site.place / "tested.yaml"))
    other.must("config", "set", "--secret", "edge:hostCaKey", told=(site.place / "ca").read_text())
    file = site.place / "import.json"
    other.must("preview", "--import-file", str(file))
    wanted = json.loads(file.read_text())
    known = {(one["type"], one["urn"].rpartition("::")[2]): one["id"] for one in site.state() if "id" in one}
    for one in wanted["resources"]:
        if "id" in one:
            one["id"] = known[one["type"], one.get("logicalName", one["name"])]
    file.write_text(json.dumps(wanted))
    held = site.held()
    other.must("import", "--file", str(file), "--generate-code=false", "--protect=false", "--yes")
    _sealed(other, sorted(one["name"] for one in site.inventory()["hosts"]))
    other.must("up", "--yes", "--skip-preview", "--expect-no-changes")
    assert other.held() == held, "the clouds were asked, and nothing was made"
    return other


def _sealed(site: Stack, hosts: list[str]) -> None:
    """The clouds give user data back as plain text: as long as nobody makes them secret."""
    left = site.must("stack", "export")
    assert OPENSSH_KEY in left
    done = subprocess.run([ROOT / "script" / "site-plan", "seal"], input=left, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stderr.strip().partition(": ")[2].split(", ")) == hosts
    site.must("stack", "import", told=done.stdout)


def _lives_on(site: Stack, hosts: list[dict[str, Any]]) -> None:
    """Tunnels between clouds come to what is there and go again, with hosts and regions."""
    write(site, 5, interconnect="wireguard", leaving="gcp")
    site.up()
    grown = site.inventory()["hosts"]
    assert len(grown) == 5
    # What is let in to edges has changed with the tunnels, and nothing else.
    ids = {host["name"]: (host["id"], host["address"]) for host in grown}
    assert all(ids[host["name"]] == (host["id"], host["address"]) for host in hosts), "nobody else moved"
    joined = site.inventory()["interconnect"]
    gateways = [
        [host["name"] for host in grown if host["cloud"] == cloud and "ingress" in host["groups"]]
        for cloud in ("aws", "gcp", "azure")
    ]
    assert [one["gateways"] for one in joined["networks"]] == gateways
    # In AWS somebody moves routes when a gateway dies; the others do it themselves, by a balancer.
    [tables] = joined["tables"]
    assert (tables["cloud"], tables["ranges"]) == ("aws", ["10.102.0.0/20", "10.103.0.0/20"])
    assert len(_moved(site)) == 2 * len(tables["tables"])
    assert _answers(site) == {"aws", "gcp", "azure"}
    assert _opened_in_azure(site) >= {"wireguard-ingress-v4", "transit-udp-ingress-v4"}
    write(site, 5, without="gcp")
    site.up()
    assert "interconnect" not in site.inventory() and not _moved(site)
    assert {host["cloud"] for host in site.inventory()["hosts"]} == {"aws", "azure"}
    assert not [one["token"] for one in site.held() if one["token"].startswith("gcp:compute")]
    assert _answers(site) == {"aws", "azure"}
    assert not [name for name in _opened_in_azure(site) if name.startswith(("wireguard", "transit"))]
    assert OPENSSH_KEY not in site.must("stack", "export"), "the key of a host"
    # Earlier states are kept: before it was sealed with keys of hosts, but never with the authority's.
    key = (site.place / "ca").read_text().splitlines()[AUTHORITY_LINE]
    assert all(key not in file.read_text() for file in (site.place / "state").rglob("*.json"))
    # Addresses and names outlive their hosts: they are protected, and given up by name only.
    refused = site.run("destroy", "--yes", "--skip-preview")
    assert refused.returncode != 0 and "protect" in refused.stdout
    assert any(f"{kind}::edge.example.com" in refused.stdout for kind in ("Profile", "RecordSet"))
    site.must("state", "unprotect", "--all", "--yes")
    site.must("destroy", "--yes", "--skip-preview")
    kept = Counter(record["token"].rpartition(":")[2] for record in site.held())
    assert kept.keys() == {"Eip", "PublicIPAddress", "ResourceGroup", "Profile", "RecordSet"}, kept


def _moved(site: Stack) -> list[dict[str, Any]]:
    """Routes of AWS that lead to a gateway's interface."""
    routes = [record["inputs"] for record in site.held() if record["token"] == "aws:ec2/route:Route"]
    return [route for route in routes if route.get("networkInterfaceId")]


def _answers(site: Stack) -> set[str]:
    """Clouds that Traffic Manager sends clients to."""
    [profile] = [one["inputs"] for one in site.held() if one["token"].endswith(":Profile")]
    return {endpoint["name"].partition("-")[0] for endpoint in profile["endpoints"]}


def _opened_in_azure(site: Stack) -> set[str]:
    groups = [one["inputs"] for one in site.held() if one["token"].endswith(":NetworkSecurityGroup")]
    return {rule["name"] for group in groups for rule in group["securityRules"]}


def test_the_example_site(cli: str, tmp_path: Path) -> None:
    """pulumi/sites/example.yaml: previewed and made, unchanged, less a region, destroyed to nothing."""
    said = yaml.safe_load((ROOT / "pulumi" / "sites" / "example.yaml").read_text())
    [region] = said["clouds"]["azure"]["regions"].values()
    region["leaving"] = True
    # Hosts of other accounts are refused: these are the clouds of the account that the file names.
    account = said["clouds"]["aws"]["account"]
    site = site_in(cli, tmp_path, yaml.safe_dump(said), made=("up", "--yes"), SIMCLOUD_AWS_ACCOUNT=account)
    assert len(site.inventory()["hosts"]) == 18
    stay = {"aws-us-east-1", "aws-eu-central-1", "gcp-us-central1"}
    assert _answered_by_route_53(site) == {*stay, "azure-westeurope"}
    site.must("up", "--yes", "--skip-preview", "--expect-no-changes")
    del said["clouds"]["azure"]
    (tmp_path / "example.yaml").write_text(yaml.safe_dump(said))
    site.up()
    assert _answered_by_route_53(site) == stay
    assert not [one["token"] for one in site.held() if one["token"].startswith("azure")]
    site.must("state", "unprotect", "--all", "--yes")
    site.must("destroy", "--yes", "--skip-preview")
    kept = Counter(record["token"].rpartition(":")[2] for record in site.held())
    assert kept.keys() == {"Eip", "Address"}, kept
    assert site.state() == []


def _answered_by_route_53(site: Stack) -> set[str]:
    """Regions that have a record of the name."""
    return {one["inputs"]["setIdentifier"] for one in site.held() if one["token"].endswith(":Record")}


def _inventory(site: Stack, folder: Path) -> Path:
    """A file that asks the CLI for the stack."""
    file = folder / "stack.yml"
    asked = {"stack": "tested", "project": str(site.place / "project"), "command": [site.cli]}
    file.write_text(yaml.safe_dump({"plugin": "marchproxy.edge.pulumi_stack", **asked}, sort_keys=False))
    return file


def _ansible(site: Stack, inventory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / ".venv" / "bin" / "ansible-inventory", "-i", inventory, "--list"],
        env={**site.surroundings(()), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
