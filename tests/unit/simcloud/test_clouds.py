"""What every simulated cloud keeps to: nothing overlaps, nothing dangles, nothing is half made."""

from __future__ import annotations

import importlib
import ipaddress
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simcloud.aws import CLOUD as AWS
from simcloud.azure import CLOUD as AZURE
from simcloud.cloud import Account, Machines
from simcloud.faults import BadFault, Counter, parse
from simcloud.gcp import CLOUD as GCP
from simcloud.gcp.network import members
from simcloud.schema import Refused
from simcloud.values import UNKNOWN, at, is_known, whole
from simcloud.world import Record, Store

from tests.unit.simcloud.conftest import REGION, Aws

CLOUDS = ("aws", "gcp", "azure")
INSTANCE = "aws:ec2/instance:Instance"
# Networks that meet, contain and miss one another.
RANGES = st.builds(
    lambda base, bits: str(
        ipaddress.ip_network((int(ipaddress.ip_address("10.0.0.0")) + (base << 8), bits), strict=False)
    ),
    st.integers(0, 300),
    st.integers(16, 28),
)


@given(st.lists(RANGES, max_size=12))
def test_subnets_lie_inside_and_never_overlap(ranges: list[str]) -> None:
    """Whatever is asked for in whatever order."""
    with tempfile.TemporaryDirectory() as folder:
        aws = Aws(Path(folder))
        vpc, made = aws.vpc(), []
        for number, range_ in enumerate(ranges):
            wanted = ipaddress.ip_network(range_)
            fits = wanted.subnet_of(ipaddress.ip_network("10.0.0.0/16"))  # type: ignore[arg-type]
            free = not any(wanted.overlaps(other) for other in made)
            try:
                aws.subnet(vpc, range_, f"s{number}")
            except Refused as no:
                assert ("InvalidSubnet.Range" in str(no)) is (not fits)
                assert not (fits and free)
            else:
                assert fits and free
                made.append(wanted)


@given(st.integers(1, 14))
def test_addresses_are_of_the_subnet_free_and_never_kept_ones(hosts: int) -> None:
    """A /28 has eleven addresses to give: AWS keeps the first four and the last."""
    with tempfile.TemporaryDirectory() as folder:
        aws = Aws(Path(folder))
        subnet = aws.subnet(aws.vpc(), "10.0.1.0/28")
        given_ = []
        for number in range(hosts):
            try:
                given_.append(aws.instance(subnet, f"h{number}").outputs["privateIp"])
            except Refused as no:
                assert len(given_) == 11 and "InsufficientFreeAddresses" in str(no)
        assert given_ == [f"10.0.1.{number}" for number in range(4, 4 + min(hosts, 11))]


def test_what_is_in_use_stays(aws: Aws) -> None:
    vpc = aws.vpc()
    subnet = aws.subnet(vpc, "10.0.1.0/24")
    aws.instance(subnet)
    for record in (vpc, subnet):
        with pytest.raises(Refused, match="DependencyViolation"):
            aws.account.delete(record.token, record.id)
    assert len(aws.held()) == 3


