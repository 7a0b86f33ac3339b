"""A second opinion on the simulated AWS: moto, asked by the same program and with the same mistakes."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pulumi.runtime", reason="Pulumi lives in an environment of its own: pulumi/.venv")

import boto3
from botocore.exceptions import ClientError
from edge_iac.site import parse_site
from moto import mock_aws
from simcloud.schema import Refused

from tests.support.role_programs import program
from tests.unit.pulumi.support.aws_answers import Moto, Simulated
from tests.unit.pulumi.support.graph import Graph, graph_of

REGION = "us-east-1"
SITE = """
name: both
tags: {owner: tests}
ssh: {authorized_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGoocfWvOmw9qd0T1SMWjJZ6i/8oSWvGPJUCqeFTsYGO],
      sources: [198.51.100.0/24], jump: egress}
interconnect: {type: wireguard}
clouds:
  aws:
    regions:
      us-east-1: {network: 10.10.0.0/16, zones: 2, hosts: {control: {role: control}, egress: {role: egress},
                  edge: {role: ingress, count: 2}, observe: {role: observability}}}
  gcp: {project: p, regions: {us-central1: {network: 10.20.0.0/16, hosts: {edge: {role: ingress}}}}}
"""


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[Moto]:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "nobody")
    with mock_aws():
        yield Moto(REGION)


def made_by(answers: Moto | Simulated) -> Graph:
    return graph_of(parse_site(SITE, shown="s.yaml", stem="both"), answers)


def test_both_hold_the_same_after_the_same_program(moto: Moto, tmp_path: Path) -> None:
    simulated = Simulated(REGION, tmp_path)
    graphs = made_by(moto), made_by(simulated)
    assert moto.held() == simulated.held()
    for graph in graphs:
        for host in graph.outputs["edge_inventory"]["hosts"]:
            if host["cloud"] == "aws":
                subnet = graph.one("ec2/instance:Instance", host["name"]).inputs["subnetId"]
                named = next(a for a in (moto, simulated) if subnet in a.names).names[subnet]
                range_ = graph.one("ec2/subnet:Subnet", named).inputs["cidrBlock"]
                assert ipaddress.ip_address(host["private_address"]) in ipaddress.ip_network(range_)


def test_routes_of_every_named_table_follow_the_gateway_that_lives(moto: Moto) -> None:
    """The role's own call of AWS, on what the program made and put out."""
    [said] = made_by(moto).outputs["edge_inventory"]["interconnect"]["tables"]
    failover = program("interconnect_failover", "failover.py")
    [tables] = failover.tables_of(
        {"tables": [said], "networks": {"10.20.0.0/16": "gcp/us-central1"}, "command": []}
    )
    before = moto.held()["tables"]
    assert {table["10.20.0.0/16"] for table in before.values()} == {"edge-aws-us-east-1-1"}
    first, second = (gateway.address for gateway in tables.gateways)
    for _ in range(4):
        tables.seen({first: None, second: {"gcp/us-central1": "edge-gcp-us-central1-1"}})
        tables.settle()
    after = moto.held()["tables"]
    assert {table["10.20.0.0/16"] for table in after.values()} == {"edge-aws-us-east-1-2"}
    others = [
        {range_: to for range_, to in table.items() if range_ != "10.20.0.0/16"} for table in before.values()
    ]
    assert others == [
        {range_: to for range_, to in table.items() if range_ != "10.20.0.0/16"} for table in after.values()
    ]


def code_of(call: Callable[[], object]) -> str:
    """The code with which a cloud refuses; empty if it does not."""
    try:
        call()
    except ClientError as refusal:
        return str(refusal.response["Error"]["Code"])
    except Refused as refusal:
        return str(refusal).partition(":")[0]
    return ""


GROUP = {"name": "g", "description": "d"}
RULE = {"ipProtocol": "tcp", "fromPort": 443, "toPort": 443, "cidrIpv4": "0.0.0.0/0"}


@pytest.mark.parametrize(
    ("token", "inputs", "code"),
    [
        ("aws:ec2/subnet:Subnet", {"cidrBlock": "10.99.0.0/24"}, "InvalidSubnet.Range"),
        ("aws:ec2/subnet:Subnet", {"cidrBlock": "10.0.0.0/25"}, "InvalidSubnet.Conflict"),
        (
            "aws:ec2/subnet:Subnet",
            {"cidrBlock": "10.0.9.0/24", "availabilityZone": "us-east-1z"},
            "InvalidParameterValue",
        ),
        ("aws:ec2/securityGroup:SecurityGroup", GROUP, "InvalidGroup.Duplicate"),
        ("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", RULE, "InvalidPermission.Duplicate"),
    ],
)
def test_both_refuse_the_same_in_the_same_words(
    moto: Moto, tmp_path: Path, token: str, inputs: dict[str, Any], code: str
) -> None:
    codes = []
    for cloud in (moto, Simulated(REGION, tmp_path)):
        vpc, _ = cloud.make("aws:ec2/vpc:Vpc", "v", {"cidrBlock": "10.0.0.0/16"})
        zone = {"vpcId": vpc, "availabilityZone": "us-east-1a"}
        cloud.make("aws:ec2/subnet:Subnet", "s", {**zone, "cidrBlock": "10.0.0.0/24"})
        group, _ = cloud.make("aws:ec2/securityGroup:SecurityGroup", "g", {**GROUP, "vpcId": vpc})
        rule = {**RULE, "securityGroupId": group}
        cloud.make("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "r", rule)
        asked = inputs if "ipProtocol" not in inputs else rule
        if "ipProtocol" not in inputs:
            asked = {**(zone if "cidrBlock" in inputs else {"vpcId": vpc}), **inputs}
        codes.append(code_of(functools.partial(cloud.make, token, "again", dict(asked))))
    assert codes == [code, code]


def test_boto3_asks_nobody_but_moto(moto: Moto) -> None:
    assert boto3.client("sts", region_name=REGION).get_caller_identity()["Account"] == "123456789012"
