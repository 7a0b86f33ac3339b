"""Rules that hold for every resource of every cloud. Everything is asserted on the finished graph."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pulumi.runtime", reason="Pulumi lives in an environment of its own: pulumi/.venv")

from edge_iac.inventory import EdgeInventory
from edge_iac.program import run
from edge_iac.site import load_site, parse_site
from edge_iac.ssh_ca import host_key
from simcloud.first_boot import OF_CLOUD

import pulumi
from tests.unit.pulumi.support.graph import AUTHORITY, Graph, graph_of, graph_of_sites, run_program

ROOT = Path(__file__).parents[4]
REGIONS = ("us-east-1", "eu-central-1", "us-central1", "westeurope")


@pytest.fixture(scope="module")
def graph() -> Graph:
    """The example site: four regions of three clouds."""
    return graph_of_sites("example")


def resources(graph: Graph) -> list:
    return [node for node in graph.nodes if not node.type.startswith(("edge:", "pulumi:"))]


def test_every_resource_has_a_component_and_the_provider_of_its_region(graph: Graph) -> None:
    assert len(resources(graph)) > 150
    for node in resources(graph):
        assert re.match(r"edge:(aws|gcp|azure):\w+ ", node.parent), node
        cloud = node.type.partition(":")[0].removesuffix("-native")
        assert node.provider.startswith(f"{cloud}-"), node
        # Names say the region; what belongs to an account or a name goes through the first region.
        region = next((one for one in REGIONS if one in node.parent), None)
        if region is not None:
            assert node.provider == f"{cloud}-{region}", node


def test_addresses_and_names_outlive_hosts_and_stack_and_nothing_else_does(graph: Graph) -> None:
    kept = {(node.type.rpartition(":")[2], node.name) for node in graph.nodes if node.protect}
    assert kept == {(node.type.rpartition(":")[2], node.name) for node in graph.nodes if node.retain}
    inventory = graph.outputs["edge_inventory"]
    public = [host["name"] for host in inventory["hosts"] if host["address"] != host["private_address"]]
    assert len(public) == 14
    assert {name for _, name in kept if name.startswith(("edge-", "egress-"))} == set(public)
    kinds = {kind for kind, _ in kept}
    # A record of Route 53 answers for one region, and goes with it.
    assert kinds == {"Eip", "Address", "PublicIPAddress", "ResourceGroup"}
    # A resource group that goes takes all that lies in it along.
    for node in graph.of("network:PublicIPAddress"):
        assert node.protect == node.inputs["resourceGroupName"].endswith("-kept")


def test_forwarding_hosts_are_let_and_others_are_not(graph: Graph) -> None:
    for node in graph.of("ec2/instance:Instance"):
        role = node.inputs["tags"]["edge-role"]
        assert node.inputs["sourceDestCheck"] is (role not in ("ingress", "egress"))
    for node in graph.of("gcp:compute/instance:Instance"):
        assert node.inputs["canIpForward"] is True
    for node in graph.of("network:NetworkInterface"):
        assert node.inputs["enableIPForwarding"] is True
        assert node.inputs["enableAcceleratedNetworking"] is True


def test_control_has_no_public_address(graph: Graph) -> None:
    associated = {node.name for node in graph.of("ec2/eipAssociation:EipAssociation")}
    assert not [name for name in associated if name.startswith(("control", "observe"))]
    assert len(associated) == 8


def test_rules_stand_alone_and_never_inline(graph: Graph) -> None:
    for node in graph.of("ec2/securityGroup:SecurityGroup"):
        assert not {"ingress", "egress"} & node.inputs.keys()
    for node in graph.of("network:NetworkSecurityGroup"):
        assert "securityRules" not in node.inputs


def test_aws_is_asked_once_for_what_two_rules_open() -> None:
    """AWS refuses a second rule that opens the same: InvalidPermission.Duplicate, in the middle of `up`."""
    twice = "\n".join(
        f"  - {{name: {name}, sources: [internet, ingress], targets: [ingress], ports: ['443', '9000-9010']}}"
        for name in ("one", "two")
    )
    text = (ROOT / "pulumi/sites/lab.yaml").read_text().replace("reach:\n", f"reach:\n{twice}\n")
    made = graph_of(parse_site(text, shown="lab.yaml", stem="lab")).of("SecurityGroupIngressRule")
    kinds = ("securityGroupId", "ipProtocol", "fromPort", "toPort")
    sources = ("cidrIpv4", "cidrIpv6", "referencedSecurityGroupId")
    opened = [tuple(node.inputs.get(key) for key in (*kinds, *sources)) for node in made]
    assert len(set(opened)) == len(opened)
    assert sum(1 for one in opened if one[2:5] == (9000, 9010, "0.0.0.0/0")) == 1


def test_azure_refuses_last_what_its_own_rules_would_let_in(graph: Graph) -> None:
    for group in graph.of("network:NetworkSecurityGroup"):
        name = group.inputs["networkSecurityGroupName"]
        rules = [
            node.inputs
            for node in graph.of("network:SecurityRule")
            if node.inputs["networkSecurityGroupName"] == name
        ]
        last = max(rules, key=lambda rule: rule["priority"])
        assert (last["access"], last["priority"]) == ("Deny", 4096)
        assert len({rule["priority"] for rule in rules}) == len(rules)


def test_hosts_may_read_what_the_site_names_and_nothing_else(graph: Graph) -> None:
    for node in graph.of("iam/rolePolicy:RolePolicy"):
        statement, *more = json.loads(node.inputs["policy"])["Statement"]
        if node.name.endswith("-routes"):
            assert [one["Action"] for one in more] == [["ec2:DescribeRouteTables"]]
            assert statement["Action"] == ["ec2:ReplaceRoute"] and node.inputs["role"] == "example-control"
            assert all("route-table/" in one and not one.endswith("*") for one in statement["Resource"])
            continue
        assert more == []
        assert statement["Action"] == ["secretsmanager:GetSecretValue"]
        # Those of its own role: what faces the internet reads no secret of control.
        role = {"observe": "observability"}.get(node.name[len("example-") :], node.name[len("example-") :])
        secrets = f"arn:aws:secretsmanager:*:123456789012:secret:edge/example/{role}/*"
        assert statement["Resource"] == [secrets]
    for node in graph.of("projects/iAMMember:IAMMember"):
        role = node.name.removeprefix("example-").removesuffix("-secrets")
        assert f'startsWith("edge-example-{role}-")' in node.inputs["condition"]["expression"]
    assert graph.of("authorization:RoleAssignment") == []


def test_the_output_is_the_inventory_and_holds_nothing_secret(graph: Graph) -> None:
    assert graph.secret_outputs == []
    inventory = graph.outputs["edge_inventory"]
    EdgeInventory.model_validate(inventory)
    text = json.dumps(inventory)
    assert "PRIVATE KEY" not in text
    names = [host["name"] for host in inventory["hosts"]]
    assert len(names) == len(set(names)) == 18
    seen = {vip["name"]: vip["seen_as"] for vip in inventory["vips"]}
    assert seen["aws-us-east-1-1"] == seen["azure-westeurope"] == "private_address"
    google = next(vip for vip in inventory["vips"] if vip["cloud"] == "gcp")
    assert google["seen_as"] == google["address"]
    jumps = {host["name"]: host.get("jump") for host in inventory["hosts"]}
    assert jumps["control-aws-us-east-1-1"] == "egress-aws-us-east-1-1"
    assert jumps["edge-gcp-us-central1-1"] is None
    assert inventory["prices"]["gcp"]["us-central1"] == {"egress_usd_per_gb": 0.12}


def test_private_keys_go_to_their_host_as_secrets_and_nowhere_else(graph: Graph) -> None:
    secret = {"ec2/instance:Instance": "userData", "compute/instance:Instance": "metadata"}
    for kind, key in {**secret, "compute:VirtualMachine": "osProfile"}.items():
        nodes = graph.of(kind)
        assert nodes
        assert all(key in node.secrets for node in nodes)
    for node in graph.nodes:
        plain = {key: value for key, value in node.inputs.items() if key not in node.secrets}
        assert "PRIVATE KEY" not in json.dumps(plain, default=str), node
    (one,) = (node for node in graph.of("compute:VirtualMachine") if node.name == "edge-azure-westeurope-1")
    data = base64.b64decode(one.inputs["osProfile"]["customData"]).decode()
    assert '"hostname": "edge-azure-westeurope-1"' in data


def test_a_google_host_is_told_in_the_words_of_its_guest_agent(graph: Graph) -> None:
    # Google's Debian images have no cloud-init: `user-data` would be read by nobody.
    for node in graph.of("compute/instance:Instance"):
        if not node.type.startswith("gcp:"):
            continue
        metadata = node.inputs["metadata"]
        assert "user-data" not in metadata
        assert metadata["ssh-keys"].startswith("edge:ssh-ed25519 ")
        assert "ssh-ed25519-cert-v01@openssh.com" in metadata["startup-script"]


def test_what_is_given_at_the_first_boot_replaces_only_hosts_that_are_named() -> None:
    name = "edge-aws-us-east-1-1"
    line = "      us-east-1:\n"
    text = (ROOT / "pulumi/sites/lab.yaml").read_text().replace(line, f"{line}        renew: [{name}]\n")
    renewing = graph_of(parse_site(text, shown="lab", stem="lab"))
    kinds = ("ec2/instance:Instance", "gcp:compute/instance:Instance", "compute:VirtualMachine")
    for node in [node for kind in kinds for node in renewing.of(kind)]:
        assert bool(node.ignore_changes) is (node.name != name), node
    kinds_of = {node.type: node.ignore_changes for node in graph_of_sites("lab").nodes if node.ignore_changes}
    assert kinds_of["aws:ec2/instance:Instance"] == ("ami", "userData")
    assert kinds_of["gcp:compute/instance:Instance"] == ("bootDisk.initializeParams.image",)
    assert kinds_of["azure-native:compute:VirtualMachine"] == ("storageProfile.imageReference", "osProfile")


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
def test_an_address_without_a_host_is_kept_or_released_as_the_site_says(cloud: str) -> None:
    region = {"aws": "us-east-1", "gcp": "us-central1", "azure": "eastus"}[cloud]
    kept, released = f"edge-{cloud}-{region}-8", f"edge-{cloud}-{region}-9"
    line = f"      {region}:\n"
    said = f"{line}        addresses: {{{kept}: kept, {released}: released}}\n"
    text = (ROOT / "pulumi/sites/lab.yaml").read_text().replace(line, said)
    idle = {node.name: node for node in graph_of(parse_site(text, shown="lab", stem="lab")).nodes
            if node.name in (kept, released)}  # fmt: skip
    assert {name: (node.protect, node.retain) for name, node in idle.items()} == {
        kept: (True, True),
        released: (False, False),
    }


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
def test_nothing_is_protected_in_a_region_that_leaves(cloud: str) -> None:
    region = {"aws": "us-east-1", "gcp": "us-central1", "azure": "eastus"}[cloud]
    line = f"      {region}:\n"
    text = (ROOT / "pulumi/sites/lab.yaml").read_text().replace(line, f"{line}        leaving: true\n")
    nodes = graph_of(parse_site(text, shown="lab", stem="lab")).nodes
    protected = {
        node.parent.partition(":")[2].partition(":")[0] for node in nodes if node.protect or node.retain
    }
    assert protected == {"aws", "gcp", "azure"} - {cloud}


MORE = {
    "aws": (
        "      us-east-1:\n",
        "      af-south-1: {network: 10.204.0.0/22, hosts: {edge: {role: egress}}}\n",
    ),
    "gcp": (
        "      us-central1:\n",
        "      asia-east1: {network: 10.205.0.0/22, hosts: {edge: {role: egress}}}\n",
    ),
    "azure": (
        "      eastus:\n",
        "      australiaeast: {network: 10.206.0.0/22, hosts: {edge: {role: egress}}}\n",
    ),
}


@pytest.mark.parametrize("cloud", MORE)
def test_a_region_that_comes_first_moves_nothing_that_is_there(cloud: str) -> None:
    # A region more is a route more for every other one where a mesh joins them.
    text = (ROOT / "pulumi/sites/lab.yaml").read_text().replace("interconnect: {type: wireguard}\n", "")
    before = graph_of(parse_site(text, shown="lab", stem="lab"))
    line, more = MORE[cloud]
    grown = parse_site(text.replace(line, more + line), shown="lab", stem="lab")
    after = {(node.type, node.name): node for node in graph_of(grown).nodes}
    for node in before.nodes:
        there = after[node.type, node.name]
        assert (there.parent, there.provider, there.protect) == (node.parent, node.provider, node.protect)
        # Control has one more range to take node agents from; everything else is as it was.
        if "-far" not in node.name:
            assert there == node


def test_nothing_is_asked_by_the_names_of_old_versions_of_azures_api(graph: Graph) -> None:
    """Sixty for an address alone, and the time of a large site with them; nothing was ever made by one."""
    assert not [
        f"{node.name}: {node.aliases}" for node in graph.nodes if any("/v20" in one for one in node.aliases)
    ]


def test_two_runs_give_the_same_graph() -> None:
    again = graph_of(load_site("lab"))
    assert again.nodes == graph_of_sites("lab").nodes


def refused(monkeypatch: pytest.MonkeyPatch, *, skip: bool = True, stack: str = "lab", **config: str) -> str:
    """What `run` says when it refuses; nothing may have been registered by then."""
    if skip:
        monkeypatch.setenv("EDGE_SKIP_CREDENTIALS", "1")
    with pytest.raises(pulumi.RunError) as caught:
        run_program(run, stack=stack, config=config)
    return str(caught.value)


def test_a_stack_without_an_authority_says_how_to_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "pulumi config set --secret edge:hostCaKey" in refused(monkeypatch)


def test_a_wrong_site_file_stops_the_program_with_every_mistake(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (
        (ROOT / "pulumi/sites/lab.yaml")
        .read_text()
        .replace("zones: 2", "zones: 6")
        .replace("owner:", "Owner:")
    )
    (tmp_path / "lab.yaml").write_text(text)
    said = refused(monkeypatch, site=str(tmp_path / "lab.yaml"), hostCaKey=AUTHORITY)
    assert "6 zones are wanted" in said
    assert "'Owner' is not a tag" in said


def test_no_credentials_stop_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "EDGE_SKIP_CREDENTIALS", "GOOGLE_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    said = refused(monkeypatch, skip=False, hostCaKey=AUTHORITY)
    assert "no AWS_ACCESS_KEY_ID" in said


def test_a_key_that_signs_nothing_is_refused_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_iac.program.make", lambda *_, **__: pytest.fail("something was made"))
    said = refused(monkeypatch, hostCaKey="hello")
    assert "edge:hostCaKey cannot be used: it is not a private SSH key" in said


def test_a_stack_that_is_called_as_no_site_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(monkeypatch, stack="try", hostCaKey=AUTHORITY)
    assert "stack try has no site" in said and "pulumi config set edge:site NAME" in said


def test_only_the_sdk_of_a_chosen_cloud_is_imported() -> None:
    script = (
        "import sys; sys.path[:0] = ['pulumi', '.'];"
        "import edge_iac.program;"
        "print([name for name in sys.modules if name.startswith('pulumi_')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_host_takes_logins_and_shows_the_signed_key_whatever_its_image_reads(
    graph: Graph,
) -> None:
    """What each image makes of what the program gives it, as the simulated clouds know it."""
    kinds = {"ec2/instance:Instance": "aws", "gcp:compute/instance:Instance": "gcp"}
    kinds["compute:VirtualMachine"] = "azure-native"
    keys = load_site("example").ssh.authorized_keys
    for kind, cloud in kinds.items():
        nodes = graph.of(kind)
        assert nodes
        for node in nodes:
            booted = OF_CLOUD[cloud](node.inputs)
            assert booted.logins == {"edge": keys}, node.name
            private = host_key(AUTHORITY, site="example", host=node.name).private.strip()
            assert private in (booted.host_key or booted.script), node.name
