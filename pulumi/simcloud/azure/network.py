"""Azure networks: virtual networks, subnets, security groups, public addresses, interfaces."""

from __future__ import annotations

import copy
from typing import Any

from simcloud import addresses, rules
from simcloud.azure import facts
from simcloud.schema import Refused, Request, Type, Values
from simcloud.values import first
from simcloud.world import Record, World

GROUP = "azure-native:resources:ResourceGroup"
NETWORK, SUBNET = "azure-native:network:VirtualNetwork", "azure-native:network:Subnet"
NAT, ADDRESS = "azure-native:network:NatGateway", "azure-native:network:PublicIPAddress"
ASG, NSG = "azure-native:network:ApplicationSecurityGroup", "azure-native:network:NetworkSecurityGroup"
RULE, INTERFACE = "azure-native:network:SecurityRule", "azure-native:network:NetworkInterface"
MACHINE, BALANCER = "azure-native:compute:VirtualMachine", "azure-native:network:LoadBalancer"
TABLE, ROUTE = "azure-native:network:RouteTable", "azure-native:network:Route"
# Azure keeps the first four addresses of a subnet and the last.
RESERVED = {"reserved_first": 4, "reserved_last": 1}
NAME = rules.matches(
    r"[a-zA-Z0-9]([\w.-]{0,78}\w)?", "1 to 80 letters, digits, _ . and -, a letter or digit first"
)
SERVICE_TAGS = ("Internet", "VirtualNetwork", "AzureLoadBalancer", "*")


def resource_id(provider: str, kind: str, name: str) -> str:
    """The id of a resource of a group: its path in the resource manager."""
    group = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}"
    return f"{group}/providers/Microsoft.{provider}/{kind}/{{{name}}}"


def group_of(request: Request) -> Record:
    group = next(
        (each for each in request.others(GROUP) if each.outputs["name"] == request.get("resourceGroupName")),
        None,
    )
    if group is None:
        raise Refused(
            f'ResourceGroupNotFound: Resource group "{request.get("resourceGroupName")}" could not be found.'
        )
    return group


def beside(request: Request, token: str, key: str) -> Record:
    """The resource of the same group that ``key`` names."""
    wanted = (request.get("resourceGroupName"), request.get(key))
    for other in request.others(token):
        if (other.inputs.get("resourceGroupName"), other.inputs.get(key)) == wanted:
            return other
    raise Refused(
        f"ResourceNotFound: The Resource '{request.get(key)}' in resource group '{wanted[0]}' was not found."
    )


def _in_group(request: Request) -> None:
    group_of(request)


def prefixes(record: Record, key: str = "addressPrefix") -> list[str]:
    return [record.inputs[key]] if record.inputs.get(key) else list(record.inputs.get(f"{key}es") or [])


def _subnet(request: Request) -> None:
    network = beside(request, NETWORK, "virtualNetworkName")
    wanted = (
        [request.get("addressPrefix")]
        if request.get("addressPrefix")
        else request.get("addressPrefixes") or []
    )
    if not wanted:
        raise Refused("InvalidRequestFormat: a subnet needs addressPrefix or addressPrefixes")
    spaces = network.inputs["addressSpace"]["addressPrefixes"]
    siblings = [
        other
        for other in request.others(SUBNET)
        if other.inputs["virtualNetworkName"] == request.get("virtualNetworkName")
        and other.inputs["resourceGroupName"] == request.get("resourceGroupName")
    ]
    for range_ in wanted:
        if not any(addresses.inside(range_, space) for space in spaces):
            raise Refused(f"NetcfgSubnetRangeOutsideVnet: Subnet {range_} is in none of the ranges {spaces}.")
        for other in siblings:
            if clash := addresses.overlapping(range_, prefixes(other)):
                raise Refused(
                    f"NetcfgSubnetRangesOverlap: {range_} overlaps {clash} of {other.inputs['subnetName']}."
                )


def _network(request: Request) -> None:
    group_of(request)
    for range_ in request.get("addressSpace", {}).get("addressPrefixes") or []:
        if reason := (rules.network(2, 29) if "." in range_ else rules.network(48, 64, version=6))(range_):
            raise Refused(f"InvalidAddressPrefixFormat: {reason}")


def _public(request: Request) -> Any:
    if request.get("publicIPAddressVersion") == "IPv6":
        return f"2603:1000::{request.world.serial:x}"
    taken = {str(record.outputs.get("ipAddress")) for record in request.others(ADDRESS)}
    return addresses.next_public(facts.PUBLIC, taken)


def _address(request: Request) -> None:
    group_of(request)
    sku = first(request.inputs, "sku.name", "Basic")
    if sku == "Standard" and request.get("publicIPAllocationMethod") != "Static":
        raise Refused(
            "StandardSkuPublicIPAddressesMustBeStatic: a Standard address has AllocationMethod Static."
        )
    for zone in request.get("zones") or []:
        if zone not in facts.ZONES[request.region]:
            raise Refused(f"InvalidAvailabilityZone: zone {zone} is not available in {request.region}.")