def test_a_reference_that_dangles_is_refused(aws: Aws) -> None:
    with pytest.raises(Refused, match=r"vpc-0123456789abcdef0 does not exist"):
        aws.make("aws:ec2/internetGateway:InternetGateway", vpcId="vpc-0123456789abcdef0")
    with pytest.raises(Refused, match="nobody does not exist"):
        aws.instance(aws.subnet(aws.vpc(), "10.0.1.0/24"), iamInstanceProfile="nobody")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"ami": "ami-0000000000000dead"}, "InvalidAMIID.NotFound"),
        ({"availabilityZone": f"{REGION}b"}, "is in us-east-1a, not in us-east-1b"),
        ({"privateIp": "10.0.1.3"}, "cannot be used in 10.0.1.0/24"),
        ({"privateIp": "10.9.9.9"}, "cannot be used in 10.0.1.0/24"),
        ({"vpcSecurityGroupIds": ["sg-0123456789abcdef0"]}, "sg-0123456789abcdef0 does not exist"),
    ],
)
def test_an_impossible_instance_is_refused(aws: Aws, inputs: dict[str, Any], words: str) -> None:
    subnet = aws.subnet(aws.vpc(), "10.0.1.0/24")
    with pytest.raises(Refused) as refused:
        aws.instance(subnet, **inputs)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("token", "inputs", "words"),
    [
        ("aws:ec2/vpc:Vpc", {"cidrBlock": "10.0.0.0/29"}, "between /16 and /28"),
        ("aws:ec2/vpc:Vpc", {"cidrBlock": "10.0.0.1/24"}, "is not a network"),
        ("aws:ec2/vpc:Vpc", {}, "Vpc needs cidrBlock"),
        ("aws:ec2/instance:Instance", {"ami": "debian", "instanceType": "t3.micro"}, "an image id is ami-"),
        ("aws:ec2/instance:Instance", {"ami": "ami-01234567", "instanceType": "c9"}, "instance type of"),
        ("aws:iam/role:Role", {"assumeRolePolicy": "{}"}, "MalformedPolicyDocument"),
        ("aws:lb/targetGroup:TargetGroup", {"name": "x" * 33}, "1 to 32 letters"),
        ("aws:lb/targetGroup:TargetGroup", {"port": 99999}, "is not a port"),
    ],
)
def test_a_malformed_value_is_refused_before_anything_is_made(
    aws: Aws, token: str, inputs: dict[str, Any], words: str
) -> None:
    _, wrong = aws.account.check(token, "one", inputs, {}, b"")
    assert words in " ".join(reason for _, reason in wrong)


def test_a_value_that_is_not_known_yet_is_not_judged(aws: Aws) -> None:
    _, wrong = aws.account.check("aws:ec2/vpc:Vpc", "one", {"cidrBlock": UNKNOWN}, {}, b"")
    assert wrong == []


def test_a_machine_that_does_not_boot_is_not_there(aws_with: Callable[..., Aws]) -> None:
    """Its address is free again, and no trace is left for the next try to stumble over."""

    def fails(machine: dict[str, Any]) -> None:
        raise Refused(f"{machine['name']} does not boot")

    aws = aws_with(machines=Machines(boot=fails))
    subnet = aws.subnet(aws.vpc(), "10.0.1.0/24")
    with pytest.raises(Refused, match="does not boot"):
        aws.instance(subnet, tags={"edge-host": "edge1"})
    assert [record.token for record in aws.held() if record.token == INSTANCE] == []
    aws.account.machines = Machines()
    assert aws.instance(subnet).outputs["privateIp"] == "10.0.1.4"


def test_a_machine_that_cannot_be_removed_stays_known(aws_with: Callable[..., Aws]) -> None:
    def fails(machine: dict[str, Any]) -> None:
        raise Refused("still there")

    aws = aws_with(machines=Machines(remove=fails))
    host = aws.instance(aws.subnet(aws.vpc(), "10.0.1.0/24"))
    with pytest.raises(Refused, match="still there"):
        aws.account.delete(host.token, host.id)
    assert aws.account.read(host.token, host.id) is not None


def test_an_elastic_address_makes_an_instance_a_public_one_when_it_is_read(aws: Aws) -> None:
    """AWS says so of the instance, and the property cannot change in place: who said false makes it anew."""
    vpc = aws.vpc()
    aws.make("aws:ec2/internetGateway:InternetGateway", vpcId=vpc.id)
    host = aws.instance(aws.subnet(vpc, "10.0.1.0/24"), associatePublicIpAddress=False)
    address = aws.make("aws:ec2/eip:Eip", domain="vpc")
    token = "aws:ec2/eipAssociation:EipAssociation"
    aws.make(token, allocationId=address.id, instanceId=host.id)
    read = aws.account.read(INSTANCE, host.id)
    assert read is not None
    assert read.inputs["associatePublicIpAddress"] is read.outputs["associatePublicIpAddress"] is True
    assert aws.account.difference(INSTANCE, read.inputs, host.inputs)[1] == ["associatePublicIpAddress"]
    aws.account.delete(INSTANCE, host.id)
    assert not [record for record in aws.held() if record.token == token], "a terminated instance gives it up"


