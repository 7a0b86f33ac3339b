"""The simulated clouds' networks: routes and public addresses of what the programs made, and EC2's API."""

from __future__ import annotations

import ipaddress
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("pulumi.runtime", reason="Pulumi lives in an environment of its own: pulumi/.venv")

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from edge_iac.base import SEEN_AS_OWN
from edge_iac.dns_window import CHECKS
from edge_iac.site import parse_site
from simcloud.aws.api import CREDENTIALS, Api
from simcloud.aws.network import BALANCER, INSTANCE, NAT
from simcloud.azure.network import GROUP
from simcloud.endpoint import handler, seed
from simcloud.fabric import fabric
from simcloud.gcp import network
from simcloud.gcp.metadata import PREFIX, Metadata
from simcloud.gcp.network import NAT as GCP_NAT
from simcloud.service import Asked
from simcloud.world import Record, Store

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

    def __init__(self, folder: Any, mesh: str, more: str = "") -> None:
        self.folder = folder
        site = parse_site(SITE.replace("MESH", mesh) + more, shown="s.yaml", stem="ways")
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


def test_what_a_host_sends_leaves_by_its_own_address_or_by_its_subnets_gateway(mesh: Made) -> None:
    """A NAT gateway's address is no host's own, and without the gateway inner hosts have none."""
    outbound, public = mesh.said["outbound"], mesh.said["public"]
    assert outbound.keys() == set(mesh.address.values())
    assert public.items() <= outbound.items()
    shared = {mesh.address[name]: outbound[mesh.address[name]] for name in mesh.address if "edge" not in name}
    assert len(shared) == 3 and not set(shared.values()) & set(public.values())
    assert shared[mesh.address["control-aws-us-east-1-1"]] == shared[mesh.address["backend-aws-us-east-1-1"]]
    for cloud, token in (("aws", NAT), ("gcp", GCP_NAT)):
        with Store(mesh.folder, cloud).change() as world:
            for gateway in list(world.of(token)):
                world.remove(gateway)
    assert fabric(mesh.folder)["outbound"] == public


def test_each_balancer_hands_its_ports_to_the_edges_of_its_region_as_its_cloud_does(mesh: Made) -> None:
    """Addresses are those of the inventory; who sees which destination, and who asks after whose health."""
    vips = {vip["address"]: vip for vip in mesh.graph.outputs["edge_inventory"]["vips"]}
    fronts = mesh.said["fronts"]
    assert {front["address"] for front in fronts} == vips.keys() and len(vips) == 3
    for front in fronts:
        vip = vips[front["address"]]
        cloud, as_own = vip["cloud"], vip["seen_as"] == SEEN_AS_OWN
        edges = {address for name, address in mesh.address.items() if name.startswith(f"edge-{cloud}-")}
        assert {target["address"] for target in front["targets"]} == edges
        assert {target["port"] for target in front["targets"]} == {front["port"]}
        assert front["keeps_destination"] == (cloud == "gcp") == (not as_own)
        assert (front["probe"]["port"], front["probe"]["path"]) == (8082, "/healthz")
        assert front["last_resort"] == (cloud != "azure") and front["sources"] == ("0.0.0.0/0",)
    assert {front["port"] for front in fronts} == {80, 443, 8080}
    assert {front["probe"]["interval_s"] for front in fronts} == {10, 5}


def test_health_checks_of_a_balancer_come_from_an_address_that_the_rules_of_its_targets_know(
    mesh: Made,
) -> None:
    """AWS asks from the balancer's own interface, which is in the group that the edges' rule names."""
    machines = {machine["address"]: machine for machine in mesh.said["machines"]}
    for front in mesh.said["fronts"]:
        source = ipaddress.ip_address(front["probe"]["source"])
        assert str(source) not in machines
        for target in front["targets"]:
            guards = machines[target["address"]]["guards"]
            let = [
                guard
                for guard in guards
                if guard["protocol"] == "tcp" and [8082, 8082] in map(list, guard["ports"])
            ]
            assert any(source in ipaddress.ip_network(range_) for one in let for range_ in one["sources"])


