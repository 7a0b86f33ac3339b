"""No edit of a site file takes more hosts away than `site-plan` names."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

pytest.importorskip("pulumi.runtime", reason="Pulumi lives in an environment of its own: pulumi/.venv")

from edge_iac.plan import plan_site
from edge_iac.plan.changes import changes
from edge_iac.plan.host_changes import LATER, REPLACED, STOPPED
from edge_iac.site import Site, parse_site
from pulumi.runtime import MockResourceArgs
from simcloud.aws import CLOUD as AWS
from simcloud.azure import CLOUD as AZURE
from simcloud.cloud import Cloud
from simcloud.gcp import CLOUD as GCP

from tests.support.cloud_sites import REGIONS, site_of
from tests.unit.pulumi.support.answers import Answers
from tests.unit.pulumi.support.graph import Node, graph_of

MACHINES = {
    "aws:ec2/instance:Instance": (AWS, "instanceType"),
    "gcp:compute/instance:Instance": (GCP, "machineType"),
    "azure-native:compute:VirtualMachine": (AZURE, "hardwareProfile"),
}
OTHER_ZONE = {"aws": "us-east-1b", "gcp": "us-central1-b", "azure": "2"}
Edit = Callable[[str, dict[str, Any], dict[str, Any]], Any]
"""Takes the cloud, a region of it, and the whole site."""
EDITS: dict[str, Edit] = {
    "a tag": lambda _cloud, _region, site: site.update(tags={"owner": "others"}),
    "a group": lambda _cloud, region, _site: region["hosts"]["edge"].update(groups=["shop"]),
    "a disk": lambda _cloud, region, _site: region["hosts"]["edge"].update(disk_gb=60),
    "a size": lambda _cloud, region, _site: region["hosts"]["edge"].update(size="medium"),
    "forwarding": lambda _cloud, region, _site: region["hosts"]["edge"].update(forwards=False),
    "a role": lambda _cloud, region, _site: region["hosts"]["edge"].update(role="egress"),
    "a role inside": lambda _cloud, region, _site: region["hosts"]["edge"].update(role="workload"),
    "a host more": lambda _cloud, region, _site: region["hosts"]["edge"].update(count=3),
    "zones": lambda _cloud, region, _site: region.update(zones=2),
    "a zone": lambda cloud, region, _site: region.update(zone_names=[OTHER_ZONE[cloud]]),
    "a network": lambda _cloud, region, _site: region.update(network="10.150.0.0/20"),
    "IPv6": lambda cloud, region, _site: region.update(ipv6=cloud != "azure"),
    "no balancer": lambda _cloud, region, _site: region.update(load_balancer=False),
    "renewal": lambda cloud, region, _site: region.update(renew=[f"edge-{cloud}-{REGIONS[cloud]}-2"]),
    "logins": lambda _cloud, _region, site: site["ssh"].update(user="other"),
    "sources": lambda _cloud, _region, site: site["ssh"].update(sources=["10.0.0.0/9"]),
    "ports": lambda _cloud, _region, site: site.update(ports={"https": 8443}),
    "tunnels": lambda _cloud, _region, site: site.update(interconnect={"type": "wireguard"}),
    "leaving": lambda _cloud, region, _site: region.update(leaving=True),
}
LASTING = ("a tag", "a group", "a disk", "a size", "forwarding", "IPv6")
"""What leaves every host as it is that is not named under renew."""
RENEWED = re.compile(r"hosts named under renew are replaced")


def inputs_of(before: Node, after: Node) -> dict[str, Any]:
    """What the engine gives to the provider: properties that are ignored stay as they were."""
    given = copy.deepcopy(after.inputs)
    for path in after.ignore_changes:
        *outer, last = path.split(".")
        old, new = before.inputs, given
        for part in outer:
            old, new = old[part], new[part]
        if last in old:
            new[last] = old[last]
        else:
            new.pop(last, None)
    return given


def taken(before: Node, after: Node) -> str:
    """'replaced' or 'stopped' where an `up` does that to the machine; else empty."""
    cloud, type_key = MACHINES[after.type]
    given = inputs_of(before, after)
    if renewing(cloud, after.type, before.inputs, given):
        return "replaced"
    other_account = (
        after.type.startswith("gcp:") and given["serviceAccount"] != before.inputs["serviceAccount"]
    )
    return "stopped" if given[type_key] != before.inputs[type_key] or other_account else ""


def renewing(cloud: Cloud, token: str, old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    kind = cloud.types[token]
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    return changed & (kind.fixed | kind.renews(old, new))


def named(said: tuple[str, ...], cloud: str, host: str, site: Site) -> set[str]:
    """What the sentences announce for a host."""
    own = [one for one in said if f": {host}: " in one]
    found = {"replaced"} if any(REPLACED in one for one in own) else set()
    found |= {"stopped"} if any(STOPPED in one for one in own) else set()
    if any(one.startswith(f"{cloud} ") and "is made anew" in one for one in said):
        found.add("replaced")
    renewed = {name for _, one in regions(site) for name in one.renew}
    if host in renewed and any(RENEWED.search(one) for one in said):
        found.add("replaced")
    return found


def regions(site: Site) -> list[tuple[str, Any]]:
    return [(cloud, one) for cloud, said in site.clouds.named().items() for one in said.regions.values()]


RENEWING = "edge-{cloud}-{region}-1"


def big(edit: Edit | None = None) -> Site:
    """Control, and two edge hosts in each cloud, the first of which takes up all that is said."""
    site = yaml.safe_load(site_of(7))
    for number, (cloud, said) in enumerate(site["clouds"].items()):
        region = said["regions"][REGIONS[cloud]]
        region["renew"] = [RENEWING.format(cloud=cloud, region=REGIONS[cloud])]
        if edit is not None:
            edit(cloud, region, site)
        if edit is EDITS["a network"]:
            region["network"] = f"10.{150 + number}.0.0/20"
    return parse_site(yaml.safe_dump(site, sort_keys=False), shown="big.yaml", stem="big")


Nodes = dict[tuple[str, str], Node]


def nodes(site: Site) -> Nodes:
    return {(node.type, node.name): node for node in graph_of(site).nodes}


def machines(found: Nodes) -> Nodes:
    return {key: node for key, node in found.items() if node.type in MACHINES}


@pytest.fixture(scope="module")
def old() -> Nodes:
    return nodes(big())


@pytest.mark.parametrize("what", EDITS)
def test_no_edit_takes_a_host_away_that_the_plan_does_not_name(old: Nodes, what: str) -> None:
    before, after = big(), big(EDITS[what])
    said = changes(plan_site(before), plan_site(after))
    new = nodes(after)
    _nothing_protected_is_renewed(old, new)
    assert len(machines(old)) == 7
    for key in machines(old).keys() & new.keys():
        cloud, host = key[0].partition(":")[0].removesuffix("-native"), key[1]
        happens = {taken(old[key], new[key])} - {""}
        assert happens <= named(said, cloud, host, after), (key, happens, said)
        if host != RENEWING.format(cloud=cloud, region=REGIONS[cloud]) and what in LASTING:
            assert happens == set(), key


def _nothing_protected_is_renewed(old: Nodes, new: Nodes) -> None:
    """The engine refuses to replace what is protected: such an edit could not be made at all."""
    clouds = {cloud.name: cloud for cloud in (AWS, GCP, AZURE)}
    protected = [key for key in old if old[key].protect]
    assert len(protected) == 10, protected
    for key in protected & new.keys():
        cloud = clouds[key[0].partition(":")[0]]
        assert not renewing(cloud, key[0], old[key].inputs, new[key].inputs), key


def test_what_a_host_keeps_is_told_and_what_it_takes_up_too() -> None:
    def larger(_cloud: str, region: dict[str, Any], _site: dict[str, Any]) -> None:
        region["hosts"]["edge"].update(size="medium", disk_gb=60)

    said = "\n".join(changes(plan_site(big()), plan_site(big(larger))))
    words = "type c6i.large becomes c6in.xlarge"
    assert f"edge-aws-us-east-1-2: {words}, disk 30 GB becomes 60 GB, {LATER}" in said
    assert f"edge-aws-us-east-1-1: {words}: {STOPPED}; disk 30 GB becomes 60 GB" in said
    assert f"edge-gcp-us-central1-1: disk 30 GB becomes 60 GB: {REPLACED}; type" in said


def test_a_host_that_keeps_its_type_keeps_its_contract() -> None:
    """Role nic compares the contract with the host: it is of the type that the host has."""

    class Kept(Answers):
        def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
            identity, outputs = super().new_resource(args)
            if args.name == "edge-aws-us-east-1-2":
                outputs["instanceType"] = "c6i.large"
            return identity, outputs

    made = graph_of(big(EDITS["a size"]), Kept()).outputs["edge_inventory"]["hosts"]
    hosts = {one["name"]: one for one in made}
    assert [hosts[f"edge-aws-us-east-1-{number}"]["nic"]["queues"] for number in (1, 2)] == [4, 2]
    assert hosts["edge-aws-us-east-1-2"]["labels"]["size"] == "small"
