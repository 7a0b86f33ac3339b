"""What a site lives through, with the real engine and each cloud's own program: control and an edge host."""

from __future__ import annotations

import os
import signal

import pytest

from tests.pulumi.conftest import ROOT, Site

# Images that a site file may name instead of the catalogue's.
OTHER_IMAGE = {
    # The simulated AWS calls it debian-12-amd64-20260316-2418 in us-east-1.
    "aws": "ami-9de41da3c402b5444",
    "gcp": "projects/debian-cloud/global/images/debian-12-bookworm-v20250610",
    "azure": "debian:debian-12:12-gen2:0.20250814.2204",
}
MACHINE = {"aws": "Instance", "gcp": "Instance", "azure": "VirtualMachine"}
POLICY = ROOT / "pulumi" / "policy"
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
    """The new host has the old one's address, and the balancer sends to it; others keep what they booted.

    So with a larger disk and another size, and no tag and no group makes another host.
    """
    edge, before, addresses = site.edge(1), site.ids(), site.addresses()
    with site.edited() as region:
        region["image"] = OTHER_IMAGE[site.cloud_name]
        for pool in region["hosts"].values():
            pool.update(disk_gb=60, size="medium")
    site.must("refresh", "--yes", "--skip-preview")
    site.must("up", "--yes", "--skip-preview", "--expect-no-changes")
    with site.edited() as region:
        region["renew"] = [edge]
        for pool in region["hosts"].values():
            pool["groups"] = ["shop"]
    site.up()
    after = site.ids()
    sizes = {host["name"]: host["labels"]["size"] for host in site.inventory()["hosts"]}
    assert {name for name, size in sizes.items() if size == "medium"} == {edge}
    assert {name for name in after if after[name] != before[name]} == {edge}
    assert site.addresses() == addresses
    assert in_service(site) == {edge}
    assert len(site.of(MACHINE[site.cloud_name])) == site.count(MACHINE[site.cloud_name]) == 2


@pytest.mark.parametrize("site", ["aws"], indirect=True)
def test_a_pinned_image_that_was_withdrawn_stops_only_who_needs_it(site: Site) -> None:
    """Hosts that are there keep theirs: nothing is looked up for them, and the site can still be changed."""
    edge, ids, withdrawn = site.edge(1), site.ids(), ("ask:getAmi:0",)
    with site.edited() as region:
        region["hosts"]["edge"]["groups"] = ["shop"]
    site.must("up", "--yes", "--skip-preview", faults=withdrawn)
    assert site.ids() == ids
    with site.edited() as region:
        region["renew"] = [edge]
    refused = site.run("up", "--yes", "--skip-preview", faults=withdrawn)
    assert refused.returncode != 0 and "getAmi" in refused.stdout, refused.stdout
    with site.edited() as region:
        region["image"] = OTHER_IMAGE["aws"]
    site.must("up", "--yes", "--skip-preview", faults=withdrawn)
    assert {name for name, id_ in site.ids().items() if id_ != ids[name]} == {edge}


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
    held = site.held()
    unsaid = site.run("up", "--yes", "--skip-preview")
    assert unsaid.returncode != 0 and f"addresses: {{{second}: kept}}" in unsaid.stdout, unsaid.stdout
    assert site.held() == held, "the host is there still, and so is its way to clients"
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


@pytest.mark.parametrize("site", ["aws"], indirect=True)
def test_ipv6_comes_to_hosts_that_are_there(site: Site) -> None:
    """The network has no range before, the hosts no addresses; neither is replaced for them."""
    before = site.ids()
    with site.edited() as region:
        region["ipv6"] = True
    site.must("preview")
    site.up()
    assert site.ids() == before
    assert all(":" in host["address6"] for host in site.inventory()["hosts"])


