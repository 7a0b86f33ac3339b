"""What the three programs' rules let through, decided by packets: a namespace for each simulated machine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

pytest.importorskip("pulumi.runtime", reason="Pulumi lives in an environment of its own: pulumi/.venv")

from edge_iac.site import parse_site
from simcloud.packets import HOOKS, Guarded, restored

from tests.unit.pulumi.support.graph import graph_of
from tests.unit.pulumi.support.simulated import SimulatedClouds

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="namespaces and packet filters belong to root"),
    pytest.mark.timeout(300),
]

SITE = """
name: packets
tags: {owner: tests}
ssh: {authorized_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGoocfWvOmw9qd0T1SMWjJZ6i/8oSWvGPJUCqeFTsYGO],
      sources: [198.51.100.0/24]}
interconnect: {type: wireguard}
reach: [{name: shop, sources: [ingress], targets: [workload], ports: ["8080"]}]
clouds:
  aws: {regions: {us-east-1: &region {network: 10.1.0.0/16, hosts: {control: {role: control},
        edge: {role: ingress}, backend: {role: workload}}}}}
  gcp: {project: p, regions: {us-central1: {<<: *region, network: 10.2.0.0/16}}}
  azure: {regions: {eastus: {<<: *region, network: 10.3.0.0/16}}}
"""
PLACES = {"aws": "aws-us-east-1", "gcp": "gcp-us-central1", "azure": "azure-eastus"}
PROBES = {"gcp": "35.191.0.9", "azure": "168.63.129.16"}
STRANGER, OPERATOR = "203.0.113.9", "198.51.100.7"
# Opens a connection from each source and says what came of it. Nobody listens: what gets through is refused.
PROBE = """
import errno, json, socket, sys
met = []
for source, target, port in json.load(sys.stdin):
    with socket.socket() as probe:
        probe.settimeout(60)
        probe.bind((source, 0))
        met.append(errno.errorcode.get(probe.connect_ex((target, port)), "connected"))
