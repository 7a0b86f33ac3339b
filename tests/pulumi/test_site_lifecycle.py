"""What a site lives through, with the real engine and each cloud's own program: control and an edge host."""

from __future__ import annotations

import os
import signal

import pytest

from tests.pulumi.conftest import Site

# Images that a site file may name instead of the catalogue's.
OTHER_IMAGE = {
    # The simulated AWS calls it debian-12-amd64-20260316-2418 in us-east-1.
    "aws": "ami-9de41da3c402b5444",
    "gcp": "projects/debian-cloud/global/images/debian-12-bookworm-v20250610",
    "azure": "debian:debian-12:12-gen2:0.20250814.2204",
}
MACHINE = {"aws": "Instance", "gcp": "Instance", "azure": "VirtualMachine"}
ADDRESS = {"aws": "Eip", "gcp": "Address", "azure": "PublicIPAddress"}

pytestmark = pytest.mark.timeout(1200)
each_cloud = pytest.mark.parametrize("site", ["aws", "gcp", "azure"], indirect=True)


def machine_of(site: Site, host: str) -> str:
    """The id by which the cloud knows a host's machine."""
    [machine] = [one["id"] for one in site.of(MACHINE[site.cloud_name]) if one["urn"].endswith(f"::{host}")]
    return str(machine)


def in_service(site: Site) -> set[str]:
    """Edge hosts that the load balancer before them would send packets to."""
    held = site.held()
    if site.cloud_name == "gcp":
        joined = {
            one["inputs"]["instance"] for one in held if one["token"].endswith(":InstanceGroupMembership")
        }
        return {
            one["inputs"]["labels"]["edge-host"]
            for one in held
            if one["token"].endswith(":Instance") and one["outputs"]["selfLink"] in joined
        }
    if site.cloud_name == "aws":
        targets = {
            one["inputs"]["targetId"] for one in held if one["token"].endswith(":TargetGroupAttachment")
        }
        return {
            one["inputs"]["tags"]["edge-host"]
            for one in held
            if one["token"].endswith(":Instance") and one["id"] in targets
        }
    cards = {
        one["id"]: one["inputs"]["ipConfigurations"][0].get("loadBalancerBackendAddressPools")
        for one in held
        if one["token"].endswith(":NetworkInterface")
    }
    return {
        one["inputs"]["tags"]["edge-host"]
        for one in held
        if one["token"].endswith(":VirtualMachine")
        and cards[one["inputs"]["networkProfile"]["networkInterfaces"][0]["id"]]
    }


@each_cloud
def test_drift_is_seen_and_mended(site: Site) -> None:
    """A host that was terminated behind Pulumi's back comes back, with its address, behind its balancer."""
    edge, before, addresses = site.edge(1), site.ids(), site.addresses()
    site.cloud("terminate", machine_of(site, edge))
    assert "deleted" in site.must("refresh", "--yes", "--skip-preview")
    site.up()
    after = site.ids()
    assert after[edge] != before.pop(edge)
    assert all(after[other] == id_ for other, id_ in before.items())
    assert site.addresses() == addresses
    assert in_service(site) == {edge}


@each_cloud
def test_another_image_replaces_the_hosts_that_are_named_and_no_other(site: Site) -> None:
    """The new host has the old one's address, and the balancer sends to it; others keep what they booted."""
    edge, before, addresses = site.edge(1), site.ids(), site.addresses()
    with site.edited() as region:
        region["image"] = OTHER_IMAGE[site.cloud_name]
    site.must("refresh", "--yes", "--skip-preview")
    site.must("up", "--yes", "--skip-preview", "--expect-no-changes")
    with site.edited() as region:
        region["renew"] = [edge]
    site.up()
    after = site.ids()
    assert {name for name in after if after[name] != before[name]} == {edge}
    assert site.addresses() == addresses
    assert in_service(site) == {edge}
    assert len(site.of(MACHINE[site.cloud_name])) == site.count(MACHINE[site.cloud_name]) == 2


@each_cloud
def test_a_host_comes_goes_and_comes_back_with_its_address_until_nothing_is_left(site: Site) -> None:
    """A failed create is made up for; who shrinks says what becomes of the address; a region goes whole."""
    machine, second = MACHINE[site.cloud_name], site.edge(2)
    with site.edited() as region:
        region["hosts"]["edge"]["count"] = 2
    failed = site.run("up", "--yes", "--skip-preview", faults=(f"create:{machine}:1:capacity",))
    assert failed.returncode != 0 and site.count(machine) == 2, failed.stdout
    site.up()
    address = site.addresses()[second]
    assert in_service(site) == {site.edge(1), second}
    with site.edited() as region:
        region["hosts"]["edge"]["count"] = 1
    unsaid = site.run("preview")
    assert unsaid.returncode != 0 and f"::{second}" in unsaid.stdout and "protect" in unsaid.stdout
    with site.edited() as region:
        region["addresses"] = {second: "kept"}
    site.up()
    assert second not in site.ids() and in_service(site) == {site.edge(1)}
    with site.edited() as region:
        region["hosts"]["edge"]["count"] = 2
    site.up()
    assert site.addresses()[second] == address
    with site.edited() as region:
        region["leaving"] = True
    site.up()
    site.must("destroy", "--yes", "--skip-preview")
    assert site.held() == [] and site.state() == []


@pytest.mark.parametrize("site", ["gcp"], indirect=True)
def test_an_address_is_given_back_when_its_line_is_taken_out(site: Site) -> None:
    """Released first, which takes its protection off; gone with the next up, and from the cloud too."""
    with site.edited() as region:
        region["load_balancer"] = False
        region["addresses"] = {"vip-us-central1": "released"}
    site.up()
    assert site.count("Address") == 2
    with site.edited() as region:
        del region["addresses"]
    site.up()
    assert site.count("Address") == 1


@each_cloud
def test_an_interrupted_up_is_repaired_by_the_next(site: Site) -> None:
    """Ctrl-C while a host is being made: the engine ends in order, and no host is left behind unknown."""
    machine = MACHINE[site.cloud_name]
    with site.edited() as region:
        region["hosts"]["edge"]["count"] = 2
    running = site.start("up", "--yes", "--skip-preview", faults=(f"create:{machine}:0:slow",))
    try:
        assert running.stdout is not None
        for line in running.stdout:
            if "slow on demand" in line:
                break
        os.kill(running.pid, signal.SIGINT)
        said, _ = running.communicate(timeout=300)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.communicate()
    assert running.returncode != 0, said
    site.up()
    assert site.count(machine) == len(site.ids()) == 3