def test_what_an_interface_cannot_be_is_refused(tmp_path: Path) -> None:
    """An MTU that networks of Google Cloud lack. Forwarding is no such thing: its provider changes that in
    place (hashicorp/terraform-provider-google#10612)."""
    gcp = Account(GCP, Store(tmp_path, "gcp"), {"project": "p", "region": "us-central1"})
    token = "gcp:compute/network:Network"
    for mtu, fine in ((1299, False), (1460, True), (8896, True), (9001, False)):
        wrong = gcp.check(token, "net", {"name": "net", "mtu": mtu}, {})[1]
        assert [key for key, _ in wrong] == ([] if fine else ["mtu"])
    instance = "gcp:compute/instance:Instance"
    old = {"name": "edge", "canIpForward": False}
    assert gcp.difference(instance, old, {**old, "canIpForward": True})[1:] == ([], False)


def test_a_group_of_google_cloud_forgets_an_instance_that_goes(tmp_path: Path) -> None:
    """Unasked, and the one that takes its place has the same link: it is in no group."""
    gcp = Account(GCP, Store(tmp_path, "gcp"), {"project": "p", "region": "us-central1"})

    def make(kind: str, name: str, **inputs: Any) -> Record:
        return gcp.create(f"gcp:compute/{kind}", name, f"urn:{kind}:{name}", {"name": name, **inputs})

    net = make("network:Network", "net", autoCreateSubnetworks=False)
    inner = make(
        "subnetwork:Subnetwork", "inner", network=net.id, ipCidrRange="10.0.1.0/24", region="us-central1"
    )
    image = "projects/debian-cloud/global/images/debian-12-bookworm-v20250311"
    given = {
        "zone": "us-central1-a",
        "machineType": "e2-micro",
        "bootDisk": {"initializeParams": {"image": image}},
        "networkInterfaces": [{"subnetwork": inner.id}],
    }
    host = make("instance:Instance", "host", **given)
    link = host.outputs["selfLink"]
    listed = make(
        "instanceGroup:InstanceGroup", "listed", zone="us-central1-a", network=net.id, instances=[link]
    )
    gcp.delete(host.token, host.id)
    again = make("instance:Instance", "host", **given)
    assert again.outputs["selfLink"] == link
    read = gcp.read(listed.token, listed.id)
    assert read is not None and read.inputs["instances"] == []
    joined = make("instanceGroup:InstanceGroup", "joined", zone="us-central1-a", network=net.id)
    token = "gcp:compute/instanceGroupMembership:InstanceGroupMembership"
    said = {"instance": link, "instanceGroup": "joined", "zone": "us-central1-a"}
    gcp.create(token, "host", "urn:host", said)
    with pytest.raises(Refused, match="already"):
        gcp.create(token, "twice", "urn:twice", said)
    assert members(joined, gcp.store.read()) == [link]
    gcp.delete(host.token, host.id)
    assert members(joined, gcp.store.read()) == []


def test_a_name_of_the_world_is_taken(tmp_path: Path) -> None:
    azure = Account(AZURE, Store(tmp_path, "azure-native"), {"subscriptionId": "s", "location": "eastus"})
    azure.create(
        "azure-native:resources:ResourceGroup", "g", "urn:g", {"resourceGroupName": "g", "location": "eastus"}
    )

    def profile(name: str, relative: str) -> Record:
        said = {"resourceGroupName": "g", "profileName": name, "dnsConfig": {"relativeName": relative}}
        return azure.create("azure-native:trafficmanager:Profile", name, f"urn:{name}", said)

    with pytest.raises(Refused, match="DomainNameLabelInUse"):
        profile("one", "prod-edge")
    profile("one", "prod-edge-0a1b2c3d")
    with pytest.raises(Refused, match="DomainNameLabelInUse"):
        profile("two", "prod-edge-0a1b2c3d")