@pytest.mark.parametrize("site", ["azure"], indirect=True)
def test_hosts_move_to_other_zones_and_keep_their_addresses(site: Site) -> None:
    """Addresses are protected, in all zones of the region however many the site has, and read back so."""

    def addresses() -> dict[str, str]:
        found = site.inventory()
        return {one["name"]: one["address"] for one in (*found["hosts"], *found["vips"])}

    with site.edited() as region:
        region["hosts"]["edge"]["count"] = 2
    site.up()
    before, had = site.ids(), addresses()
    with site.edited() as region:
        region["zones"] = 2
    site.up()
    moved = {name for name, id_ in site.ids().items() if id_ != before[name]}
    assert moved == {site.edge(2)} and addresses() == had
    assert in_service(site) == {site.edge(1), site.edge(2)}
    site.must("refresh", "--yes", "--skip-preview")
    with site.edited() as region:
        region["zones"] = 3
    site.must("preview", "--expect-no-changes")


@pytest.mark.parametrize("site", ["aws"], indirect=True)
def test_a_port_gains_and_loses_a_protocol_without_a_second_listener(site: Site) -> None:
    """Whichever it had and whatever its listener was called: the clouds refuse two on one port."""
    own = "us-east-1-443"
    [urn] = [one["urn"] for one in site.of("Listener") if one["urn"].endswith(f"::{own}")]
    site.must("state", "rename", urn, f"{own}-tcp", "--yes")  # as stacks called it that are older
    edge, ids = site.edge(1), _listeners(site)
    for protocol, udp_port in (("TCP_UDP", 443), ("TCP", 53), ("UDP", None), ("TCP_UDP", 443)):
        with site.rewritten() as text:
            rule = {"name": "more", "sources": ["internet"], "targets": ["ingress"], "protocol": "udp"}
            text["reach"] = [rule | {"ports": [udp_port or 443]}]
            text["ports"] = {"https": 443 if udp_port else 8443}
        site.up()
        assert _listeners(site)[443] == (ids[443][0], protocol)
        assert in_service(site) == {edge}
        groups = [one for one in site.held() if one["token"].endswith(":TargetGroup")]
        assert [one["inputs"]["protocol"] for one in groups if one["inputs"]["port"] == 443] == [protocol]


@pytest.mark.parametrize("site", ["aws"], indirect=True)
def test_what_moves_hosts_comes_to_its_end(site: Site) -> None:
    """Another zone, and another network: what cannot stand beside its successor goes first."""
    before = site.ids()
    with site.edited() as region:
        region["zone_names"] = ["us-east-1b"]
    site.up()
    zoned = site.ids()
    assert not set(before.values()) & set(zoned.values())
    with site.edited() as region:
        region["network"] = "10.150.0.0/20"
    site.up()
    assert not set(zoned.values()) & set(site.ids().values())
    assert all(host["private_address"].startswith("10.150.") for host in site.inventory()["hosts"])
    assert in_service(site) == {site.edge(1)}
    site.must("up", "--yes", "--skip-preview", "--expect-no-changes")


@pytest.mark.parametrize("site", ["gcp"], indirect=True)
def test_ports_come_and_go_without_two_forwarding_rules_for_one(site: Site) -> None:
    """A rule takes five ports, and is another one where they change: no port may stand in two meanwhile."""
    for spans in (["7000-7008"], ["7001-7009", "6999"], ["7004-7005"], []):
        with site.rewritten() as text:
            more = {"name": "more", "sources": ["internet"], "targets": ["ingress"], "ports": spans}
            text["reach"] = [more, more | {"name": "more-udp", "protocol": "udp"}] if spans else []
        site.up()
        rules = [one for one in site.held() if one["token"].endswith(":ForwardingRule")]
        ports = sorted(
            (one["inputs"]["ipProtocol"], int(port)) for one in rules for port in one["inputs"]["ports"]
        )
        added = {port for span in spans for port in range(int(span[:4]), int(span[-4:]) + 1)}
        tcp = [("TCP", port) for port in sorted({80, 443, 8080} | added)]
        assert ports == [*tcp, *(("UDP", port) for port in sorted(added))]


def _listeners(site: Site) -> dict[int, tuple[str, str]]:
    """Port -> (id, protocol) of every listener."""
    found = [one for one in site.held() if one["token"].endswith(":Listener")]
    return {one["inputs"]["port"]: (one["id"], one["inputs"]["protocol"]) for one in found}


