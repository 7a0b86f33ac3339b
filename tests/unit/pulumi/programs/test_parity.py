"""The same site reaches the same on every cloud: one matrix, three languages, one verdict."""

from __future__ import annotations

import ipaddress
from functools import partial

import pytest

pytest.importorskip("pulumi.runtime", reason="Pulumi lives in an environment of its own: pulumi/.venv")

from edge_iac.aws import AwsProgram
from edge_iac.azure import AzureProgram
from edge_iac.base import CloudProgram
from edge_iac.gcp import GcpProgram
from edge_iac.plan import Plan, Region, plan_site
from edge_iac.plan.reachability import TIER_OF
from edge_iac.site import parse_site
from hypothesis import HealthCheck, given, settings

from tests.unit.pulumi.support.graph import Graph, run_program
from tests.unit.pulumi.support.sites import sites
from tests.unit.pulumi.support.verdicts import LETS, Attempt

PROGRAMS = {"aws": AwsProgram, "gcp": GcpProgram, "azure": AzureProgram}
STRANGERS = ("203.0.113.9", "192.0.2.5", "198.51.100.7", "198.51.0.9", "10.200.0.1")
PORTS = (22, 80, 443, 5432, 8000, 8080, 8082, 18000)
PROBES = {"gcp": "35.191.0.9", "azure": "168.63.129.16"}


def graph_of_rules(plan: Plan, region: Region) -> Graph:
    """What the cloud's program registers for network and rules of ``region``."""

    def program() -> None:
        said = plan.site.clouds.named()[region.cloud]
        cloud: CloudProgram = PROGRAMS[region.cloud](said, (region,))
        cloud.reachability(region, cloud.network(region))

    return run_program(program)


def address_in(region: Region, role: str) -> str:
    """An address that a host of the role may have there."""
    subnet = region.in_tier(TIER_OF[role])[0]
    return str(ipaddress.ip_network(subnet.cidr)[9])


def attempts(plan: Plan, region: Region) -> dict[tuple[str, ...], Attempt]:
    """Everything that is asked, under names that mean the same in every cloud."""
    regions = plan.regions
    far = regions[(regions.index(region) + 1) % len(regions)]
    spans = [int(end) for rule in plan.site.reach for span in rule.ports for end in span.split("-")]
    ports = sorted({*PORTS, *spans, *(min(65535, port + 1) for port in spans)})
    sources = {("address", one): {"address": one} for one in STRANGERS}
    sources |= {("role", one): {"address": address_in(region, one), "role": one} for one in region.roles}
    sources |= {("far", one): {"address": address_in(far, one)} for one in far.roles}
    sources |= {("probe", ""): {"address": prober(region), "probe": True}}
    found: dict[tuple[str, ...], Attempt] = {}
    for name, source in sources.items():
        for target in region.roles:
            make = partial(Attempt, target=target, **source)
            found |= {
                (*name, target, protocol, str(port)): make(protocol=protocol, port=port)
                for protocol in ("tcp", "udp")
                for port in ports
            }
            found[*name, target, "icmp", ""] = make(protocol="icmp", port=0)
    return found


def prober(region: Region) -> str:
    """The address from which the cloud's load balancers look at hosts."""
    return PROBES.get(region.cloud, str(ipaddress.ip_network(region.in_tier("outer")[0].cidr)[5]))


def named_by_a_rule(plan: Plan, region: Region) -> bool:
    """Whether the site itself lets that address in by one of its ranges."""
    address = ipaddress.ip_address(prober(region))
    ranges = [one for rule in plan.site.reach for one in rule.sources if "/" in one]
    if region.mesh:
        # Gateways take what their own network sends to others, and AWS's balancers stand in it.
        ranges.append(region.network)
    return any(address in ipaddress.ip_network(one) for one in ranges)


@given(text=sites())
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
def test_every_cloud_gives_the_same_verdict(text: str) -> None:
    plan = plan_site(parse_site(text, shown="s.yaml", stem="random"))
    verdicts: dict[str, dict[tuple[str, ...], bool]] = {}
    for region in plan.regions:
        graph = graph_of_rules(plan, region)
        lets = LETS[region.cloud]
        verdicts[region.cloud] = {name: lets(graph, one) for name, one in attempts(plan, region).items()}
    assert verdicts["gcp"].keys() == verdicts["aws"].keys() == verdicts["azure"].keys()
    for name, verdict in verdicts["aws"].items():
        if name[0] == "probe" and any(named_by_a_rule(plan, region) for region in plan.regions):
            continue  # each cloud's load balancers have other addresses, and the site's own rules let some in
        assert {cloud: verdicts[cloud][name] for cloud in verdicts} == dict.fromkeys(verdicts, verdict), name


LAB = """
name: random
ssh: {authorized_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGoocfWvOmw9qd0T1SMWjJZ6i/8oSWvGPJUCqeFTsYGO],
      sources: [198.51.100.0/24]}
clouds:
  aws: {regions: {us-east-1: &region {network: 10.1.0.0/16, hosts: {c: {role: control}, e: {role: ingress},
        g: {role: egress}, o: {role: observability}}}}}
  gcp: {project: p, regions: {us-central1: {<<: *region, network: 10.2.0.0/16}}}
  azure: {regions: {eastus: {<<: *region, network: 10.3.0.0/16}}}
"""
SURE = {
    ("address", "203.0.113.9", "ingress", "tcp", "443"): True,
    ("address", "203.0.113.9", "ingress", "tcp", "22"): False,
    ("address", "198.51.100.7", "ingress", "tcp", "22"): True,
    ("address", "198.51.100.7", "control", "tcp", "22"): True,
    ("address", "203.0.113.9", "control", "tcp", "18000"): False,
    ("address", "203.0.113.9", "ingress", "icmp", ""): True,
    ("role", "ingress", "control", "tcp", "18000"): True,
    ("role", "ingress", "control", "tcp", "8000"): False,
    ("role", "control", "control", "tcp", "5432"): True,
    ("role", "egress", "ingress", "tcp", "8082"): False,
    ("role", "observability", "egress", "tcp", "8082"): True,
    ("far", "egress", "control", "tcp", "18000"): True,
    ("far", "egress", "control", "tcp", "22"): False,
    ("probe", "", "ingress", "tcp", "8082"): True,
    ("probe", "", "control", "tcp", "8000"): False,
}


@pytest.mark.parametrize("cloud", LETS)
def test_what_the_edge_needs_gets_through_and_the_rest_does_not(cloud: str) -> None:
    plan = plan_site(parse_site(LAB, shown="s.yaml", stem="random"))
    region = next(one for one in plan.regions if one.cloud == cloud)
    graph, asked = graph_of_rules(plan, region), attempts(plan, region)
    assert {name: LETS[cloud](graph, asked[name]) for name in SURE} == SURE