def test_quotas_are_per_region(aws: Aws) -> None:
    for _ in range(AWS.quotas["VPCs"]):
        aws.vpc()
    with pytest.raises(Refused, match="LimitExceeded: VPCs: 5 are allowed in us-east-1"):
        aws.vpc()
    aws.account.config["region"] = "eu-central-1"
    aws.vpc()


def test_an_update_keeps_what_the_cloud_computed(aws: Aws) -> None:
    host = aws.instance(aws.subnet(aws.vpc(), "10.0.1.0/24"))
    after = aws.account.update(INSTANCE, "one", "urn", host.id, {**host.inputs, "tags": {"team": "edge"}})
    assert after.id == host.id and after.outputs["tags"] == {"team": "edge"}
    assert {key: after.outputs[key] for key in ("arn", "privateIp")} == {
        key: host.outputs[key] for key in ("arn", "privateIp")
    }


def test_faults_meet_the_call_they_were_asked_for(aws_with: Callable[..., Aws], tmp_path: Path) -> None:
    aws = aws_with(
        faults=parse(["create:Vpc:2:capacity", "create:Subnet:1:throttle"]), counter=Counter(tmp_path, "run")
    )
    vpc = aws.vpc()
    with pytest.raises(Refused, match="InsufficientInstanceCapacity"):
        aws.vpc("10.1.0.0/16")
    aws.subnet(vpc, "10.0.1.0/24")
    assert len(aws.paused_s) == 3, "a throttled call waits and asks again"
    aws.account.counter = Counter(tmp_path, "another run")
    aws.vpc("10.1.0.0/16")


@pytest.mark.parametrize(
    "text", ["create", "create:Vpc", "create:Vpc:x", "make:Vpc:1", "create:Vpc:1:boom", "create::1"]
)
def test_a_fault_nobody_can_mean_is_refused(text: str) -> None:
    with pytest.raises(BadFault, match="create:Instance:2"):
        parse([text])


@pytest.mark.parametrize("cloud", CLOUDS)
def test_declarations_are_whole(cloud: str) -> None:
    """Every type is what its cloud's provider calls it, and no rule or output names a property twice."""
    found = importlib.import_module(f"simcloud.{cloud}").CLOUD
    for token, kind in found.types.items():
        assert token.startswith(f"{found.name}:"), token
        assert not kind.outputs.keys() & kind.fills.keys(), token
        assert kind.quota is None or kind.quota in found.quotas, token
        assert not set(kind.refers.values()) - found.types.keys(), token
        preview = {**dict.fromkeys(kind.outputs, UNKNOWN)}
        assert all(not is_known(value) for value in preview.values())


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_type_that_is_not_declared_is_refused_by_name(cloud: str, tmp_path: Path) -> None:
    aws = Aws(tmp_path)
    with pytest.raises(Refused, match="has no type aws:ec2/fleet:Fleet"):
        aws.make("aws:ec2/fleet:Fleet")


@given(
    st.recursive(
        st.integers() | st.text() | st.booleans() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_whole_numbers_survive_the_protocol(value: Any) -> None:
    def through(inner: Any) -> Any:
        if isinstance(inner, int) and not isinstance(inner, bool):
            return float(inner) if abs(inner) < 2**53 else inner
        if isinstance(inner, dict):
            return {key: through(each) for key, each in inner.items()}
        return [through(each) for each in inner] if isinstance(inner, list) else inner

    assert whole(through(value)) == value


def test_values_at_a_path() -> None:
    interfaces = {"nics": [{"subnet": {"id": "a"}}, {"subnet": None}, {"subnet": {"id": "b"}}]}
    assert list(at(interfaces, "nics[].subnet.id")) == ["a", "b"]
    assert list(at(interfaces, "nics[].nowhere.id")) == []
