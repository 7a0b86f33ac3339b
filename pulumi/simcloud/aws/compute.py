"""AWS instances, and what they may do."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

from simcloud import addresses, rules
from simcloud.aws import facts, network
from simcloud.schema import Refused, Request, Type, Values
from simcloud.values import first
from simcloud.world import Record, World

ROLE, ROLE_POLICY = "aws:iam/role:Role", "aws:iam/rolePolicy:RolePolicy"
PROFILE = "aws:iam/instanceProfile:InstanceProfile"
USER_DATA_BYTES = 16 * 1024
IAM_NAME = rules.matches(r"[\w+=,.@-]{1,64}", "1 to 64 letters, digits and +=,.@_-")


def _subnet(request: Request) -> Record:
    subnet = request.find(request.get("subnetId"), network.SUBNET)
    if subnet is None:
        raise Refused("VPCIdNotSpecified: No default VPC for this user; an instance needs subnetId")
    return subnet


def _instance(request: Request) -> None:
    subnet = _subnet(request)
    if request.get("ami") not in facts.images(request.region):
        raise Refused(
            f"InvalidAMIID.NotFound: The image id '[{request.get('ami')}]' does not exist in {request.region}"
        )
    size = "rootBlockDevice.volumeSize"
    if first(request.inputs, size, 0) < first(request.before, size, 0):
        raise Refused("InvalidParameterValue: New size cannot be smaller than existing size")
    zone = request.get("availabilityZone")
    if zone and zone != subnet.inputs["availabilityZone"]:
        raise Refused(
            f"InvalidParameterValue: {subnet.id} is in {subnet.inputs['availabilityZone']}, not in {zone}"
        )
    for group in request.get("vpcSecurityGroupIds") or []:
        if network.vpc_of(request, group) != subnet.inputs["vpcId"]:
            raise Refused(
                f"InvalidGroup.NotFound: {group} is not in {subnet.inputs['vpcId']}, where {subnet.id} is"
            )
    wanted = request.get("privateIp")
    if wanted and not addresses.usable(wanted, subnet.inputs["cidrBlock"], **network.RESERVED):
        raise Refused(
            f"InvalidParameterValue: address {wanted} cannot be used in {subnet.inputs['cidrBlock']}"
        )
    if wanted in network.private_addresses(request, subnet.id):
        raise Refused(f"InvalidIPAddress.InUse: address {wanted} is in use")


def _user_data(value: Any) -> str | None:
    size = len(str(value).encode())
    return (
        None
        if size <= USER_DATA_BYTES
        else f"user data is limited to {USER_DATA_BYTES} bytes; these are {size}"
    )


def _public(request: Request) -> str:
    asked = request.get("associatePublicIpAddress")
    given = _subnet(request).outputs.get("mapPublicIpOnLaunch") if asked is None else asked
    return network.public_address(request) if given else ""


def _addresses6(request: Request) -> list[str]:
    range_ = _subnet(request).outputs.get("ipv6CidrBlock")
    count = request.get("ipv6AddressCount")
    launched = not request.before and _subnet(request).outputs.get("assignIpv6AddressOnCreation")
    if count and not range_:
        raise Refused(f"InvalidParameterValue: {_subnet(request).id} has no IPv6 range")
    if not range_ or not (launched if count is None else count):
        return []
    return [str(ipaddress.ip_network(range_)[0x100 + request.world.serial])]


def _dns(request: Request) -> str:
    return f"ip-{request.digits(12)}.{request.region}.compute.internal"


def _renews(old: Values, new: Values) -> frozenset[str]:
    return frozenset({"userData"} if new.get("userDataReplaceOnChange") else ())


def _machine(record: Record, world: World) -> Values:
    subnet, range_ = network.subnet_range(record, world)
    tags = {**(record.outputs.get("tags") or {})}
    return {
        "id": record.id,
        "name": tags.get("edge-host") or tags.get("Name") or record.id,
        "cloud": "aws",
        "region": record.region,
        "address": record.outputs["privateIp"],
        "subnet": subnet,
        "range": range_,
        "groups": str(tags.get("edge-groups", "")).split(),
        "forwards": record.outputs.get("sourceDestCheck") is False,
        "user_data": str(record.inputs.get("userData") or ""),
    }


def _associations(record: Record, world: World) -> list[Record]:
    return [one for one in world.of(network.EIP_ASSOCIATION) if one.inputs.get("instanceId") == record.id]


def _shows(record: Record, world: World) -> Record:
    """An elastic address makes an instance a public one, whatever was said when it was launched."""
    found = _associations(record, world)
    if not found:
        return record
    public = {"associatePublicIpAddress": True}
    said = public if "associatePublicIpAddress" in record.inputs else {}
    outputs = {**record.outputs, **public, "publicIp": found[0].outputs["publicIp"]}
    return replace(record, inputs={**record.inputs, **said}, outputs=outputs)


def _release(record: Record, world: World) -> None:
    """A terminated instance gives up its elastic address."""
    for one in _associations(record, world):
        world.remove(one)


def _profile(request: Request) -> None:
    for other in request.others(PROFILE, region=""):
        if other.id == request.get("name"):
            raise Refused(f"EntityAlreadyExists: there is an instance profile {other.id}")


def _release_role(record: Record, world: World) -> None:
    users = [each.id for each in world.of(ROLE_POLICY, PROFILE) if each.inputs.get("role") == record.id]
    if users:
        raise Refused(f"DeleteConflict: role {record.id} is used by {', '.join(users)}")


def _iam(kind: str) -> str:
    return f"arn:aws:iam::{facts.ACCOUNT}:{kind}/{{name}}"


TYPES = (
    Type(
        network.INSTANCE,
        "i-{digits}",
        required=("ami", "instanceType"),
        fixed=frozenset(
            {
                "ami",
                "subnetId",
                "availabilityZone",
                "keyName",
                "privateIp",
                "associatePublicIpAddress",
                "placementGroup",
            }
        ),
        renews=_renews,
        refers={"iamInstanceProfile": PROFILE},
        rules={
            "instanceType": rules.one_of(facts.TYPES, "instance type of the simulated AWS"),
            "ami": rules.matches(r"ami-[0-9a-f]{8,17}", "an image id is ami- and 8 to 17 hexadecimal digits"),
            "userData": _user_data,
            "metadataOptions.httpTokens": rules.one_of(("required", "optional"), "value of httpTokens"),
            "rootBlockDevice.volumeType": rules.one_of(
                ("gp2", "gp3", "io1", "io2", "st1", "sc1", "standard"), "volume type"
            ),
            "rootBlockDevice.volumeSize": rules.between(8, 16384, "size in GiB"),
        },
        defaults={"sourceDestCheck": True, "ebsOptimized": False, "monitoring": False},
        outputs={
            "arn": f"arn:aws:ec2:{{region}}:{facts.ACCOUNT}:instance/{{id}}",
            "privateIp": network.private_address,
            "publicIp": _public,
            "privateDns": _dns,
            "ipv6Addresses": _addresses6,
            "availabilityZone": lambda request: _subnet(request).inputs["availabilityZone"],
            "primaryNetworkInterfaceId": "eni-{digits}",
            "instanceState": lambda request: "running",
        },
        follows={"ipv6Addresses": "ipv6AddressCount"},
        admit=_instance,
        release=_release,
        shows=_shows,
        lets_go=True,
        weak=frozenset({"userData"}),
        quota="vCPUs",
        weight=lambda inputs: facts.TYPES.get(inputs.get("instanceType", ""), 1),
        machine=_machine,
    ),
    Type(
        ROLE,
        "{name}",
        named="name",
        name_rule=IAM_NAME,
        everywhere=True,
        required=("assumeRolePolicy",),
        fixed=frozenset({"name", "path"}),
        rules={"assumeRolePolicy": rules.policy},
        outputs={"arn": _iam("role"), "uniqueId": "AROA{digits}"},
        release=_release_role,
    ),
    Type(
        ROLE_POLICY,
        "{role}:{name}",
        named="name",
        everywhere=True,
        required=("policy", "role"),
        fixed=frozenset({"name", "role"}),
        rules={"policy": rules.policy},
        refers={"role": ROLE},
        weak=frozenset({"policy"}),
    ),
    Type(
        PROFILE,
        "{name}",
        named="name",
        name_rule=IAM_NAME,
        everywhere=True,
        fixed=frozenset({"name", "path"}),
        refers={"role": ROLE},
        admit=_profile,
        outputs={"arn": _iam("instance-profile"), "uniqueId": "AIPA{digits}"},
    ),
)
