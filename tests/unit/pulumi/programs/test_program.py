"""Rules that hold for every resource of every cloud. Everything is asserted on the finished graph."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pulumi.runtime", reason="Pulumi lives in an environment of its own: pulumi/.venv")

from edge_iac.inventory import EdgeInventory
from edge_iac.site import load_site, parse_site
from edge_iac.ssh_ca import host_key
from simcloud.first_boot import OF_CLOUD

from tests.unit.pulumi.support.graph import AUTHORITY, Graph, Node, graph_of, graph_of_sites

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


def test_rules_stand_alone_or_inline_and_never_both(graph: Graph) -> None:
    """Alone in AWS, where each is an object; inline in Azure, where priorities move together or collide."""
    for node in graph.of("ec2/securityGroup:SecurityGroup"):
        assert not {"ingress", "egress"} & node.inputs.keys()
    assert graph.of("network:NetworkSecurityGroup")
    assert not graph.of("network:SecurityRule")


def test_no_two_resources_are_one_to_the_engine(graph: Graph) -> None:
    """It tells them apart by type, parents' types and name: a second one ends `up` halfway."""
    known = Counter((node.parent.partition(" ")[0], node.type, node.name) for node in graph.nodes)
    assert not [one for one, count in known.items() if count > 1]


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


def test_azure_is_told_one_thing_at_a_time_of_a_network_and_of_a_route_table(graph: Graph) -> None:
    """A second one meanwhile is refused: AnotherOperationInProgress, ReferencedResourceNotProvisioned."""
    subnets = {f"{node.type} {node.name}": node for node in graph.of("azure-native:network:Subnet")}
    before = [len(subnets.keys() & set(node.depends_on)) for node in subnets.values()]
    assert sorted(before) == list(range(len(subnets))), "each waits for all before it"
    cards = graph.of("azure-native:network:NetworkInterface")
    inner = [node for node in graph.of("azure-native:network:LoadBalancer") if node.name.endswith("-mesh")]
    assert cards and inner
    for node in (*cards, *inner):
        assert subnets.keys() <= set(node.depends_on), node
    [table] = graph.of("azure-native:network:RouteTable")
    others = {"10.10.0.0/16", "10.11.0.0/16", "10.20.0.0/16"}
    assert {route["addressPrefix"] for route in table.inputs["routes"]} == others
    assert not graph.of("azure-native:network:Route")


def test_an_address_of_azure_is_in_all_zones_of_its_region_however_many_the_site_has() -> None:
    text = (ROOT / "pulumi/sites/lab.yaml").read_text()
    for region, zones in (("eastus", ["1", "2", "3"]), ("westus", None)):
        made = graph_of(parse_site(text.replace("eastus", region), shown="lab", stem="lab"))
        addresses = made.of("azure-native:network:PublicIPAddress")
        assert {node.name for node in addresses} == {
            f"edge-azure-{region}-1", f"vip-{region}", f"{region}-nat"
        }  # fmt: skip
        for node in addresses:
            assert node.inputs.get("zones") == zones and node.ignore_changes == ("zones",), node
        inner = made.one("azure-native:network:LoadBalancer", f"{region}-mesh")
        assert inner.inputs["frontendIPConfigurations"][0].get("zones") == zones


def test_azure_refuses_last_what_its_own_rules_would_let_in(graph: Graph) -> None:
    for group in graph.of("network:NetworkSecurityGroup"):
        rules = group.inputs["securityRules"]
        last = max(rules, key=lambda rule: rule["priority"])
        assert (last["access"], last["priority"]) == ("Deny", 4096)
        assert len({rule["priority"] for rule in rules}) == len(rules)


def test_what_has_a_public_address_in_aws_waits_for_the_internet_gateway(graph: Graph) -> None:
    """Of a network without one, AWS refuses them; what waits for it goes before it, too."""
    waits = {f"{node.type} {node.name}": node.depends_on for node in graph.nodes}

    def behind(name: str) -> set[str]:
        return {name}.union(*(behind(one) for one in waits[name]))

    kinds = ("lb/loadBalancer:LoadBalancer", "ec2/eipAssociation:EipAssociation", "ec2/natGateway:NatGateway")
    for kind in kinds:
        nodes = graph.of(kind)
        assert nodes
        for node in nodes:
            found = {one.partition(" ")[0] for one in behind(f"{node.type} {node.name}")}
            assert "aws:ec2/internetGateway:InternetGateway" in found, node.name


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


def test_a_role_of_azure_is_that_of_the_subscription_of_what_it_is_given_for() -> None:
    """Azure reads it back so, and another is a new one (hashicorp/terraform-provider-azurerm#8558)."""
    vault = "/subscriptions/v/resourceGroups/g/providers/Microsoft.KeyVault/vaults/edge"
    store = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a"
    files = f"{store}/blobServices/default/containers/c"
    said = f"  azure:\n    vaults: {{ingress: {vault}}}\n    artifacts_container: {files}\n"
    text = (ROOT / "pulumi/sites/lab.yaml").read_text().replace("  azure:\n", said)
    given = graph_of(parse_site(text, shown="lab", stem="lab")).of("authorization:RoleAssignment")
    assert {(node.name, node.inputs["scope"]) for node in given} == {
        ("eastus-ingress-secrets", vault),
        ("eastus-ingress-artifacts", files),
        ("eastus-workload-artifacts", files),
    }
    for node in given:
        subscription = "/".join(node.inputs["scope"].split("/")[:3])
        assert node.inputs["roleDefinitionId"].startswith(f"{subscription}/providers/"), node


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
    assert kinds_of["aws:ec2/instance:Instance"] == (
        "ami",
        "userData",
        "instanceType",
        "rootBlockDevice.volumeSize",
    )
    disk = "bootDisk.initializeParams"
    google = (f"{disk}.image", f"{disk}.size", f"{disk}.labels", "machineType")
    assert kinds_of["gcp:compute/instance:Instance"] == google
    storage = ("storageProfile.imageReference", "storageProfile.osDisk.diskSizeGB")
    azure = (*storage, "osProfile", "hardwareProfile.vmSize")
    assert kinds_of["azure-native:compute:VirtualMachine"] == azure


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


def _without_far(node: Node) -> Node:
    """Azure's groups hold their rules."""
    rules = node.inputs.get("securityRules")
    if rules is None:
        return node
    near = [{**rule, "priority": 0} for rule in rules if "-far" not in rule["name"]]
    return replace(node, inputs={**node.inputs, "securityRules": near})


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
            assert _without_far(there) == _without_far(node)


def test_nothing_is_asked_by_the_names_of_old_versions_of_azures_api(graph: Graph) -> None:
    """Sixty for an address alone, and the time of a large site with them; nothing was ever made by one."""
    assert not [
        f"{node.name}: {node.aliases}" for node in graph.nodes if any("/v20" in one for one in node.aliases)
    ]


def test_two_runs_give_the_same_graph() -> None:
    again = graph_of(load_site("lab"))
    assert again.nodes == graph_of_sites("lab").nodes


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
