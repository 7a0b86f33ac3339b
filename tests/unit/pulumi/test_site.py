"""A site file's mistakes: all at once, each with its line and the fix, before a cloud is asked."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from edge_iac.site import load_site, parse_site
from edge_iac.site.document import parse_document
from edge_iac.site.schema import SCHEMA_FILE, json_schema

from plugins.module_utils import stack_inventory
from xds_agent.model.base import NAME_PATTERN
from xds_agent.model.problems import ModelError

SITES = Path(__file__).parents[3] / "pulumi" / "sites"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGoocfWvOmw9qd0T1SMWjJZ6i/8oSWvGPJUCqeFTsYGO a@b"
GOOD: dict[str, Any] = {
    "name": "prod",
    "ssh": {"authorized_keys": [KEY], "sources": ["198.51.100.0/24"]},
    "clouds": {
        "aws": {
            "regions": {
                "us-east-1": {
                    "network": "10.1.0.0/16",
                    "zones": 2,
                    "hosts": {"control": {"role": "control"}, "edge": {"role": "ingress", "count": 2}},
                }
            }
        },
        "gcp": {
            "project": "p",
            "regions": {"us-central1": {"network": "10.2.0.0/16", "hosts": {"edge": {"role": "ingress"}}}},
        },
        "azure": {
            "regions": {"westeurope": {"network": "10.3.0.0/16", "hosts": {"edge": {"role": "ingress"}}}}
        },
    },
}
QUIC = {
    "name": "quic", "sources": ["internet"], "targets": ["ingress"], "protocol": "udp", "ports": [443]
}  # fmt: skip
Edit = Callable[[dict[str, Any]], Any]


def problems(document: dict[str, Any], *, stem: str = "prod") -> list[str]:
    """What is wrong with ``document``, rendered."""
    text = yaml.safe_dump(document, sort_keys=False)
    try:
        parse_site(text, shown="sites/prod.yaml", stem=stem)
    except ModelError as error:
        return [problem.render() for problem in error.problems]
    return []


def aws(document: dict[str, Any]) -> dict[str, Any]:
    return document["clouds"]["aws"]["regions"]["us-east-1"]


def gcp(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["clouds"]["gcp"]["regions"]["us-central1"]
    return found


def azure(document: dict[str, Any]) -> dict[str, Any]:
    return document["clouds"]["azure"]["regions"]["westeurope"]


def test_a_good_site_has_no_problem() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize("name", ["lab", "example"])
def test_the_sites_that_come_along_are_valid_and_keep_to_the_schema(name: str) -> None:
    load_site(name)
    document = yaml.safe_load((SITES / f"{name}.yaml").read_text())
    jsonschema.Draft202012Validator(json_schema()).validate(document)


MISTAKES: dict[str, tuple[Edit, str, str]] = {
    "a size that no cloud has": (
        lambda d: aws(d)["hosts"]["edge"].update(size="huge"),
        "clouds.aws.regions.us-east-1.hosts.edge.size: 'huge' is not one of small, medium, large, xlarge",
        "",
    ),
    "a size that the region lacks": (
        lambda d: d["clouds"]["aws"]["regions"].update(
            {
                "eu-south-1": {
                    "network": "10.9.0.0/16",
                    "hosts": {"edge": {"role": "ingress", "size": "large"}},
                }
            }
        ),
        "eu-south-1.hosts.edge.size: eu-south-1 has no hosts of size 'large'",
        "sizes there: small",
    ),
    "overlapping ranges between clouds": (
        lambda d: azure(d).update(network="10.1.128.0/17"),
        "10.1.128.0/17 of azure westeurope overlaps 10.1.0.0/16 of aws us-east-1",
        "give every region a range of its own",
    ),
    "more zones than the region has": (
        lambda d: azure(d).update(zones=4),
        "clouds.azure.regions.westeurope.zones: 4 zones are wanted, westeurope has 3 (1, 2, 3)",
        "use at most 3",
    ),
    "a region without zones": (
        lambda d: d["clouds"]["azure"]["regions"].update(westus={"network": "10.8.0.0/16", "zones": 2}),
        "2 zones are wanted, westus has none",
        "use at most 1",
    ),
    "a zone that is not there": (
        lambda d: aws(d).update(zone_names=["us-east-1a", "us-east-1z"]),
        "us-east-1 has no zone 'us-east-1z'",
        "did you mean",
    ),
    "a region that is not there": (
        lambda d: d["clouds"]["azure"]["regions"].update(westeurop={"network": "10.8.0.0/16"}),
        "azure has no region 'westeurop'",
        "did you mean 'westeurope'?",
    ),
    "a name too long for Azure": (
        lambda d: (
            d.update(name="a-site-with-quite-a-long-name"),
            azure(d)["hosts"].update({"edge-hosts-of-the-long-kind": {"role": "ingress"}}),
        ),
        "characters, Azure takes 64 for a host",
        "shorten the name of the pool or of the site",
    ),
    "a name too long for a balancer of AWS": (
        lambda d: d.update(name="a-site-with-quite-a-long-name"),
        "is too long for a load balancer of AWS (32)",
        "shorten the name of the site",
    ),
    "a rule's name too long for Google Cloud": (
        lambda d: d.update(
            reach=[{"name": "a" * 32, "sources": ["internet"], "targets": ["observability"], "ports": [80]}]
        ),
        "is too long for a firewall rule of Google Cloud (63)",
        "shorten the name of the rule",
    ),
    "SSH open to everybody": (
        lambda d: d["ssh"].update(sources=["0.0.0.0/0"]),
        "ssh.sources[0]: 0.0.0.0/0 opens SSH to everybody",
        "open: true",
    ),
    "SSH open to everybody by another rule": (
        lambda d: d.update(
            reach=[{"name": "x", "sources": ["internet"], "targets": ["ingress"], "ports": ["20-30"]}]
        ),
        "reach[x].ports: opens SSH to everybody",
        "leave port 22 out",
    ),
    "a range with host bits": (
        lambda d: aws(d).update(network="10.1.0.1/16"),
        "'10.1.0.1/16' is not the beginning of a network",
        "write 10.1.0.0/16",
    ),
    "a public range": (
        lambda d: aws(d).update(network="8.8.0.0/16"),
        "8.8.0.0/16 is not private",
        "within 10.0",
    ),
    "a range too small": (
        lambda d: aws(d).update(network="10.1.0.0/27"),
        "10.1.0.0/27 is a /27",
        "/16 to /24",
    ),
    "more hosts than fit": (
        lambda d: (aws(d).update(network="10.1.0.0/24"), aws(d)["hosts"]["edge"].update(count=40)),
        "20 hosts of edge in one zone do not fit a subnet of 10.1.0.0/24, which has room for 3",
        "use a larger network",
    ),
    "no hosts at all": (
        lambda d: [
            region.pop("hosts") for cloud in d["clouds"].values() for region in cloud["regions"].values()
        ],
        "clouds: no region has hosts",
        "pulumi destroy",
    ),
    "more ingress hosts than a balancer of AWS takes": (
        # A port of both protocols is one listener: three ports, not four.
        lambda d: (aws(d)["hosts"]["edge"].update(count=167), d.update(reach=[QUIC])),
        "hosts: 167 ingress hosts on 3 ports are 501 targets, and a load balancer of AWS takes 500",
        "at most 166 here",
    ),
    "no control": (
        lambda d: aws(d)["hosts"].pop("control"),
        "no pool has role: control",
        "control: {role: control}",
    ),
    "an image that may change": (
        lambda d: azure(d).update(image="debian:debian-12:12-gen2:latest"),
        "names the latest version, which changes",
        "give one exact image",
    ),
    "an unknown key": (
        lambda d: aws(d).update(netwrok="x"),
        "unknown key 'netwrok'",
        "did you mean 'network'?",
    ),
    "a source that is no role": (
        lambda d: d.update(
            reach=[{"name": "x", "sources": ["ingres"], "targets": ["workload"], "ports": [80]}]
        ),
        "'ingres' is no role",
        "did you mean 'ingress'?",
    ),
    "a DNS provider that is no cloud of the site": (
        lambda d: (
            d["clouds"].pop("azure"),
            d.update(dns={"provider": "azure", "zone": "g/z", "name": "a.example.com"}),
        ),
        "the site has no cloud 'azure'",
        "",
    ),
    "another name than the file's": (
        lambda d: d.update(name="other"),
        "'other' is not the name of the file",
        "prod",
    ),
    "IPv6 in Azure": (lambda d: azure(d).update(ipv6=True), "IPv6 in Azure is not made", "leave ipv6 out"),
    "a rule called as one of the edge's own": (
        lambda d: d.update(
            reach=[{"name": "clients", "sources": ["internet"], "targets": ["ingress"], "ports": [9443]}]
        ),
        "reach[clients].name: 'clients' is what a rule of the edge's own is called",
        "choose another name",
    ),
    "SSH open to everybody by halves": (
        lambda d: d["ssh"].update(sources=["0.0.0.0/1", "128.0.0.0/1"]),
        "ssh.sources: 0.0.0.0/1, 128.0.0.0/1 together open SSH to everybody",
        "open: true",
    ),
    "SSH open to everybody by halves of another rule": (
        lambda d: d.update(
            reach=[{"name": "x", "sources": ["::/1", "8000::/1"], "targets": ["egress"], "ports": [22]}]
        ),
        "reach[x].ports: opens SSH to everybody",
        "leave port 22 out",
    ),
    "more ports than a balancer takes": (
        lambda d: d.update(
            reach=[
                {
                    "name": "x",
                    "sources": ["0.0.0.0/0"],
                    "targets": ["ingress"],
                    "ports": [f"{at}-{at + 15}" for at in (9000, 9100, 9200)],
                }
            ]
        ),
        "reach[x].ports: load balancers would take 51 ports from the internet",
        "load_balancer: false",
    ),
    "more hosts of several pools than fit": (
        lambda d: (
            aws(d).update(network="10.1.0.0/23", zones=1),
            aws(d)["hosts"]["edge"].update(count=12),
            aws(d)["hosts"].update(out={"role": "egress", "count": 8}),
        ),
        "hosts: 20 hosts of edge, out do not fit a subnet of 10.1.0.0/23, which has room for 19",
        "use a larger network",
    ),
    "a disk smaller than Azure's image": (
        lambda d: azure(d)["hosts"]["edge"].update(disk_gb=10),
        "westeurope.hosts.edge.disk_gb: 10 GB is less than Azure's image",
        "use at least 30",
    ),
    "a disk larger than Azure boots from": (
        lambda d: azure(d)["hosts"]["edge"].update(disk_gb=4096),
        "westeurope.hosts.edge.disk_gb: 4096 GB is more than a machine of Azure boots from",
        "use at most 4095",
    ),
    "a tag that Azure keeps for itself": (
        lambda d: d.update(tags={"azure-team": "x"}),
        "tags.azure-team: Azure takes no tag that begins with microsoft, azure or windows",
        "choose another key",
    ),
    "a vault that is named by no id": (
        lambda d: d["clouds"]["azure"].update(vaults={"ingress": "edge-ingress"}),
        "clouds.azure.vaults.ingress: 'edge-ingress' is no id of that kind",
        "write /subscriptions/ID/resourceGroups/GROUP/providers/Microsoft.KeyVault/vaults/NAME",
    ),
    "a port that balancers of Azure do not take": (
        lambda d: d.update(
            reach=[{"name": "x", "sources": ["internet"], "targets": ["ingress"], "ports": [65535]}]
        ),
        "reach: load balancers of Azure take ports up to 65534 from the internet",
        "open another port",
    ),
    "a name that Azure keeps for itself": (
        lambda d: d.update(name="login"),
        "name: Azure makes no public address with 'login' in its name",
        "choose another name",
    ),
    "a pool called as Azure calls no public address": (
        lambda d: azure(d)["hosts"].update({"windows": {"role": "egress"}}),
        "westeurope.hosts.windows: Azure makes no public address with 'windows' in its name",
        "another name for the pool",
    ),
    "a login that Azure does not make": (
        lambda d: d["ssh"].update(user="admin"),
        "ssh.user: Azure makes no login 'admin'",
        "such as edge",
    ),
    "a key that Azure does not take": (
        lambda d: d["ssh"].update(authorized_keys=[KEY, "ecdsa-sha2-nistp256 AAAA x"]),
        "ssh.authorized_keys[1]: Azure takes no key of type ecdsa-sha2-nistp256",
        "Ed25519",
    ),
    "a tag that is the program's own": (
        lambda d: d.update(tags={"name": "x"}),
        "tags.name: is a tag that the program writes itself",
        "another key",
    ),
    "a tag that is no label of Google Cloud": (
        lambda d: d.update(tags={"2nd": "x"}),
        "tags.2nd: '2nd' is no label of Google Cloud",
        "begin the key with a letter",
    ),
    "groups that no label of Google Cloud holds": (
        lambda d: gcp(d)["hosts"]["edge"].update(groups=["a" * 30, "b" * 23]),
        f"us-central1.hosts.edge.groups: 'ingress_l4_{'a' * 30}_{'b' * 23}' has 65 characters, "
        "Google Cloud takes 63 as the value of a tag",
        "fewer groups",
    ),
    "groups that no tag of AWS holds": (
        lambda d: aws(d)["hosts"]["edge"].update(groups=["a" * 246]),
        "has 257 characters, AWS takes 256 as the value of a tag",
        "shorter names",
    ),
    "groups that no tag of Azure holds": (
        lambda d: azure(d)["hosts"]["edge"].update(groups=["a" * 246]),
        "has 257 characters, Azure takes 256 as the value of a tag",
        "shorter names",
    ),
    "more tags than a thing of a cloud has": (
        lambda d: d.update(tags={f"t{number}": "x" for number in range(46)}),
        "tags: 46 are more than the site's clouds take beside the program's own (45)",
        "leave some out",
    ),
    "a name with which security groups of AWS may not begin": (
        lambda d: d.update(name="sg-prod"),
        "name: AWS makes no security group whose name begins with 'sg-'",
        "another name",
    ),
    "a name with which load balancers of AWS may not begin": (
        lambda d: d.update(name="internal"),
        "name: AWS makes no load balancer whose name begins with 'internal-'",
        "another name",
    ),
    "more keys than user data of AWS hold": (
        lambda d: d["ssh"].update(authorized_keys=[f"ssh-rsa {'A' * 716} {at}" for at in range(18)]),
        "ssh.authorized_keys: 13238 bytes of keys are more than user data of AWS have room for (13000)",
        "Ed25519",
    ),
    "a port that a site file cannot change": (
        lambda d: d.update(ports={"envoy_admin": 9901}),
        "ports.envoy_admin: changes nothing in a site file",
        "edge.yml",
    ),
    "a group that the inventory would refuse": (
        lambda d: aws(d)["hosts"]["edge"].update(groups=["shop-backends"]),
        "'shop-backends' is not a name of an inventory group",
        "digits and '_'",
    ),
    "a group that the edge gives by role": (
        lambda d: aws(d)["hosts"]["edge"].update(groups=["l4", "control"]),
        "hosts.edge.groups: 'control' is a group that the inventory makes itself",
        "said by role",
    ),
    "a group of Ansible's own": (
        lambda d: azure(d)["hosts"]["edge"].update(groups=["all"]),
        "hosts.edge.groups: 'all' is a group that the inventory makes itself",
        "another name",
    ),
    "a zone twice": (
        lambda d: aws(d).update(zone_names=["us-east-1a", "us-east-1a"]),
        "zone_names: zone 'us-east-1a' is there 2 times",
        "each zone once",
    ),
    "two processes on one port": (
        lambda d: d.update(ports={"agent_metrics": 443}),
        "ports.agent_metrics: 443 is ports.https too, on ingress hosts",
        "a port of its own",
    ),
    "the port of the database": (
        lambda d: d.update(ports={"xds": 5432}),
        "ports.xds: 5432 is the database of control too, on control hosts",
        "a port of its own",
    ),
    "a way in through hosts that are not there": (
        lambda d: d["ssh"].update(jump="egress"),
        "us-east-1.hosts: us-east-1 has no egress host to log in through to control",
        "role: egress",
    ),
    "a way in that nobody reaches": (
        lambda d: d["ssh"].update(jump="ingress", sources=[]),
        "ssh.jump: nobody reaches the ingress hosts",
        "ssh.sources",
    ),
    "a pattern as a beginning of secrets": (
        lambda d: d["clouds"]["aws"].update(secrets_prefix="*"),
        "aws.secrets_prefix: '*' is not a beginning of names of secrets",
        "letters, digits",
    ),
    "a quotation mark in a condition": (
        lambda d: d["clouds"]["gcp"].update(secrets_prefix='x") || true || ("'),
        "is not a beginning of names of secrets",
        "letters, digits",
    ),
    "a pattern as a bucket": (
        lambda d: d["clouds"]["aws"].update(artifacts_bucket="e*"),
        "aws.artifacts_bucket: 'e*' is not a name of a bucket",
        "lower-case",
    ),
    "a name that is kept for half a second": (
        lambda d: d.update(dns={"provider": "aws", "zone": "Z1", "name": "a.example.com", "ttl": "1500ms"}),
        "dns.ttl: is no whole number of seconds",
        "60s",
    ),
    "an SSH key that is none": (
        lambda d: d["ssh"].update(authorized_keys=["hello"]),
        "'hello' is not a public SSH key",
        ".pub",
    ),
}


def test_names_that_only_the_balancers_of_aws_may_not_have_are_free_without_one() -> None:
    document = copy.deepcopy(GOOD) | {"name": "internal-prod"}
    aws(document)["load_balancer"] = False
    assert problems(document, stem="internal-prod") == []


def test_as_many_groups_and_tags_as_the_clouds_take_are_taken() -> None:
    document = copy.deepcopy(GOOD) | {"tags": {f"t{number}": "x" for number in range(45)}}
    gcp(document)["hosts"]["edge"]["groups"] = ["a" * 30, "b" * 21]
    for one in (aws, azure):
        one(document)["hosts"]["edge"]["groups"] = ["a" * 245]
    assert problems(document) == []


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_says_its_line_and_the_fix(what: str) -> None:
    edit, words, fix = MISTAKES[what]
    document = copy.deepcopy(GOOD)
    edit(document)
    found = [one for one in problems(document) if words in one]
    assert len(found) == 1, problems(document)
    assert fix in found[0]
    assert "sites/prod.yaml:" in found[0]


def test_all_mistakes_are_said_at_once() -> None:
    document = copy.deepcopy(GOOD)
    aws(document)["hosts"]["edge"]["size"] = "huge"
    azure(document)["zones"] = 9
    azure(document)["network"] = "10.1.0.0/16"
    document["clouds"]["gcp"]["regions"]["us-central1"]["hosts"]["edge"]["role"] = "router"
    assert len(problems(document)) == 4


def test_the_line_is_that_of_the_key() -> None:
    text = yaml.safe_dump(GOOD, sort_keys=False).replace("zones: 2", "zones: 7")
    with pytest.raises(ModelError) as caught:
        parse_site(text, shown="s.yaml", stem="prod")
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "zones: 7" in line)
    assert [problem.origin for problem in caught.value.problems] == [f"s.yaml:{line}:9"]


def test_a_mapping_may_take_over_another_and_change_a_key_of_it() -> None:
    text = yaml.safe_dump(GOOD, sort_keys=False).replace("gcp:\n", "gcp: &gcp\n")
    merged = text + "x: {<<: *gcp, project: other}\n"
    assert parse_document(merged, "s.yaml")[0]["x"]["project"] == "other"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the site file is empty"),
        ("- a\n", "is not a mapping"),
        ("name: [\n", "YAML"),
        ("name: a\nname: b\n", "key 'name' is there twice"),
        ("name: &a [*a]\n", "something in it holds itself"),
    ],
)
def test_what_is_no_site_at_all_is_one_clear_error(text: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        parse_site(text, shown="s.yaml", stem="s")
    assert (caught.value.problems[0].origin or "").startswith("s.yaml")


def test_a_missing_file_names_the_sites_that_are_there() -> None:
    with pytest.raises(ModelError, match="sites that are there: example, lab"):
        load_site("nosuch")


def test_the_schema_in_the_tree_is_that_of_the_model() -> None:
    assert json.loads(SCHEMA_FILE.read_text()) == json_schema(), (
        "script/site-plan schema -o pulumi/schema/site.schema.json"
    )


def test_names_mean_the_same_to_the_site_to_the_output_and_to_the_inventory() -> None:
    """What the site takes as group or host, the plugin takes: else all is made, and then refused."""
    groups = re.compile(str(json_schema()["$defs"]["Pool"]["properties"]["groups"]["items"]["pattern"]))
    words = ["shop", "shop_backends", "_x", "a1", "shop-backends", "1a", "Shop", "a.b", "", "a b", "all_"]
    for word in words:
        assert bool(groups.fullmatch(word)) is bool(stack_inventory._GROUP.fullmatch(word)), word
    labels = re.compile(str(json_schema()["properties"]["name"]["pattern"]))
    for pool in ("edge", "a", "edge-2", "a" * 32, "edge_2", "Edge", "-a"):
        name = f"{pool}-aws-us-east-1-1"
        assert not labels.fullmatch(pool) or (
            stack_inventory._NAME.fullmatch(name) and re.fullmatch(NAME_PATTERN, name)
        )
