"""The simulated clouds' networks: routes and public addresses of what the programs made, and EC2's API."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("pulumi.runtime", reason="Pulumi lives in an environment of its own: pulumi/.venv")

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from edge_iac.site import parse_site
from simcloud.aws.api import CREDENTIALS, Api, Asked
from simcloud.endpoint import handler, seed
from simcloud.fabric import fabric
from simcloud.world import Store

from tests.support.role_programs import program
from tests.unit.pulumi.support.graph import Graph, graph_of
from tests.unit.pulumi.support.simulated import SimulatedClouds

SITE = """
name: ways
tags: {owner: tests}
ssh: {authorized_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGoocfWvOmw9qd0T1SMWjJZ6i/8oSWvGPJUCqeFTsYGO],
      sources: [198.51.100.0/24]}
interconnect: {type: MESH}
clouds:
  aws: {regions: {us-east-1: {network: 10.1.0.0/16, hosts: {control: {role: control},
        edge: {role: ingress, count: 3}, backend: {role: workload}}}}}
  gcp: {project: p, regions: {us-central1: {network: 10.2.0.0/16, hosts: {edge: {role: ingress, count: 2},
        backend: {role: workload}}}}}
  azure: {regions: {eastus: {network: 10.3.0.0/16, hosts: {edge: {role: ingress}}}}}
"""
REGION = "us-east-1"
NETWORKS = {"aws": "10.1.0.0/16", "gcp": "10.2.0.0/16", "azure": "10.3.0.0/16"}


class Made:
    """What the three programs made of the site, and its networks."""

    def __init__(self, folder: Any, mesh: str) -> None:
        self.folder = folder
        site = parse_site(SITE.replace("MESH", mesh), shown="s.yaml", stem="ways")
        self.graph: Graph = graph_of(site, SimulatedClouds(folder))
        self.said = fabric(folder)
        self.address = {machine["name"]: machine["address"] for machine in self.said["machines"]}

    @property
    def hosts(self) -> dict[str, dict[str, Any]]:
        return {host["name"]: host for host in self.graph.outputs["edge_inventory"]["hosts"]}

    @property
    def tables(self) -> dict[str, Any]:
        [tables] = self.graph.outputs["edge_inventory"]["interconnect"]["tables"]
        return dict(tables)


@pytest.fixture
def mesh(tmp_path: Any) -> Made:
    return Made(tmp_path, "wireguard")


def test_every_subnet_leads_to_the_other_clouds_by_what_its_table_names(mesh: Made) -> None:
    """One interface in AWS; in Google Cloud and Azure those behind the balancer that its check finds well."""
    assert {subnet["cloud"] for subnet in mesh.said["subnets"]} == set(NETWORKS)
    gateways = {
        "aws": ["edge-aws-us-east-1-1"],
        "gcp": ["edge-gcp-us-central1-1", "edge-gcp-us-central1-2"],
        "azure": ["edge-azure-eastus-1"],
    }
    for subnet in mesh.said["subnets"]:
        cloud = subnet["cloud"]
        far = {range_ for other, range_ in NETWORKS.items() if other != cloud}
        assert {route["range"] for route in subnet["routes"]} == far
        for route in subnet["routes"]:
            assert sorted(route["hops"]) == sorted(mesh.address[name] for name in gateways[cloud])
            assert (route["probe"] or {}).get("port") == (None if cloud == "aws" else 51820)


def test_without_a_mesh_no_subnet_leads_to_another_cloud(tmp_path: Any) -> None:
    assert [subnet["routes"] for subnet in Made(tmp_path, "none").said["subnets"] if subnet["routes"]] == []


def test_a_host_with_a_public_address_is_known_by_that_of_the_inventory(mesh: Made) -> None:
    public = {
        host["private_address"]: host["address"]
        for host in mesh.hosts.values()
        if host["address"] != host["private_address"]
    }
    assert mesh.said["public"] == public and len(public) == 6


@pytest.fixture
def api(mesh: Made) -> Api:
    return Api(Store(mesh.folder, "aws"), seed(mesh.folder))


@pytest.fixture
def url(api: Api) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(api)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def metadata(api: Api, source: str, path: str, method: str = "GET", token: str = "") -> Any:
    return api.answer(Asked(method, path, {"x-aws-ec2-metadata-token": token}, b"", source))


def keys_of(api: Api, source: str) -> dict[str, str]:
    token = metadata(api, source, "/latest/api/token", "PUT").body
    role = metadata(api, source, CREDENTIALS, token=token).body
    return dict(json.loads(metadata(api, source, CREDENTIALS + role, token=token).body))


def client(url: str, keys: dict[str, str]) -> Any:
    return boto3.client(
        "ec2", region_name=REGION, endpoint_url=url, aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"], aws_session_token=keys["Token"],
        config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip


def refusal(call: Any, **words: str) -> str:
    with pytest.raises(ClientError) as refused:
        call(**words)
    return str(refused.value.response["Error"]["Code"])


def test_the_role_moves_a_table_as_the_identity_of_its_control_host(
    mesh: Made, api: Api, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The role's own program, boto3 and signatures; afterwards the network leads by the other gateway."""
    failover = program("interconnect_failover", "failover.py")
    [tables] = failover.tables_of({"tables": [mesh.tables], "command": [], "endpoint": url, "networks": {}})
    dead, lives = mesh.tables["gateways"]
    # At boot there may be no keys yet; that is said, and tried again.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    tables.seen({dead["address"]: None, lives["address"]: {"far": "somebody"}})
    tables.settle()
    assert tables.pause and not any(tables.present.values())
    keys = keys_of(api, mesh.address["control-aws-us-east-1-1"])
    names = {"ACCESS_KEY_ID": "AccessKeyId", "SECRET_ACCESS_KEY": "SecretAccessKey", "SESSION_TOKEN": "Token"}
    for name, key in names.items():
        monkeypatch.setenv(f"AWS_{name}", keys[key])
    tables.pause = 0
    tables.settle()
    hops = {
        hop
        for subnet in fabric(mesh.folder)["subnets"]
        if subnet["cloud"] == "aws"
        for route in subnet["routes"]
        for hop in route["hops"]
    }
    assert hops == {lives["address"]}


