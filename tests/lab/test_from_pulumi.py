"""The lab that the cloud programs make: real engine, simulated clouds, real hosts, and nothing left after."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab import client
from lab.client import Identity
from tests.support.checkout import Checkout, held_by, podman_json
from tests.support.stack_output import plain

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1800)]

UP_S = 1500
SHOP = "shop.example.com"
NEW = "edge-gcp-us-west1-1"
INVENTORY = "inventories/lab-pulumi"
REGION = """      us-west1:
        network: 10.204.0.0/22
        hosts:
          edge: {role: ingress}
  azure:
"""


def hosts(checkout: Checkout) -> dict[str, Any]:
    found = checkout.must_json(".venv/bin/ansible-inventory", "-i", INVENTORY, "--list")
    return {name: plain(found["_meta"]["hostvars"][name]) for name in found["lab"]["hosts"]}


def smaller(text: str) -> str:
    """The lab's site without egress and with one host of each pool: enough for a region to serve."""
    fewer = text.replace(", count: 2", "").replace("          egress: {role: egress}\n", "")
    assert fewer.count("{role:") == text.count("{role:") - 1
    return fewer


def serves(checkout: Checkout, address: str) -> bool:
    """Whether a proxy answers the shop's name over TLS, with a certificate of the site's own authority."""
    trust = Identity(checkout.root / ".lab/pki/root.crt")
    return client.get(address, 443, SHOP, identity=trust).status == 200


def answering(checkout: Checkout) -> set[str]:
    """Hosts on which Ansible runs a module, as site.yml will."""
    said = checkout.must(".venv/bin/ansible", "all", "-i", INVENTORY, "-o", "-m", "ansible.builtin.ping")
    return {line.split()[0] for line in said.splitlines() if "SUCCESS" in line}


def test_programs_make_hosts_a_region_more_comes_to_service_and_nothing_in_the_end(
    bare_checkout: Checkout,
) -> None:
    """Three programs boot hosts; a region in the site file and two commands are an edge more that serves."""
    checkout = bare_checkout
    site = checkout.root / "pulumi" / "sites" / "lab.yaml"
    site.write_text(smaller(site.read_text()))
    said = json.loads(checkout.must("script/lab", "up", "--from-pulumi", "--bare", "--json", timeout_s=UP_S))
    made = {host["name"]: host for host in said["hosts"]}
    assert len(made) == 7 and {host["cloud"] for host in made.values()} == {"aws", "gcp", "azure"}
    assert answering(checkout) == made.keys() == hosts(checkout).keys()
    # The address that the simulated subnet gave is the one that the host has.
    for entry in podman_json("ps", "--filter", f"label=marchproxy.checkout={checkout.root}"):
        host = made[entry["Names"][0].partition("-lab-")[2]]
        assert host["address"] in checkout.must("script/lab", "ssh", host["name"], "hostname", "-I").split()
    refused = checkout.run("script/lab", "up", "--bare")
    assert refused.returncode == 1 and "was made by Pulumi" in refused.stderr

    site.write_text(site.read_text().replace("  azure:\n", REGION, 1))
    checkout.must(
        "script/pulumi", "--lab", "up", "--yes", "--skip-preview", "--non-interactive", timeout_s=UP_S
    )
    played = checkout.playbook("-i", INVENTORY, "site.yml", timeout_s=UP_S)
    assert played.returncode == 0, played.stdout[-5000:]
    grown = hosts(checkout)
    assert grown.keys() - made.keys() == {NEW}
    edges = {name: facts["address"] for name, facts in grown.items() if name.startswith("edge-")}
    assert len(edges) == 4 and {name: serves(checkout, address) for name, address in edges.items()} == (
        dict.fromkeys(edges, True)
    )

    # What the site file takes away again goes out of service first, and nobody else does.
    words = (
        "-i",
        INVENTORY,
        "playbooks/decommission.yml",
        "-e",
        f"host={NEW}",
        "-e",
        "decommission_notice_s=0",
    )
    gone = checkout.playbook(*words)
    assert gone.returncode == 0 and "changed=0 " not in gone.stdout.split(NEW)[-1], gone.stdout[-5000:]
    again = checkout.playbook(*words)
    assert again.returncode == 0 and "changed=0 " in again.stdout.split(NEW)[-1], again.stdout[-5000:]
    kept = edges.keys() - {NEW}
    with pytest.raises(ConnectionRefusedError):
        serves(checkout, edges[NEW])
    assert {name: serves(checkout, edges[name]) for name in kept} == dict.fromkeys(kept, True)
    # Nor does its network card go on filtering for an inventory that it is no part of.
    assert "prog/xdp" not in checkout.must("script/lab", "ssh", NEW, "ip", "-d", "link")
    assert checkout.run("script/lab", "ssh", NEW, "ls", "/run/marchproxy/bpf/datapath").returncode != 0

    checkout.must("script/lab", "down", timeout_s=UP_S)
    assert not any(held_by(checkout.root).values())
    assert not (checkout.root / ".lab" / "pulumi").exists()
