"""AWS networks: VPCs, subnets, routes, addresses, security groups."""

from __future__ import annotations

from simcloud import addresses, rules
from simcloud.aws import facts
from simcloud.schema import Refused, Request, Type
from simcloud.values import first
from simcloud.world import Record, World

VPC, SUBNET = "aws:ec2/vpc:Vpc", "aws:ec2/subnet:Subnet"
GATEWAY, TABLE, ROUTE = (
    "aws:ec2/internetGateway:InternetGateway",
    "aws:ec2/routeTable:RouteTable",
    "aws:ec2/route:Route",
)
ASSOCIATION, EIP = "aws:ec2/routeTableAssociation:RouteTableAssociation", "aws:ec2/eip:Eip"
EIP_ASSOCIATION, NAT = "aws:ec2/eipAssociation:EipAssociation", "aws:ec2/natGateway:NatGateway"
EGRESS_ONLY = "aws:ec2/egressOnlyInternetGateway:EgressOnlyInternetGateway"
GROUP = "aws:ec2/securityGroup:SecurityGroup"
INGRESS_RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
EGRESS_RULE = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
INSTANCE, BALANCER = "aws:ec2/instance:Instance", "aws:lb/loadBalancer:LoadBalancer"
# AWS keeps the first four addresses of a subnet and the last.
RESERVED = {"reserved_first": 4, "reserved_last": 1}
RULES_PER_GROUP = 60
TARGETS = (
    "gatewayId",
    "natGatewayId",
    "networkInterfaceId",
    "egressOnlyGatewayId",
    "transitGatewayId",
    "vpcPeeringConnectionId",
)
SOURCES = ("cidrIpv4", "cidrIpv6", "referencedSecurityGroupId", "prefixListId")


def vpc_of(request: Request, reference: object) -> str:
    """The VPC that a subnet, group, gateway or interface lies in."""
    found = request.find(reference)
    if found is None:
        return ""
    if found.token == VPC:
        return found.id
    inputs = found.inputs
    return str(inputs.get("vpcId") or (vpc_of(request, inputs["subnetId"]) if inputs.get("subnetId") else ""))


def has_internet(request: Request, vpc: str) -> bool:
    return any(gateway.inputs.get("vpcId") == vpc for gateway in request.others(GATEWAY))


def private_addresses(request: Request, subnet: str) -> set[str]:
    users = [record for record in request.others(INSTANCE, NAT) if record.inputs.get("subnetId") == subnet]
    balancers = [interfaces_of(record).get(subnet, "") for record in request.others(BALANCER)]
    return {*balancers, *(str(record.outputs["privateIp"]) for record in users)}


def interfaces_of(balancer: Record) -> dict[str, str]:
    """Subnet -> the balancer's own address there."""
    found = balancer.outputs.get("networkInterfaces") or []
    return {str(each["subnetId"]): str(each["privateIp"]) for each in found}


def private_address(request: Request, subnet_id: str | None = None) -> str:
    """The next free address of a subnet, by default of the one that the request names."""
    subnet = request.find(subnet_id or request.get("subnetId"))
    assert subnet is not None, "references are checked before anything is computed"
    chosen = addresses.free(subnet.inputs["cidrBlock"], private_addresses(request, subnet.id), **RESERVED)
    if chosen is None:
        raise Refused(f"InsufficientFreeAddressesInSubnet: {subnet.id} has no free address")
    return chosen


def public_address(request: Request) -> str:
    taken = {str(record.outputs.get("publicIp")) for record in request.others(EIP, INSTANCE)}
    address = addresses.next_public(facts.PUBLIC, taken)
    if address is None:
        raise Refused("InsufficientAddressCapacity: no public address is left")
    return address


def _vpc_range6(request: Request) -> str:
    return (
        f"2600:1f00:{request.world.serial & 0xFFFF:x}:100::/56"
        if request.get("assignGeneratedIpv6CidrBlock")
        else ""
    )