@pytest.mark.parametrize("site", ["azure"], indirect=True)
def test_a_network_is_made_anew_once_its_hosts_are_out_and_their_addresses_wait(site: Site) -> None:
    """With hosts in it Azure would refuse, in the middle of it all."""
    edge, vip = site.edge(1), "vip-eastus"
    address = site.addresses()[edge]
    with site.rewritten() as text:
        regions = text["clouds"]["azure"]["regions"]
        before = dict(regions["eastus"])
        regions["eastus"]["network"] = "10.103.0.0/20"
    held = site.held()
    refused = site.run("up", "--yes", "--skip-preview")
    assert refused.returncode != 0 and "Azure changes no network that hosts stand in" in refused.stdout
    assert site.held() == held
    with site.rewritten() as text:
        regions = text["clouds"]["azure"]["regions"]
        regions["eastus"] = {**before, "hosts": {}, "addresses": {edge: "kept", vip: "kept"}}
        regions["westeurope"] = {**before, "network": "10.102.0.0/20"}
    site.up()
    with site.rewritten() as text:
        text["clouds"]["azure"]["regions"]["eastus"] = {**before, "network": "10.103.0.0/20"}
    site.up()
    hosts = {host["name"]: host for host in site.inventory()["hosts"]}
    assert hosts[edge]["address"] == address and hosts[edge]["private_address"].startswith("10.103.")


@pytest.mark.parametrize("site", ["aws"], indirect=True)
def test_the_policy_pack_refuses_ssh_from_everybody_and_warns_where_it_is_meant(site: Site) -> None:
    """Whoever says `ssh.open` says so to the pack too, by its file."""
    with site.rewritten() as text:
        text["ssh"] |= {"open": True, "sources": ["0.0.0.0/0"]}
        text["tags"] = {"owner": "tests"}
    pack = ("preview", "--policy-pack", str(POLICY))
    refused = site.run(*pack)
    assert refused.returncode != 0, refused.stdout
    assert "no-open-ssh" in refused.stdout and "[mandatory]" in refused.stdout
    warned = site.must(*pack, "--policy-pack-config", str(POLICY / "ssh-open.json"))
    assert "no-open-ssh" in warned and "[advisory]" in warned and "[mandatory]" not in warned


@pytest.mark.parametrize("site", ["gcp"], indirect=True)
def test_an_address_or_a_region_is_given_back_when_its_lines_are_taken_out(site: Site) -> None:
    """Let go first, which takes protection off; gone with the next up, from the cloud and from Cloud DNS."""
    with site.rewritten() as text:
        regions = text["clouds"]["gcp"]["regions"]
        regions["us-central1"] |= {"load_balancer": False, "addresses": {"vip-us-central1": "released"}}
        pools = {"edge": {"role": "ingress"}}
        regions["us-east1"] = {"network": "10.102.0.0/20", "hosts": pools}
        regions["us-west1"] = {"network": "10.103.0.0/20", "hosts": pools, "leaving": True}
        text["dns"] = {"provider": "gcp", "zone": "names", "name": "edge.example.com"}
    site.up()
    assert site.count("Address") == 6
    assert _answered_by_cloud_dns(site) == {"us-east1", "us-west1"}
    with site.rewritten() as text:
        regions = text["clouds"]["gcp"]["regions"]
        del regions["us-central1"]["addresses"], regions["us-west1"]
    site.up()
    assert site.count("Address") == 3
    assert _answered_by_cloud_dns(site) == {"us-east1"}
    assert {host["region"] for host in site.inventory()["hosts"]} == {"us-central1", "us-east1"}


def _answered_by_cloud_dns(site: Site) -> set[str]:
    """Regions of the addresses that the name has."""
    [name] = [one["inputs"] for one in site.held() if one["token"] == "gcp:dns/recordSet:RecordSet"]
    regions = {
        one["outputs"]["address"]: one["region"] for one in site.held() if one["token"].endswith(":Address")
    }
    return {
        regions[address]
        for place in name["routingPolicy"]["geos"]
        for address in place["healthCheckedTargets"]["externalEndpoints"]
    }


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