def _rule(request: Request) -> None:
    beside(request, NSG, "networkSecurityGroupName")
    for other in request.others(RULE):
        same_group = all(
            other.inputs.get(key) == request.get(key)
            for key in ("resourceGroupName", "networkSecurityGroupName", "direction")
        )
        if same_group and other.inputs["priority"] == request.get("priority"):
            raise Refused(
                f"SecurityRuleConflict: {other.inputs['securityRuleName']} has {request.get('priority')} "
                f"and direction {request.get('direction')} too."
            )
    sources = ("sourceAddressPrefix", "sourceAddressPrefixes", "sourceApplicationSecurityGroups")
    if sum(bool(request.get(key)) for key in sources) != 1:
        raise Refused(f"SecurityRuleInvalidSource: a rule has one of {', '.join(sources)}.")


def _source(value: Any) -> str | None:
    if value in SERVICE_TAGS:
        return None
    return rules.network(narrowest=128, version=6 if ":" in str(value) else 4)(value)


def _ports(value: Any) -> str | None:
    return None if value == "*" else rules.port_range(value)


def _interface(request: Request) -> None:
    group_of(request)
    for configuration in request.get("ipConfigurations") or []:
        subnet = request.find(first(configuration, "subnet.id", ""), SUBNET)
        if subnet is None:
            raise Refused(
                f"InvalidResourceReference: interface {request.get('networkInterfaceName')} needs a subnet."
            )
        wanted = configuration.get("privateIPAddress")
        if wanted and not addresses.usable(wanted, prefixes(subnet)[0], **RESERVED):
            raise Refused(f"PrivateIPAddressNotInSubnet: {wanted} cannot be used in {prefixes(subnet)[0]}.")
        _public_is_free(request, first(configuration, "publicIPAddress.id"))


def _public_is_free(request: Request, wanted: Any) -> None:
    if not wanted:
        return
    for other in request.others(INTERFACE, NAT, BALANCER):
        text = first(other.inputs, "ipConfigurations[].publicIPAddress.id")
        fronts = [
            first(each, "publicIPAddress.id") for each in other.inputs.get("frontendIPConfigurations") or []
        ]
        if wanted in (text, *fronts):
            raise Refused(f"PublicIPAddressInUse: {wanted} is used by {other.id}.")


def _configurations(request: Request) -> list[Values]:
    """The interface's configurations with the private addresses that the subnet gives."""
    taken = private_addresses(request)
    before = [each.get("privateIPAddress") for each in request.before.get("ipConfigurations") or []]
    made = []
    for number, given in enumerate(copy.deepcopy(request.get("ipConfigurations") or [])):
        subnet = request.find(given["subnet"]["id"], SUBNET)
        assert subnet is not None
        kept = before[number] if number < len(before) else None
        if given.get("privateIPAddressVersion") == "IPv6":
            address: str | None = kept or f"fd00::{request.world.serial:x}"
        else:
            address = (
                given.get("privateIPAddress")
                or kept
                or addresses.free(prefixes(subnet)[0], taken, **RESERVED)
            )
        if address is None:
            raise Refused(f"SubnetIsFull: Subnet {subnet.inputs['subnetName']} has no free address.")
        taken.add(address)
        made.append(
            {**given, "privateIPAddress": address, "id": f"{request.id}/ipConfigurations/{given.get('name')}"}
        )
    return made


def _routed(request: Request) -> None:
    beside(request, TABLE, "routeTableName")
    appliance = request.get("nextHopType") == "VirtualAppliance"
    if appliance != bool(request.get("nextHopIpAddress")):
        raise Refused(
            "InvalidNextHopIpAddress: nextHopIpAddress goes with VirtualAppliance, and only with it."
        )
    for other in request.others(ROUTE):
        keys = ("resourceGroupName", "routeTableName", "addressPrefix")
        if all(other.inputs.get(key) == request.get(key) for key in keys):
            raise Refused(
                f"RouteConflict: {other.inputs['routeName']} leads to {request.get('addressPrefix')} too."
            )
    if appliance:
        _forwards(request, str(request.get("nextHopIpAddress")))


def _forwards(request: Request, address: str) -> None:
    """Packets sent to an interface that does not forward are dropped; here the route is refused."""
    for record in request.others(INTERFACE):
        own = [each.get("privateIPAddress") for each in record.outputs.get("ipConfigurations") or []]
        if address in own and not record.inputs.get("enableIPForwarding"):
            raise Refused(
                f"{record.outputs['name']} has {address} and no enableIPForwarding: it drops what it is sent"
            )


def fronts(record: Record) -> set[str]:
    """Private addresses of a load balancer."""
    found = {each.get("privateIPAddress") for each in record.inputs.get("frontendIPConfigurations") or []}
    return {str(address) for address in found if address}