def _subnet(request: Request) -> None:
    vpc = request.find(request.get("vpcId"), VPC)
    range_, zone = request.get("cidrBlock"), request.get("availabilityZone")
    assert vpc is not None
    if zone not in facts.zones(request.region):
        raise Refused(
            f"InvalidParameterValue: there is no zone {zone} in {request.region}; "
            f"zones are {', '.join(facts.zones(request.region))}"
        )
    if not addresses.inside(range_, vpc.inputs["cidrBlock"]):
        raise Refused(f"InvalidSubnet.Range: {range_} is not inside {vpc.inputs['cidrBlock']} of {vpc.id}")
    others = [other for other in request.others(SUBNET) if other.inputs["vpcId"] == vpc.id]
    if clash := addresses.overlapping(range_, [other.inputs["cidrBlock"] for other in others]):
        raise Refused(f"InvalidSubnet.Conflict: {range_} overlaps the subnet {clash}")
    range6 = request.get("ipv6CidrBlock")
    if range6 and not (
        vpc.outputs.get("ipv6CidrBlock") and addresses.inside(range6, vpc.outputs["ipv6CidrBlock"])
    ):
        raise Refused(f"InvalidSubnet.Range: {range6} is not inside the IPv6 range of {vpc.id}")


def _gateway(request: Request) -> None:
    vpc = request.get("vpcId")
    if vpc and has_internet(request, vpc):
        raise Refused(f"Resource.AlreadyAssociated: {vpc} has an internet gateway")


def _release_gateway(record: Record, world: World) -> None:
    vpc = record.inputs.get("vpcId")
    for association in world.of(EIP_ASSOCIATION):
        instance = world.find(str(association.inputs.get("instanceId")), INSTANCE)
        subnet = world.find(str(instance.inputs["subnetId"]), SUBNET) if instance else None
        if subnet and subnet.inputs["vpcId"] == vpc:
            raise Refused(f"DependencyViolation: {vpc} has mapped public addresses ({association.id})")


def _route(request: Request) -> None:
    table = request.find(request.get("routeTableId"))
    targets = [key for key in TARGETS if request.get(key)]
    destination = request.get("destinationCidrBlock") or request.get("destinationIpv6CidrBlock")
    if len(targets) != 1 or not destination:
        raise Refused("MissingParameter: a route has one destination and one target")
    assert table is not None
    for other in request.others(ROUTE):
        theirs = other.inputs.get("destinationCidrBlock") or other.inputs.get("destinationIpv6CidrBlock")
        if other.inputs["routeTableId"] == table.id and theirs == destination:
            raise Refused(f"RouteAlreadyExists: {table.id} has a route to {destination}")
    theirs = vpc_of(request, request.get(targets[0]))
    if theirs and theirs != vpc_of(request, table.id):
        raise Refused(
            f"InvalidParameterValue: {table.id} and {request.get(targets[0])} belong to different networks"
        )
    instance = request.find(request.get("networkInterfaceId")) if request.get("networkInterfaceId") else None
    if instance and instance.outputs.get("sourceDestCheck") is not False:
        raise Refused(
            f"InvalidParameterValue: {instance.id} checks sources and destinations; "
            "a next hop needs sourceDestCheck off"
        )


def _associate(request: Request) -> None:
    if vpc_of(request, request.get("subnetId")) != vpc_of(request, request.get("routeTableId")):
        raise Refused("InvalidParameterValue: route table and subnet belong to different networks")
    if any(other.inputs.get("subnetId") == request.get("subnetId") for other in request.others(ASSOCIATION)):
        raise Refused(f"Resource.AlreadyAssociated: {request.get('subnetId')} has a route table")


def allocation_is_free(request: Request, allocation: object, *tokens: str) -> None:
    """Refuse an address that a NAT gateway or a load balancer has, or one of the types in ``tokens``."""
    for other in request.others(NAT, BALANCER, *tokens):
        if allocation in (other.inputs.get("allocationId"), *_mapped(other)):
            raise Refused(f"Resource.AlreadyAssociated: {allocation} belongs to {other.id}")


def _mapped(record: Record) -> list[object]:
    return [each.get("allocationId") for each in record.inputs.get("subnetMappings") or []]


def _attach_address(request: Request) -> None:
    # From host to host an address moves at once; the association before is then gone.
    allocation_is_free(request, request.get("allocationId"))
    vpc = vpc_of(request, request.get("instanceId"))
    if not has_internet(request, vpc):
        raise Refused(f"Gateway.NotAttached: {vpc} has no internet gateway")


