"""The lab that the cloud programs make: real engine, simulated clouds, real hosts, and nothing left after."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import client, clients, place
from lab.client import Identity
from lab.fabric.running import operator
from tests.support.checkout import Checkout, held_by, podman_json
from tests.support.cloud_fronts import Fronts
from tests.support.packets import FOREIGN, SILENCE, THROUGH, Question, met
from tests.support.podman import patiently
from tests.support.stack_output import plain
from tests.support.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1800)]

UP_S = 1500
SHOP = "shop.example.com"
NEW = "edge-gcp-us-west1-1"
INVENTORY = "inventories/lab-pulumi"
REGIONS = ("aws-us-east-1", "gcp-us-central1", "azure-eastus")
# A port of the backends that the site file opens later.
ADDED = 8300
CONTROL = "control-aws-us-east-1-1"
# Where health checks of balancers come from.
PROBES = {"gcp-us-central1": "35.191.0.9", "azure-eastus": "168.63.129.16"}
NEAR, FAR = "backend-aws-us-east-1-1", "backend-azure-eastus-1"
# The lab's backends say whom they see.
WHO_AM_I = """
import json, sys, urllib.request
with urllib.request.urlopen(f"http://{sys.argv[1]}:8080/", timeout=3) as answer:
    print(json.load(answer)["client"])