def test_without_balancing_across_zones_an_address_leads_to_its_own_zone(mesh: Made) -> None:
    store = Store(mesh.folder, "aws")
    with store.change() as world:
        [balancer] = world.of(BALANCER)
        world.remove(balancer)
        inputs = {**balancer.inputs, "enableCrossZoneLoadBalancing": False}
        world.add(replace(balancer, inputs=inputs))
        zone = world.find(balancer.inputs["subnetMappings"][0]["subnetId"]).inputs["availabilityZone"]  # type: ignore[union-attr]
        there = {
            instance.outputs["privateIp"]
            for instance in world.of(INSTANCE)
            if world.find(instance.inputs["subnetId"]).inputs["availabilityZone"] == zone  # type: ignore[union-attr]
        }
    [*fronts] = [one for one in fabric(mesh.folder)["fronts"] if one["probe"]["interval_s"] == 10]
    assert fronts and all({one["address"] for one in front["targets"]} <= there for front in fronts)


ZONES = {"aws": "Z0123456789ABC", "gcp": "zone", "azure": "group/example.com"}


@pytest.mark.parametrize("provider", ZONES)
def test_the_sites_name_has_an_answer_for_each_region_with_the_check_that_the_plan_counts_on(
    tmp_path: Any, provider: str
) -> None:
    dns = f"dns: {{provider: {provider}, zone: {ZONES[provider]}, name: edge.example.com, ttl: 20s}}\n"
    with Store(tmp_path, "azure-native").change() as world:
        # The zone is the user's, and so is its group.
        world.add(Record("/subscriptions/s/resourceGroups/group", GROUP, "eastus", {}, {"name": "group"}))
    made = Made(tmp_path, "none", dns)
    vips = {vip["address"]: vip for vip in made.graph.outputs["edge_inventory"]["vips"]}
    named = {name["name"]: name for name in made.said["names"]}
    name = named["edge.example.com"]
    if provider == "azure":
        name = named[name["alias"]]
    assert (name["ttl_s"], name["cloud"]) == (20, provider)
    given = {
        endpoint["address"]: (choice, endpoint["probe"])
        for choice in name["choices"]
        for endpoint in choice["endpoints"]
    }
    assert given.keys() == vips.keys() and len(name["choices"]) == 3
    for address, (choice, probe) in given.items():
        vip, check = vips[address], CHECKS[provider]
        assert vip["cloud"] != provider or choice["region"] == vip["region"]
        assert (probe["protocol"], probe["port"], probe["interval_s"]) == ("tcp", 443, check.interval_s)
        # Traffic Manager tolerates so many failures; the others have had enough of them then.
        assert probe["unhealthy_after"] == check.failures + (provider == "azure")


@pytest.fixture
def api(mesh: Made) -> Api:
    return Api(Store(mesh.folder, "aws"), seed(mesh.folder))


@pytest.fixture
def url(api: Api) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(api.answer)) as server:
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


def test_user_data_are_told_to_their_own_instance_alone(mesh: Made, api: Api) -> None:
    source = mesh.address["backend-aws-us-east-1-1"]
    token = metadata(api, source, "/latest/api/token", "PUT").body
    assert metadata(api, source, "/latest/user-data", token=token).body.startswith("#cloud-config")
    assert metadata(api, source, "/latest/user-data").status == 401
    assert metadata(api, "192.0.2.1", "/latest/user-data", token=token).status == 404


def test_a_google_instance_is_told_its_attributes_and_when_they_change(mesh: Made) -> None:
    """In the form of Google's agent: a header, folders as JSON, a tag of what was told, and patience."""
    source = mesh.address["backend-gcp-us-central1-1"]

    def ask(path: str, flavor: str = "Google", asker: str = source) -> Any:
        return server.answer(Asked("GET", PREFIX + path, {"metadata-flavor": flavor}, b"", asker))

    def change(_: float) -> None:
        with Store(mesh.folder, "gcp").change() as world:
            [one] = [one for one in world.of(network.INSTANCE) if source in json.dumps(one.outputs)]
            world.remove(one)
            world.add(replace(one, outputs={**one.outputs, "metadata": {"ssh-keys": "new"}}))

    server = Metadata(Store(mesh.folder, "gcp"), pause=change)
    assert ask("instance/attributes/startup-script").body.startswith("#!/bin/sh")
    assert (ask("instance/id", flavor="").status, ask("instance/id", asker="192.0.2.1").status) == (403, 404)
    assert ask("instance/nothing").status == 404
    told = ask("instance/attributes?recursive=true&alt=json")
    assert set(json.loads(told.body)) >= {"startup-script", "ssh-keys"}
    waiting = "instance/attributes?wait_for_change=true&timeout_sec=60&last_etag="
    assert ask(f"{waiting}NONE") == told
    assert json.loads(ask(waiting + told.headers["ETag"]).body) == {"ssh-keys": "new"}