def _nat(request: Request) -> None:
    allocation_is_free(request, request.get("allocationId"), EIP_ASSOCIATION)
    vpc = vpc_of(request, request.get("subnetId"))
    if not has_internet(request, vpc):
        raise Refused(f"Gateway.NotAttached: {vpc} has no internet gateway")


def _group(request: Request) -> None:
    for other in request.others(GROUP):
        if (other.inputs.get("vpcId"), other.inputs["name"]) == (request.get("vpcId"), request.get("name")):
            raise Refused(
                f"InvalidGroup.Duplicate: {request.get('vpcId')} has a security group {request.get('name')}"
            )


def _rule(request: Request) -> None:
    given = [key for key in SOURCES if request.get(key)]
    if len(given) != 1:
        raise Refused(f"InvalidParameterValue: a rule has one of {', '.join(SOURCES)}, not {len(given)}")
    low, high = request.get("fromPort"), request.get("toPort")
    if request.get("ipProtocol") in ("tcp", "udp") and (low is None or high is None or low > high):
        raise Refused(f"InvalidParameterValue: a rule of {request.get('ipProtocol')} has fromPort <= toPort")
    group = request.get("securityGroupId")
    theirs = request.get("referencedSecurityGroupId")
    if theirs and vpc_of(request, theirs) != vpc_of(request, group):
        raise Refused(f"InvalidGroup.NotFound: {theirs} is not in the network of {group}")
    same = [other for other in request.others(request.token) if other.inputs["securityGroupId"] == group]
    if len(same) >= RULES_PER_GROUP:
        raise Refused(f"RulesPerSecurityGroupLimitExceeded: {group} has {RULES_PER_GROUP} rules")
    keys = ("ipProtocol", "fromPort", "toPort", *SOURCES)
    if any(all(other.inputs.get(key) == request.get(key) for key in keys) for other in same):
        raise Refused(f"InvalidPermission.Duplicate: {group} has this rule")


def _arn(kind: str) -> str:
    return f"arn:aws:ec2:{{region}}:{facts.ACCOUNT}:{kind}/{{id}}"


def _allocated(request: Request) -> object:
    allocation = request.find(request.get("allocationId"))
    return allocation.outputs["publicIp"] if allocation else ""


def _rule_type(token: str) -> Type:
    return Type(
        token,
        "sgr-{digits}",
        required=("securityGroupId", "ipProtocol"),
        fixed=frozenset({"securityGroupId"}),
        rules={
            "ipProtocol": rules.one_of(("tcp", "udp", "icmp", "icmpv6", "-1"), "protocol"),
            "cidrIpv4": rules.network(),
            "cidrIpv6": rules.network(narrowest=128, version=6),
            "fromPort": rules.between(-1, 65535, "port"),
            "toPort": rules.between(-1, 65535, "port"),
        },
        outputs={"arn": _arn("security-group-rule"), "securityGroupRuleId": "{id}"},
        admit=_rule,
    )


GROUP_NAME = rules.matches(
    r"(?!sg-)[\w .:/()#,@\[\]+=&;{}!$*-]{1,255}",
    "1 to 255 letters, digits and ._-:/()#,@[]+=&;{}!$*, not sg-...",
)
DESCRIPTION = rules.matches(
    r"[\w .:/()#,@\[\]+=&;{}!$*-]{0,255}", "AWS takes letters, digits and ._-:/()#,@[]+=&;{}!$* here"
)