"""
# What the metadata service gives to whoever asks.
USER_DATA = """
import sys, urllib.request
def ask(path, method="GET", **headers):
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    url = "http://169.254.169.254" + path
    asked = urllib.request.Request(url, headers=named, method=method)
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return answer.read().decode()
if sys.argv[1] == "aws":
    token = ask("/latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
    print(ask("/latest/user-data", X_aws_ec2_metadata_token=token))
else:
    print(ask("/computeMetadata/v1/instance/attributes/startup-script", Metadata_Flavor="Google"))
"""
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
    """The lab's site with one host of each pool but AWS's two gateways, whose backends may ask each other."""
    fewer = text.replace("          egress: {role: egress}\n", "").replace(
        "backend: {role: workload, count: 2,", "backend: {role: workload,"
    )
    fewer = fewer.replace("sources: [ingress, egress]", "sources: [ingress, egress, workload]")
    assert fewer.count("{role:") == text.count("{role:") - 1 and fewer.count("count: 2") == 1
    return fewer


@dataclass(frozen=True)
class Fabric:
    """The lab's hosts, the public and an operator: who reaches whom is decided by the clouds' rules."""

    here: place.Place
    address: dict[str, str]

    @property
    def public(self) -> str:
        return clients.address(self.here, clients.ORDINARY)

    @property
    def operator(self) -> str:
        """An address that the site file's ssh.sources name."""
        return f"10.{self.here.octet}.64.2"

    def outside(self) -> list[str]:
        return ["ip", "netns", "exec", clients.namespace(self.here)]

    def inside(self, host: str) -> list[str]:
        return ["podman", "exec", "--interactive", f"{self.here.prefix}-{host}"]

    def invite_operator(self) -> None:
        near = clients.near(self.here)
        run("ip", "-n", clients.namespace(self.here), "addr", "add", f"{self.operator}/32", "dev", "eth0")
        run("ip", "route", "add", f"{self.operator}/32", "dev", near)

    def check(self, asked_by: list[str], wanted: dict[Question, str]) -> None:
        assert met(asked_by, wanted) == wanted

    def dropped_at_the_card(self) -> int:
        """Packets that were refused since their source was not the sender's own."""
        table = f"{self.here.prefix}-fabric"
        said = json.loads(run("nft", "-j", "list", "chain", "ip", table, "sent"))
        [counted] = [
            part["counter"]["packets"]
            for entry in said["nftables"]
            for part in entry.get("rule", {}).get("expr", [])
            if "counter" in part
        ]
        return int(counted)


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def fabric_of(checkout: Checkout, made: dict[str, Any]) -> Fabric:
    here = place.load(checkout.root / "inventories" / "lab" / "hosts.yml", checkout.root)
    return Fabric(here, {name: host["address"] for name, host in made.items()})


def check_rules(fabric: Fabric, region: str) -> None:
    """The matrix of the site, met by packets of real hosts in one cloud."""
    control = fabric.address[CONTROL]
    edge, backend = (f"{pool}-{region}-1" for pool in ("edge", "backend"))
    at = fabric.address
    fabric.check(
        fabric.outside(),
        {
            (fabric.public, at[edge], 443): THROUGH,
            (fabric.public, at[edge], 22): SILENCE,
            (fabric.public, at[edge], 8082): SILENCE,
            (fabric.public, at[backend], 8080): SILENCE,
            (fabric.public, control, 18000): SILENCE,
            (fabric.operator, at[edge], 22): THROUGH,
            (fabric.operator, at[backend], 22): THROUGH,
        },
    )
    if probe := PROBES.get(region):
        asked: dict[Question, str] = {(probe, at[edge], 51820): THROUGH, (probe, at[edge], 22): SILENCE}
        fabric.check(fabric.outside(), asked)
    fabric.check(fabric.inside(edge), {("", at[backend], 8080): THROUGH, ("", at[backend], ADDED): SILENCE})
    # To its cloud a gateway is the target of what passes through it: its own region reaches all of its ports.
    fabric.check(fabric.inside(backend), {("", at[edge], 443): THROUGH})
    before = fabric.dropped_at_the_card()
    run(*fabric.inside(edge), "python3", "-c", FOREIGN, at[backend])
    assert fabric.dropped_at_the_card() == before, "an edge forwards, and may send packets of others"
    run(*fabric.inside(backend), "python3", "-c", FOREIGN, at[edge])
    assert fabric.dropped_at_the_card() == before + 1


def check_control(fabric: Fabric, region: str) -> None:
    """Whom the control host of AWS lets in from a region: its edges to the xDS port, and nobody else."""
    control = fabric.address[CONTROL]
    wanted: dict[Question, str] = {("", control, 18000): THROUGH, ("", control, 8000): SILENCE}
    fabric.check(fabric.inside(f"edge-{region}-1"), wanted)
    fabric.check(fabric.inside(f"backend-{region}-1"), {("", control, 18000): SILENCE})


def check_clouds_apart(fabric: Fabric) -> None:
    """Without a mesh no private address of another cloud is reached, though its rules would let it in."""
    far = {("", fabric.address[f"backend-{region}-1"], 8080): SILENCE for region in REGIONS[1:]}
    fabric.check(fabric.inside(f"edge-{REGIONS[0]}-1"), far)


def check_mesh(fabric: Fabric) -> None:
    """Ways that route tables name lead there, for hosts that know of no tunnel; sources stay as they are."""
    for near, far in ((NEAR, FAR), (FAR, NEAR), ("backend-gcp-us-central1-1", FAR)):
        eventually(lambda n=near, f=far: seen_by(fabric, n, f) == fabric.address[n], f"{near} reaches {far}")  # type: ignore[misc]
    for region in REGIONS:
        check_control(fabric, region)


def check_gateway_that_dies(fabric: Fabric) -> None:
    """Control moves the route tables of AWS by EC2's API, as the identity that its instance has there."""
    run("podman", "kill", f"{fabric.here.prefix}-edge-{REGIONS[0]}-1")
    eventually(lambda: seen_by(fabric, NEAR, FAR) == fabric.address[NEAR], "the other gateway takes over")


def seen_by(fabric: Fabric, near: str, far: str) -> str:
    """The address that a server on ``far`` sees when ``near`` asks it; empty if it is not reached."""
    done = subprocess.run(
        [*fabric.inside(near), "python3", "-c", WHO_AM_I, fabric.address[far]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip()


def serves(checkout: Checkout, address: str) -> bool:
    """Whether a proxy answers the shop's name over TLS, with a certificate of the site's own authority."""
    trust = Identity(checkout.root / ".lab/pki/root.crt")
    return client.get(address, 443, SHOP, identity=trust).status == 200


def answering(checkout: Checkout) -> set[str]:
    """Hosts on which Ansible runs a module, as site.yml will once they have made its login."""
    words = ("-m", "ansible.builtin.wait_for_connection", "-a", "timeout=120")
    said = checkout.must(".venv/bin/ansible", "all", "-i", INVENTORY, "-o", *words)
    return {line.split()[0] for line in said.splitlines() if "SUCCESS" in line}


def login(
    checkout: Checkout, host: dict[str, Any], known: Path, alias: str
) -> subprocess.CompletedProcess[str]:
    """ssh to a host as Ansible does it, but for the authority it believes and the name it asks for."""
    place_ = place.load(checkout.root / "inventories" / "lab" / "hosts.yml", checkout.root)
    options = [
        f"BindAddress={operator(place_)}",
        "IdentitiesOnly=yes",
        f"UserKnownHostsFile={known}",
        f"HostKeyAlias={alias}",
        "StrictHostKeyChecking=yes",
    ]
    return subprocess.run(
        ["ssh", "-i", checkout.root / ".lab/pulumi/login",
         *(word for option in options for word in ("-o", option)),
         f"{host['ansible_user']}@{host['ansible_host']}", "sudo", "id", "-u"],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def check_first_contact(checkout: Checkout, folder: Path) -> None:
    """Hosts of each cloud took login and signed host key from their user data; no other key is believed."""
    found = hosts(checkout)
    ours, foreign = folder / "ours", folder / "foreign"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "ca"))
    for file, key in ((ours, checkout.root / ".lab/pulumi/host-ca.pub"), (foreign, folder / "ca.pub")):
        file.write_text(f"@cert-authority * {key.read_text()}")
    for region in REGIONS:
        name, other = f"edge-{region}-1", f"backend-{region}-1"
        assert found[name]["ansible_connection"] == "ssh" and found[name]["ansible_user"] == "edge"
        assert login(checkout, found[name], ours, name).stdout == "0\n"
        for refused in (
            login(checkout, found[name], foreign, name),
            login(checkout, found[name], ours, other),
        ):
            assert refused.returncode == 255 and "Host key verification failed" in refused.stderr, refused


def check_host_that_is_off(checkout: Checkout, fabric: Fabric, name: str) -> None:
    """site.yml names who is not reached and what to do, before anything is changed on anybody."""
    container = f"{fabric.here.prefix}-{name}"
    patiently("stop", "--time", "0", container)
    refused = checkout.playbook("-i", INVENTORY, "site.yml", "-e", "site_reach_s=30")
    words = " ".join(refused.stdout.split())
    assert refused.returncode != 0 and "not reached, and nothing was changed" in words, words[-3000:]
    assert f"--limit ''all:!{name}''" in words or f"--limit 'all:!{name}'" in words
    assert not re.search(r"changed=[1-9]", words)
    run("podman", "start", container)


def check_metadata(fabric: Fabric) -> None:
    """User data hold the host's key: root's alone on the edge's own hosts, elsewhere as the cloud has it."""

    def told(host: str, user: str, cloud: str) -> bool:
        asked = ["runuser", "-u", user, "--", "python3", "-c", USER_DATA, cloud]
        said = subprocess.run([*fabric.inside(host), *asked], capture_output=True, text=True, check=False)
        assert said.returncode == 0 or "Connection refused" in said.stderr, said.stderr
        return "PRIVATE KEY" in said.stdout

    for region in ("aws-us-east-1", "gcp-us-central1"):
        edge, backend, cloud = f"edge-{region}-1", f"backend-{region}-1", region.partition("-")[0]
        met = {
            (host, user): told(host, user, cloud) for host in (edge, backend) for user in ("root", "nobody")
        }
        assert met == {
            (edge, "root"): True,
            (edge, "nobody"): False,
            (backend, "root"): True,
            (backend, "nobody"): True,
        }


def test_programs_make_hosts_a_region_more_comes_to_service_and_nothing_in_the_end(
    bare_checkout: Checkout, tmp_path: Path
) -> None:
    """Three programs boot hosts; a region in the site file and two commands are an edge more that serves."""
    checkout = bare_checkout
    site = checkout.root / "pulumi" / "sites" / "lab.yaml"
    site.write_text(smaller(site.read_text()))
    said = json.loads(checkout.must("script/lab", "up", "--from-pulumi", "--bare", "--json", timeout_s=UP_S))
    made = {host["name"]: host for host in said["hosts"]}
    assert len(made) == 8 and {host["cloud"] for host in made.values()} == {"aws", "gcp", "azure"}
    assert answering(checkout) == made.keys() == hosts(checkout).keys()
    # The address that the simulated subnet gave is the one that the host has.
    for entry in podman_json("ps", "--filter", f"label=marchproxy.checkout={checkout.root}"):
        host = made[entry["Names"][0].partition("-lab-")[2]]
        assert host["address"] in checkout.must("script/lab", "ssh", host["name"], "hostname", "-I").split()
    check_first_contact(checkout, tmp_path)
    fabric = fabric_of(checkout, made)
    fabric.invite_operator()
    for region in REGIONS:
        check_rules(fabric, region)
    check_control(fabric, REGIONS[0])
    check_clouds_apart(fabric)
    refused = checkout.run("script/lab", "up", "--bare")
    assert refused.returncode == 1 and "was made by Pulumi" in refused.stderr

    site.write_text(
        site.read_text().replace("  azure:\n", REGION, 1).replace('"50051"]', f'"50051", "{ADDED}"]', 1)
    )
    checkout.must(
        "script/pulumi", "--lab", "up", "--yes", "--skip-preview", "--non-interactive", timeout_s=UP_S
    )
    for region in REGIONS:
        opened: dict[Question, str] = {("", fabric.address[f"backend-{region}-1"], ADDED): THROUGH}
        fabric.check(fabric.inside(f"edge-{region}-1"), opened)
    check_host_that_is_off(checkout, fabric, FAR)
    played = checkout.playbook("-i", INVENTORY, "site.yml", timeout_s=UP_S)
    assert played.returncode == 0, played.stdout[-5000:]
    grown = hosts(checkout)
    assert grown.keys() - made.keys() == {NEW}
    edges = {name: facts["address"] for name, facts in grown.items() if name.startswith("edge-")}
    assert len(edges) == 5 and {name: serves(checkout, address) for name, address in edges.items()} == (
        dict.fromkeys(edges, True)
    )

    check_mesh(fabric)
    check_metadata(fabric)
    fronts = Fronts(checkout)
    fronts.check()
    fronts.check_refused_probe()
    fronts.check_sources()
    fronts.check_name()

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

    check_gateway_that_dies(fabric)
    fronts.check_dead_edge(fabric.address[f"edge-{REGIONS[0]}-1"])
    checkout.must("script/lab", "down", timeout_s=UP_S)
    assert not any(held_by(checkout.root).values())
    assert not (checkout.root / ".lab" / "pulumi").exists()
    assert fabric.here.prefix not in run("nft", "list", "tables")