def test_ec2_refuses_who_may_not_and_what_cannot_be(mesh: Made, api: Api, url: str) -> None:
    control = client(url, keys_of(api, mesh.address["control-aws-us-east-1-1"]))
    edge = client(url, keys_of(api, mesh.address["edge-aws-us-east-1-1"]))
    table, range_ = mesh.tables["tables"][0], NETWORKS["gcp"]
    good = {
        "RouteTableId": table, "DestinationCidrBlock": range_,
        "NetworkInterfaceId": mesh.tables["gateways"][1]["interface"],
    }  # fmt: skip
    assert refusal(edge.replace_route, **good) == "UnauthorizedOperation"
    assert refusal(edge.describe_route_tables, RouteTableIds=[table]) == "UnauthorizedOperation"
    assert refusal(control.replace_route, **good | {"DestinationCidrBlock": "10.9.0.0/16"}) == (
        "InvalidParameterValue"
    )
    checks = mesh.graph.one("ec2/instance:Instance", "backend-aws-us-east-1-1")
    assert checks.inputs.get("sourceDestCheck") is not False
    stolen = keys_of(api, mesh.address["control-aws-us-east-1-1"]) | {"SecretAccessKey": "guessed"}
    assert refusal(client(url, stolen).replace_route, **good) == "AuthFailure"
    control.replace_route(**good)
    again = Api(Store(mesh.folder, "aws"), seed(mesh.folder))
    assert keys_of(again, mesh.address["control-aws-us-east-1-1"]) == keys_of(
        api, mesh.address["control-aws-us-east-1-1"]
    ), "who has keys keeps them when the API starts again"


def test_metadata_is_an_instances_own_and_needs_a_token(mesh: Made, api: Api) -> None:
    source = mesh.address["control-aws-us-east-1-1"]
    assert metadata(api, source, CREDENTIALS).status == 401
    other = metadata(api, mesh.address["edge-aws-us-east-1-1"], "/latest/api/token", "PUT").body
    assert metadata(api, source, CREDENTIALS, token=other).status == 401
    assert metadata(api, mesh.address["edge-gcp-us-central1-1"], "/latest/api/token", "PUT").status == 404
