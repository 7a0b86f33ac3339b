"""Azure networks: virtual networks, subnets, security groups, public addresses, interfaces."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from simcloud import addresses, rules
from simcloud.azure import facts
from simcloud.schema import Refused, Request, Type, Values
from simcloud.values import at, first, strings
from simcloud.world import Record, World

GROUP = "azure-native:resources:ResourceGroup"
NETWORK, SUBNET = "azure-native:network:VirtualNetwork", "azure-native:network:Subnet"
NAT, ADDRESS = "azure-native:network:NatGateway", "azure-native:network:PublicIPAddress"
ASG, NSG = "azure-native:network:ApplicationSecurityGroup", "azure-native:network:NetworkSecurityGroup"
INTERFACE = "azure-native:network:NetworkInterface"
MACHINE, BALANCER = "azure-native:compute:VirtualMachine", "azure-native:network:LoadBalancer"
TABLE = "azure-native:network:RouteTable"
# Azure keeps the first four addresses of a subnet and the last.
RESERVED = {"reserved_first": 4, "reserved_last": 1}
NAME = rules.matches(
    r"[a-zA-Z0-9]([\w.-]{0,78}\w)?", "1 to 80 letters, digits, _ . and -, a letter or digit first"
)
MOST_TAGS = 50
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


def tags(value: Any) -> str | None:
    """What is wrong with the tags of a resource."""
    kept = [key for key in value if key.lower().startswith(("microsoft", "azure", "windows"))]
    if kept:
        return f"The tag names '{', '.join(kept)}' are reserved: no microsoft, azure or windows in front."
    return None if len(value) <= MOST_TAGS else f"TooManyTags: {len(value)}, and there may be {MOST_TAGS}."


def named_in_public(value: Any) -> str | None:
    """A name of what may have one in the DNS."""
    text = str(value).lower()
    if "microsoft" in text or "windows" in text or text.startswith("login"):
        return f"ReservedResourceName: {value} or a part of it is a trademarked or reserved word."
    return NAME(value)


def _in_group(request: Request) -> None:
    group_of(request)


def prefixes(subnet: Record) -> list[str]:
    """The ranges of a subnet."""
    return _ranges(subnet.inputs)


def _ranges(said: Mapping[str, Any]) -> list[str]:
    return [said["addressPrefix"]] if said.get("addressPrefix") else list(said.get("addressPrefixes") or [])


def _subnet(request: Request) -> None:
    network = beside(request, NETWORK, "virtualNetworkName")
    wanted = _ranges(request.inputs)
    if not wanted:
        raise Refused("InvalidRequestFormat: a subnet needs addressPrefix or addressPrefixes")
    _inside(wanted, network.inputs)
    if request.before and wanted != _ranges(request.before):
        for other in request.others(INTERFACE, BALANCER):
            if request.id in strings(other.inputs):
                raise Refused(f"InUseSubnetCannotBeUpdated: Subnet {request.id} is in use by {other.id}.")
    siblings = [
        other
        for other in request.others(SUBNET)
        if other.inputs["virtualNetworkName"] == request.get("virtualNetworkName")
        and other.inputs["resourceGroupName"] == request.get("resourceGroupName")
    ]
    for range_ in wanted:
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
    for subnet in request.others(SUBNET):
        if all(subnet.inputs[key] == request.get(key) for key in ("resourceGroupName", "virtualNetworkName")):
            _inside(prefixes(subnet), request.inputs)


def _inside(ranges: Collection[str], network: Values) -> None:
    spaces = network["addressSpace"]["addressPrefixes"]
    for range_ in ranges:
        if not any(addresses.inside(range_, space) for space in spaces):
            raise Refused(f"NetcfgSubnetRangeOutsideVnet: Subnet {range_} is in none of the ranges {spaces}.")


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
    zones_named(request.inputs, request.region)


def zones_named(said: Values, region: str) -> set[str]:
    """The zones that a resource, or a part of it, names; Refused where its region has not got them."""
    zones = {str(zone) for zone in said.get("zones") or []}
    if wrong := zones - set(facts.ZONES[region]):
        raise Refused(f"InvalidAvailabilityZone: zones {', '.join(sorted(wrong))} are not in {region}.")
    return zones


def _in_every_zone(record: Record, world: World) -> Record:
    """An address in some zones is in all of its region, whatever was said when it was made."""
    if len(record.inputs.get("zones") or []) < 2:
        return record
    zones = {"zones": list(facts.ZONES[record.region])}
    return replace(record, inputs={**record.inputs, **zones}, outputs={**record.outputs, **zones})


def prefix_or_tag(value: Any) -> str | None:
    """A range, or a name that stands for ranges."""
    if value in SERVICE_TAGS:
        return None
    return prefix(value)


def prefix(value: Any) -> str | None:
    """A range of IPv4 or IPv6."""
    return rules.network(narrowest=128, version=6 if ":" in str(value) else 4)(value)


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
    """Routes of a table are taken together or not at all."""
    group_of(request)
    ranges: dict[str, str] = {}
    for route in request.get("routes") or []:
        name, hop = str(route.get("name")), route.get("nextHopIpAddress")
        appliance = route.get("nextHopType") == "VirtualAppliance"
        if appliance != bool(hop):
            raise Refused(
                "InvalidNextHopIpAddress: nextHopIpAddress goes with VirtualAppliance, and only with it."
            )
        if route.get("addressPrefix") in ranges:
            taken = ranges[route["addressPrefix"]]
            raise Refused(f"RouteConflict: {taken} leads to {route['addressPrefix']} too.")
        ranges[str(route.get("addressPrefix"))] = name
        if appliance:
            _forwards(request, str(hop))


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


def members(pools: Collection[str], world: World) -> Iterator[str]:
    """Private addresses of interfaces that are in one of the pools of load balancers."""
    for interface in world.of(INTERFACE):
        for part in interface.outputs.get("ipConfigurations") or []:
            if any(pool in pools for pool in at(part, "loadBalancerBackendAddressPools[].id")):
                yield str(part["privateIPAddress"])


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
        rules={"tags": tags, **more.pop("rules", {})},
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

TYPES = (
    Type(
        GROUP,
        "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}",
        named="resourceGroupName",
        name_rule=rules.matches(
            r"[\w().-]{0,89}[\w()-]", "1 to 90 letters, digits, _ ( ) . and -, no dot last"
        ),
        fixed=frozenset({"resourceGroupName", "location"}),
        rules={"tags": tags},
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
    type_(
        ADDRESS,
        "Network",
        "publicIPAddresses",
        "publicIpAddressName",
        name_rule=named_in_public,
        quota="PublicIPAddresses",
        fixed=frozenset({"sku", "zones", "publicIPAddressVersion"}),
        rules={"publicIPAllocationMethod": rules.one_of(("Static", "Dynamic"), "method")},
        defaults={"publicIPAddressVersion": "IPv4", "publicIPAllocationMethod": "Dynamic"},
        outputs={"ipAddress": _public},
        admit=_address,
        shows=_in_every_zone,
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
    type_(
        TABLE,
        "Network",
        "routeTables",
        "routeTableName",
        rules={
            "routes[].name": NAME,
            "routes[].addressPrefix": prefix_or_tag,
            "routes[].nextHopType": rules.one_of(
                ("VirtualNetworkGateway", "VnetLocal", "Internet", "VirtualAppliance", "None"), "next hop"
            ),
        },
        admit=_routed,
    ),
)