TYPES = (
    Type(
        VPC,
        "vpc-{digits}",
        required=("cidrBlock",),
        fixed=frozenset({"cidrBlock", "instanceTenancy"}),
        quota="VPCs",
        rules={"cidrBlock": rules.network(16, 28)},
        defaults={"enableDnsSupport": True, "enableDnsHostnames": False, "instanceTenancy": "default"},
        outputs={
            "arn": _arn("vpc"),
            "ownerId": facts.ACCOUNT,
            "mainRouteTableId": "rtb-{digits}",
            "defaultSecurityGroupId": "sg-{digits}",
            "defaultNetworkAclId": "acl-{digits}",
            "ipv6CidrBlock": _vpc_range6,
        },
        follows={"ipv6CidrBlock": "assignGeneratedIpv6CidrBlock"},
    ),
    Type(
        SUBNET,
        "subnet-{digits}",
        required=("vpcId",),
        fixed=frozenset({"vpcId", "cidrBlock", "availabilityZone"}),
        rules={"cidrBlock": rules.network(16, 28), "ipv6CidrBlock": rules.network(64, 64, version=6)},
        defaults={"mapPublicIpOnLaunch": False, "assignIpv6AddressOnCreation": False},
        outputs={
            "arn": _arn("subnet"),
            "ownerId": facts.ACCOUNT,
            "availabilityZoneId": "{availabilityZone}-id",
        },
        admit=_subnet,
    ),
    Type(
        GATEWAY,
        "igw-{digits}",
        outputs={"arn": _arn("internet-gateway"), "ownerId": facts.ACCOUNT},
        admit=_gateway,
        release=_release_gateway,
    ),
    Type(EGRESS_ONLY, "eigw-{digits}", required=("vpcId",), fixed=frozenset({"vpcId"})),
    Type(
        TABLE,
        "rtb-{digits}",
        required=("vpcId",),
        fixed=frozenset({"vpcId"}),
        outputs={"arn": _arn("route-table"), "ownerId": facts.ACCOUNT},
    ),
    Type(
        ROUTE,
        "r-{routeTableId}{digits}",
        required=("routeTableId",),
        fixed=frozenset({"routeTableId", "destinationCidrBlock", "destinationIpv6CidrBlock"}),
        rules={
            "destinationCidrBlock": rules.network(),
            "destinationIpv6CidrBlock": rules.network(narrowest=128, version=6),
        },
        outputs={"state": lambda request: "active", "origin": lambda request: "CreateRoute"},
        admit=_route,
    ),
    Type(
        ASSOCIATION,
        "rtbassoc-{digits}",
        required=("routeTableId",),
        fixed=frozenset({"subnetId", "gatewayId"}),
        admit=_associate,
    ),
    Type(
        EIP,
        "eipalloc-{digits}",
        fixed=frozenset({"domain"}),
        quota="Elastic IPs",
        rules={"domain": rules.one_of(("vpc",), "domain")},
        outputs={"arn": _arn("elastic-ip"), "allocationId": "{id}", "publicIp": public_address},
    ),
    Type(
        EIP_ASSOCIATION,
        "eipassoc-{digits}",
        required=("allocationId",),
        fixed=frozenset({"allocationId", "instanceId", "networkInterfaceId"}),
        outputs={"publicIp": _allocated},
        admit=_attach_address,
    ),
    Type(
        NAT,
        "nat-{digits}",
        required=("subnetId",),
        fixed=frozenset({"subnetId", "allocationId"}),
        # Routes to it lead nowhere then, and stay.
        lets_go=True,
        quota="NAT gateways",
        outputs={"publicIp": _allocated, "privateIp": private_address, "networkInterfaceId": "eni-{digits}"},
        admit=_nat,
    ),
    Type(
        GROUP,
        "sg-{digits}",
        named="name",
        name_rule=GROUP_NAME,
        fixed=frozenset({"name", "description", "vpcId"}),
        quota="security groups",
        rules={"description": DESCRIPTION},
        defaults={"description": "Managed by Pulumi"},
        outputs={"arn": _arn("security-group"), "ownerId": facts.ACCOUNT},
        admit=_group,
    ),
    _rule_type(INGRESS_RULE),
    _rule_type(EGRESS_RULE),
)


def table_of(subnet: Record, world: World) -> str:
    """The route table of a subnet: its own, or its network's main one."""
    for each in world.of(ASSOCIATION):
        if each.inputs.get("subnetId") == subnet.id:
            return str(each.inputs["routeTableId"])
    vpc = world.find(str(subnet.inputs["vpcId"]), VPC)
    return str(vpc.outputs["mainRouteTableId"]) if vpc else ""


def subnet_range(record: Record, world: World) -> tuple[str, str]:
    """The id and the range of the subnet that a record lies in."""
    subnet = world.find(str(first(record.inputs, "subnetId")), SUBNET)
    return (subnet.id, subnet.inputs["cidrBlock"]) if subnet else ("", "")
