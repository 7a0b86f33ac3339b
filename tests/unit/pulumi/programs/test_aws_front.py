"""The balancer of AWS has one listener per port, whatever protocols the site opens there."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pulumi.runtime", reason="Pulumi lives in an environment of its own: pulumi/.venv")

from edge_iac.aws.balancing import BOTH, listeners
from edge_iac.site import Site, parse_site
from simcloud.fabric import fabric

from tests.unit.pulumi.support.graph import Graph, graph_of
from tests.unit.pulumi.support.simulated import SimulatedClouds
from tests.unit.pulumi.support.sites import KEY

SITE = f"""
name: fronts
tags: {{owner: tests}}
ssh: {{authorized_keys: [{KEY}]}}
clouds:
  aws: {{regions: {{us-east-1: {{network: 10.1.0.0/16, zones: 2, hosts: {{control: {{role: control}},
        edge: {{role: ingress, count: 2}}}}}}}}}}
  gcp: {{project: p, regions: {{us-central1: {{network: 10.2.0.0/16, hosts: {{edge: {{role: ingress}}}}}}}}}}
  azure: {{regions: {{eastus: {{network: 10.3.0.0/16, hosts: {{edge: {{role: ingress}}}}}}}}}}
reach:
  - {{name: quic, sources: [internet], targets: [ingress], protocol: udp, ports: [443]}}
  - {{name: dns, sources: [internet], targets: [ingress], ports: [53]}}
  - {{name: dns-udp, sources: [internet], targets: [ingress], protocol: udp, ports: [53]}}
  - {{name: game, sources: [internet], targets: [ingress], protocol: udp, ports: [7777]}}
"""
BOTH_AT, TCP_AT, UDP_AT = {443, 53}, {80, 8080}, {7777}


@pytest.fixture
def site() -> Site:
    return parse_site(SITE, shown="fronts.yaml", stem="fronts")


@pytest.fixture
def made(site: Site, tmp_path: Path) -> Graph:
    """By the simulated clouds, which refuse a second listener on a port."""
    return graph_of(site, SimulatedClouds(tmp_path))


def test_a_port_of_both_protocols_has_one_listener_and_one_group(made: Graph) -> None:
    wanted = {**dict.fromkeys(BOTH_AT, BOTH), **dict.fromkeys(TCP_AT, "TCP"), **dict.fromkeys(UDP_AT, "UDP")}
    for kind in ("lb/listener:Listener", "lb/targetGroup:TargetGroup"):
        nodes = made.of(kind)
        assert {node.inputs["port"]: node.inputs["protocol"] for node in nodes} == wanted
        assert len(nodes) == len(wanted)
    names = [node.inputs["name"] for node in made.of("lb/targetGroup:TargetGroup")]
    assert "fronts-edge-443" in names and "fronts-edge-80-tcp" in names
    for group in made.of("lb/targetGroup:TargetGroup"):
        # Of UDP and both AWS takes HTTP as health check, and no other than kept client addresses.
        assert (group.inputs["preserveClientIp"], group.inputs["healthCheck"]["protocol"]) == ("true", "HTTP")
    assert len(made.of("lb/targetGroupAttachment:TargetGroupAttachment")) == 2 * len(wanted)


def test_its_security_group_lets_in_each_protocol(made: Graph) -> None:
    rules = [
        node.inputs
        for node in made.of("SecurityGroupIngressRule")
        if node.name.startswith("us-east-1-front-")
    ]
    found = {(rule["ipProtocol"], rule["fromPort"]) for rule in rules}
    assert found == {("tcp", port) for port in BOTH_AT | TCP_AT} | {
        ("udp", port) for port in BOTH_AT | UDP_AT
    }


def test_clients_of_both_protocols_meet_the_same_hosts_in_every_cloud(made: Graph, tmp_path: Path) -> None:
    assert made.nodes
    fronts = fabric(tmp_path)["fronts"]
    vips = {vip["address"]: vip["cloud"] for vip in made.outputs["edge_inventory"]["vips"]}
    for address, cloud in vips.items():
        own = [front for front in fronts if front["address"] == address]
        taken = {(front["protocol"], front["port"]) for front in own}
        assert taken == {("tcp", port) for port in BOTH_AT | TCP_AT} | {
            ("udp", port) for port in BOTH_AT | UDP_AT
        }, cloud
        assert len({str(sorted(target["address"] for target in front["targets"])) for front in own}) == 1
        assert all(front["targets"] and front["sources"] == ("0.0.0.0/0",) for front in own)


def test_a_listener_waits_for_its_targets_and_is_called_by_its_port_alone(made: Graph) -> None:
    """So the engine changes it in place, whatever protocol comes or goes, and never makes a second one."""
    for node in made.of("lb/listener:Listener"):
        assert node.name == f"us-east-1-{node.inputs['port']}"
        waits = [one for one in node.depends_on if "TargetGroupAttachment" in one]
        assert len(waits) == 2, node


def test_the_protocol_of_a_listener_is_that_of_all_its_port_takes() -> None:
    assert listeners((("tcp", 53), ("udp", 53), ("udp", 7), ("tcp", 80))) == {
        53: BOTH, 7: "UDP", 80: "TCP",
    }  # fmt: skip