print(json.dumps(met))
"""
# Sends a packet from an address that is not the machine's.
STRANGE = """
import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.bind(("10.77.0.1", 0))
sender.sendto(b"x", ("203.0.113.9", 9))
"""
THROUGH, REFUSED = "ECONNREFUSED", "EHOSTUNREACH"


def run(*words: str, stdin: str = "") -> str:
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Guarded]:
    clouds = SimulatedClouds(tmp_path_factory.mktemp("world"))
    graph_of(parse_site(SITE, shown="s.yaml", stem="packets"), clouds)
    return clouds.machines()


class Fabric:
    """A namespace with everybody who asks, and one for each machine, joined by a link each."""

    def __init__(self, machines: dict[str, Guarded]) -> None:
        self.asking = f"mp-pk-{os.getpid()}"
        self.spaces = {name: f"{self.asking}-{number}" for number, name in enumerate(machines)}
        self.machines = machines

    def make(self) -> None:
        run("ip", "netns", "add", self.asking)
        run("ip", "-n", self.asking, "link", "set", "lo", "up")
        for number, (name, space) in enumerate(self.spaces.items()):
            machine = self.machines[name]
            run("ip", "netns", "add", space)
            run(
                "ip",
                "-n",
                self.asking,
                "link",
                "add",
                f"m{number}",
                "type",
                "veth",
                "peer",
                "eth0",
                "netns",
                space,
            )
            run("ip", "-n", self.asking, "link", "set", f"m{number}", "up")
            run("ip", "-n", self.asking, "route", "add", f"{machine.address}/32", "dev", f"m{number}")
            run("ip", "-n", space, "addr", "add", f"{machine.address}/32", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "eth0", "up")
            run("ip", "-n", space, "route", "add", "default", "dev", "eth0")
            run("ip", "netns", "exec", space, "sysctl", "--quiet", "net.ipv4.icmp_ratelimit=0")
            # A cloud drops in silence; here it says so, and nothing is told by waiting.
            rules = restored(machine).replace("-j DROP", "-j REJECT --reject-with icmp-admin-prohibited")
            run("ip", "netns", "exec", space, "iptables-restore", "--noflush", stdin=rules)
            for chain, direction, ours in HOOKS:
                run("ip", "netns", "exec", space, "iptables", "-A", chain, direction, "eth0", "-j", ours)

    def ask(self, probes: list[tuple[str, str, int]]) -> list[str]:
        """What each (source, machine, port) met; one source at a time, since whoever asks is no target."""
        met: dict[tuple[str, str, int], str] = {}
        for source in {source for source, _, _ in probes}:
            own = [one for one in probes if one[0] == source]
            asked = [(source, self.machines[target].address, port) for _, target, port in own]
            run("ip", "-n", self.asking, "addr", "add", f"{source}/32", "dev", "lo")
            said = run("ip", "netns", "exec", self.asking, "python3", "-c", PROBE, stdin=json.dumps(asked))
            run("ip", "-n", self.asking, "addr", "del", f"{source}/32", "dev", "lo")
            met |= dict(zip(own, json.loads(said), strict=True))
        return [met[one] for one in probes]

    def remove(self) -> None:
        for space in (self.asking, *self.spaces.values()):
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)


@pytest.fixture(scope="module")
def fabric(machines: dict[str, Guarded]) -> Iterator[Fabric]:
    found = Fabric(machines)
    try:
        found.make()
        yield found
    finally:
        found.remove()


@pytest.mark.parametrize("cloud", PLACES)
def test_the_matrix_holds_for_packets(fabric: Fabric, cloud: str) -> None:
    edge, control, backend = (f"{pool}-{PLACES[cloud]}-1" for pool in ("edge", "control", "backend"))
    far = next(place for name, place in PLACES.items() if name != cloud)
    address = {name: machine.address for name, machine in fabric.machines.items()}
    wanted = {
        (STRANGER, edge, 443): THROUGH,
        (STRANGER, edge, 22): REFUSED,
        (STRANGER, control, 22): REFUSED,
        (STRANGER, edge, 8082): REFUSED,
        (STRANGER, edge, 51820): REFUSED,
        (STRANGER, control, 18000): REFUSED,
        (STRANGER, backend, 8080): REFUSED,
        (OPERATOR, edge, 22): THROUGH,
        (address[edge], control, 18000): THROUGH,
        (address[edge], control, 8000): REFUSED,
        (address[edge], backend, 8080): THROUGH,
        (address[edge], backend, 8081): REFUSED,
        (address[backend], control, 18000): REFUSED,
        # Through the mesh: to its cloud a gateway is the target, and far hosts keep their addresses.
        (address[backend], edge, 9999): THROUGH,
        (address[f"edge-{far}-1"], control, 18000): THROUGH,
        (address[f"edge-{far}-1"], edge, 9999): REFUSED,
    }
    if cloud in PROBES:
        wanted |= {(PROBES[cloud], edge, 8082): THROUGH, (PROBES[cloud], backend, 8080): REFUSED}
        wanted |= {(PROBES[cloud], edge, 51820): THROUGH}
    assert dict(zip(wanted, fabric.ask(list(wanted)), strict=True)) == wanted


def test_a_machine_that_does_not_forward_takes_and_sends_no_others_packets(fabric: Fabric) -> None:
    """In AWS the check of source and destination, in Google Cloud canIpForward, in Azure IP forwarding."""
    for place in PLACES.values():
        for pool, forwards in (("edge", True), ("backend", False)):
            name = f"{pool}-{place}-1"
            machine, space = fabric.machines[name], fabric.spaces[name]
            assert machine.forwards is forwards
            run("ip", "-n", space, "addr", "add", "10.77.0.1/32", "dev", "lo")
            counted = run("ip", "netns", "exec", space, "iptables", "-S", "SIMCLOUD-OUT")
            assert (f"! -s {machine.address}/32" in counted) is not forwards
            sent = subprocess.run(
                ["ip", "netns", "exec", space, "python3", "-c", STRANGE],
                capture_output=True,
                text=True,
                check=False,
            )
            assert (sent.returncode == 0) is forwards, sent.stderr
