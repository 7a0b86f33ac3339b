"""The lab that the cloud programs make: real engine, simulated clouds, real hosts, and nothing left after.

What runs on such hosts is what runs on any of the lab's; tests/lab/test_site.py provisions and asks those.
"""

from __future__ import annotations

import json
from typing import Any

from tests.support.checkout import Checkout, held_by, podman_json

UP_S = 1500
INVENTORY = "inventories/lab-pulumi"
REGION = """      us-west1:
        network: 10.204.0.0/22
        hosts:
          edge: {role: ingress}
  azure:
"""


def hosts(checkout: Checkout) -> dict[str, Any]:
    found = checkout.must_json(".venv/bin/ansible-inventory", "-i", INVENTORY, "--list")
    return {name: found["_meta"]["hostvars"][name] for name in found["lab"]["hosts"]}


def answering(checkout: Checkout) -> set[str]:
    """Hosts on which Ansible runs a module, as site.yml will."""
    said = checkout.must(".venv/bin/ansible", "all", "-i", INVENTORY, "-o", "-m", "ansible.builtin.ping")
    return {line.split()[0] for line in said.splitlines() if "SUCCESS" in line}


def test_programs_make_hosts_a_region_more_and_nothing_in_the_end(bare_checkout: Checkout) -> None:
    """Three programs boot ten hosts; a region in the site file is an edge more, typed in no inventory."""
    checkout = bare_checkout
    said = json.loads(checkout.must("script/lab", "up", "--from-pulumi", "--bare", "--json", timeout_s=UP_S))
    made = {host["name"]: host for host in said["hosts"]}
    assert len(made) == 10 and {host["cloud"] for host in made.values()} == {"aws", "gcp", "azure"}
    assert answering(checkout) == made.keys() == hosts(checkout).keys()
    # The address that the simulated subnet gave is the one that the host has.
    for entry in podman_json("ps", "--filter", f"label=marchproxy.checkout={checkout.root}"):
        host = made[entry["Names"][0].partition("-lab-")[2]]
        assert host["address"] in checkout.must("script/lab", "ssh", host["name"], "hostname", "-I").split()
    refused = checkout.run("script/lab", "up", "--bare")
    assert refused.returncode == 1 and "was made by Pulumi" in refused.stderr

    site = checkout.root / "pulumi" / "sites" / "lab.yaml"
    site.write_text(site.read_text().replace("  azure:\n", REGION, 1))
    checkout.must(
        "script/pulumi", "--lab", "up", "--yes", "--skip-preview", "--non-interactive", timeout_s=UP_S
    )
    assert answering(checkout) - made.keys() == {"edge-gcp-us-west1-1"}

    checkout.must("script/lab", "down", timeout_s=UP_S)
    assert not any(held_by(checkout.root).values())
    assert not (checkout.root / ".lab" / "pulumi").exists()
