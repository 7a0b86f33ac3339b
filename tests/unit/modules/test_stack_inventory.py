"""Which outputs of a stack are an inventory, and what is said of those that are not."""

from __future__ import annotations

import shlex

import pytest

from tests.support.stack_output import SECRET, document, host


@pytest.fixture
def stack(utils):
    return utils("stack_inventory")


def test_what_the_contract_says_is_taken_as_it_is(stack):
    found = document(host(1), host(2, address6="2001:db8::1", groups=["control"]))
    assert stack.check(found) is found


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (document(schema="edge.inventory/v0"), "older schema edge.inventory/v0: 'pulumi up'"),
        (document(schema="edge.inventory/v2"), "update the collection"),
        (document(schema="something"), "is this the stack of another program?"),
        ({"schema": "edge.inventory/v1", "hosts": []}, "holds no hosts"),
        (document(host(1, user="[secret]")), "edge_inventory.hosts[0].user is a secret"),
        (document(host(1, labels={"key": SECRET})), "edge_inventory.hosts[0].labels.key is a secret"),
        (document(host(1, address="none")), "hosts[0].address 'none' is not an IP address"),
        (document(host(1, name="-x")), "hosts[0].name '-x' is not a host's name"),
        (document(host(1, groups=["a b"])), "are not names of groups"),
        (document(host(1), host(1)), "edge-aws-us-east-1-1 is there more than once"),
        (document(host(1, region="")), "hosts[0] has no region"),
        (document(host(1, zone=None)), "hosts[0] has no zone ('' in a region without any)"),
        ([], "is not an object but list"),
    ],
    ids=lambda value: value.replace(" ", "_")[:24] if isinstance(value, str) else "",
)
def test_what_is_no_inventory_of_ours_is_refused(stack, found, words):
    """One sentence that names the place and the remedy; never an inventory with fewer hosts."""
    with pytest.raises(stack.StackUnreadable) as refused:
        stack.check(found)
    assert words in str(refused.value)


def test_a_host_of_a_region_without_zones_is_in_none(stack):
    found = stack.check(document(host(1, cloud="azure", region="westus", zone="")))
    assert "zone" not in stack.variables(found, found["hosts"][0])


def test_hosts_behind_a_balancer_that_keeps_the_destination_have_it_as_vip(stack):
    """Google's sends packets on as they came; those of AWS and Azure arrive at each host's own address."""
    vips = [
        {
            "name": "gcp",
            "cloud": "gcp",
            "region": "us-central1",
            "address": "198.18.7.7",
            "seen_as": "198.18.7.7",
        },
        {
            "name": "aws",
            "cloud": "aws",
            "region": "us-east-1",
            "address": "198.18.8.8",
            "seen_as": "private_address",
        },
    ]
    there = {"cloud": "gcp", "region": "us-central1"}
    hosts = [host(1), host(2, **there), host(3, **there), host(4, groups=["egress"], **there)]
    found = stack.check(document(*hosts, vips=vips))
    assert [stack.variables(found, one).get("vip") for one in hosts] == [
        None,
        "198.18.7.7",
        "198.18.7.7",
        None,
    ]


def test_a_host_behind_another_is_reached_through_it_and_both_keys_are_checked(stack):
    inner = host(2, address="10.201.0.3", jump="edge-aws-us-east-1-1")
    found = stack.check(document(host(1), inner))
    words = shlex.split(stack.ssh_arguments(found, inner, "/known hosts"))
    assert "HostKeyAlias=edge-aws-us-east-1-2" in words
    [through] = [word for word in words if word.startswith("ProxyCommand=")]
    through = shlex.split(through.removeprefix("ProxyCommand="))
    assert through[:3] == ["ssh", "-W", "%h:%p"] and through[-1] == "admin@198.18.0.2"
    for option in (
        "UserKnownHostsFile=/known hosts",
        "HostKeyAlias=edge-aws-us-east-1-1",
        "StrictHostKeyChecking=yes",
    ):
        assert option in through
    assert "ProxyCommand" not in stack.ssh_arguments(found, host(1), "/known")
    assert "10.201.0.2" in stack.ssh_arguments(found, inner, None, "private_address")


def test_a_host_behind_one_that_is_not_there_is_refused(stack):
    with pytest.raises(stack.StackUnreadable, match="through gone, which is not there"):
        stack.check(document(host(1, jump="gone")))


def test_hosts_know_what_their_cloud_lets_in(stack):
    """With the ports of the site file, so that `validate` compares; a stack of before says neither."""
    found = stack.check(document(host(1, opened=["tcp 443"])) | {"ports": {"https": 443}})
    rules = stack.variables(found, found["hosts"][0])["edge_cloud_rules"]
    assert rules == {"site": found["site"], "ports": {"https": 443}, "opened": ["tcp 443"]}
    assert "edge_cloud_rules" not in stack.variables(document(host(1)), host(1))