def private_addresses(request: Request) -> set[str]:
    """Private addresses that interfaces and balancers have."""
    taken = {
        str(each.get("privateIPAddress"))
        for record in request.others(INTERFACE)
        for each in record.outputs.get("ipConfigurations") or []
    }
    return taken | {address for record in request.others(BALANCER) for address in fronts(record)}


def type_(token: str, provider: str, kind: str, name: str, **more: Any) -> Type:
    """A resource of a group, as all in the resource manager have them."""
    outputs = {
        "name": f"{{{name}}}",
        "provisioningState": lambda request: "Succeeded",
        "azureApiVersion": lambda request: "simulated",
    }
    return Type(
        token,
        resource_id(provider, kind, name),
        named=name,
        name_rule=more.pop("name_rule", NAME),
        required=("resourceGroupName", *more.pop("required", ())),
        fixed=frozenset({name, "resourceGroupName", "location"}) | more.pop("fixed", frozenset()),
        admit=more.pop("admit", _in_group),
        outputs={**outputs, **more.pop("outputs", {})},
        **more,
    )


def _release_group(record: Record, world: World) -> None:
    # Azure would take all of it along; refused, so that an order that is wrong shows.
    name = record.outputs["name"]
    inside = [
        other.id
        for other in world.records
        if other.token != GROUP and other.inputs.get("resourceGroupName") == name
    ]
    if inside:
        raise Refused(f"ResourceGroupDeletionBlocked: {name} still contains {', '.join(inside[:3])}.")


_NETWORKS = "virtualNetworks/{virtualNetworkName}/subnets"
_RULES = "networkSecurityGroups/{networkSecurityGroupName}/securityRules"

TYPES = (
    Type(
        GROUP,
        "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}",
        named="resourceGroupName",
        name_rule=rules.matches(
            r"[\w().-]{0,89}[\w()-]", "1 to 90 letters, digits, _ ( ) . and -, no dot last"
        ),
        fixed=frozenset({"resourceGroupName", "location"}),
        outputs={"name": "{resourceGroupName}"},
        release=_release_group,
    ),
    type_(
        NETWORK,
        "Network",
        "virtualNetworks",
        "virtualNetworkName",
        required=("addressSpace",),
        admit=_network,
        quota="VirtualNetworks",
    ),
    type_(
        SUBNET,
        "Network",
        _NETWORKS,
        "subnetName",
        required=("virtualNetworkName",),
        fixed=frozenset({"virtualNetworkName"}),
        admit=_subnet,
    ),
    type_(
        NAT,
        "Network",
        "natGateways",
        "natGatewayName",
        rules={"sku.name": rules.one_of(("Standard", "StandardV2"), "sku")},
    ),
    type_(ASG, "Network", "applicationSecurityGroups", "applicationSecurityGroupName"),
    type_(NSG, "Network", "networkSecurityGroups", "networkSecurityGroupName", quota="NetworkSecurityGroups"),
    type_(
        RULE,
        "Network",
        _RULES,
        "securityRuleName",
        required=("networkSecurityGroupName", "priority", "direction", "access", "protocol"),
        fixed=frozenset({"networkSecurityGroupName"}),
        rules={
            "priority": rules.between(100, 4096, "priority"),
            "direction": rules.one_of(("Inbound", "Outbound"), "direction"),
            "access": rules.one_of(("Allow", "Deny"), "access"),
            "protocol": rules.one_of(("Tcp", "Udp", "Icmp", "Esp", "Ah", "*"), "protocol"),
            "sourceAddressPrefix": _source,
            "sourceAddressPrefixes[]": _source,
            "destinationPortRange": _ports,
            "destinationPortRanges[]": _ports,
        },
        admit=_rule,
    ),
    type_(
        ADDRESS,
        "Network",
        "publicIPAddresses",
        "publicIpAddressName",
        quota="PublicIPAddresses",
        fixed=frozenset({"sku", "zones", "publicIPAddressVersion"}),
        rules={"publicIPAllocationMethod": rules.one_of(("Static", "Dynamic"), "method")},
        defaults={"publicIPAddressVersion": "IPv4", "publicIPAllocationMethod": "Dynamic"},
        outputs={"ipAddress": _public},
        admit=_address,
    ),
    type_(
        INTERFACE,
        "Network",
        "networkInterfaces",
        "networkInterfaceName",
        required=("ipConfigurations",),
        admit=_interface,
        fills={"ipConfigurations": _configurations},
        outputs={"macAddress": lambda request: f"00-0D-3A-{request.digits(2)}-00-01".upper()},
    ),
    type_(TABLE, "Network", "routeTables", "routeTableName"),
    type_(
        ROUTE,
        "Network",
        "routeTables/{routeTableName}/routes",
        "routeName",
        required=("routeTableName", "nextHopType"),
        fixed=frozenset({"routeTableName"}),
        rules={
            "addressPrefix": _source,
            "nextHopType": rules.one_of(
                ("VirtualNetworkGateway", "VnetLocal", "Internet", "VirtualAppliance", "None"), "next hop"
            ),
        },
        admit=_routed,
    ),
)
