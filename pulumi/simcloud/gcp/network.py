"""Google Cloud networks: subnetworks, routers, firewalls, addresses."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

from simcloud import addresses, rules
from simcloud.gcp import facts
from simcloud.schema import Output, Refused, Request, Type
from simcloud.world import Record, World

NETWORK, SUBNETWORK = "gcp:compute/network:Network", "gcp:compute/subnetwork:Subnetwork"
ROUTER, NAT = "gcp:compute/router:Router", "gcp:compute/routerNat:RouterNat"
FIREWALL, ADDRESS = "gcp:compute/firewall:Firewall", "gcp:compute/address:Address"
ROUTE, INSTANCE = "gcp:compute/route:Route", "gcp:compute/instance:Instance"
NEXT_HOPS = ("nextHopGateway", "nextHopInstance", "nextHopIp", "nextHopIlb", "nextHopVpnTunnel")
FORWARDING = "gcp:compute/forwardingRule:ForwardingRule"
GROUP = "gcp:compute/instanceGroup:InstanceGroup"
MEMBERSHIP = "gcp:compute/instanceGroupMembership:InstanceGroupMembership"
# Google keeps the first two addresses of a subnetwork and the last two.
RESERVED = {"reserved_first": 2, "reserved_last": 2}
# RFC 1035, as every name in this API.
NAME = rules.matches(
    r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", "1 to 63 lower-case letters, digits and hyphens, a letter first"
)
PROTOCOLS = rules.one_of(("tcp", "udp", "icmp", "esp", "ah", "sctp", "ipip", "all"), "protocol")
MTU = rules.between(1300, 8896, "MTU")


def path(collection: str, scope: str = "global") -> Output:
    """The id of a resource: projects/P/SCOPE/COLLECTION/NAME."""
    return f"projects/{{project}}/{scope}/{collection}/{{name}}"


def link(collection: str, scope: str = "global") -> Output:
    return f"{facts.API}{path(collection, scope)}"


REGIONAL, ZONAL = "regions/{region}", "zones/{zone}"


def found(request: Request, reference: Any, token: str) -> Record | None:
    """A resource by id, self link or plain name."""
    known = request.find(reference, token)
    if known is not None:
        return known
    same = [record for record in request.others(token) if record.inputs.get("name") == reference]
    return same[0] if same else None


def needed(request: Request, reference: Any, token: str) -> Record:
    known = found(request, reference, token)
    if known is None:
        raise Refused(f"Error 404: The resource '{reference}' was not found, notFound")
    return known


def _subnetwork(request: Request) -> None:
    network = needed(request, request.get("network"), NETWORK)
    if network.outputs.get("autoCreateSubnetworks"):
        raise Refused("Error 400: Cannot create subnetworks in an auto mode network, invalid")
    ours = [
        other
        for other in request.others(SUBNETWORK)
        if found(request, other.inputs["network"], NETWORK) == network
    ]
    if clash := addresses.overlapping(
        request.get("ipCidrRange"), [other.inputs["ipCidrRange"] for other in ours]
    ):
        raise Refused(
            f"Error 400: Invalid IPCidrRange: {request.get('ipCidrRange')} conflicts with {clash}, invalid"
        )
    if request.get("stackType") == "IPV4_IPV6" and not request.get("ipv6AccessType"):
        raise Refused("Error 400: ipv6AccessType is needed with stackType IPV4_IPV6, invalid")


def members(group: Record, world: World) -> list[str]:
    """Links of the instances in a group, whichever way they came into it."""
    mine = {group.id, group.outputs["selfLink"], group.inputs["name"]}
    joined = [
        one.inputs["instance"]
        for one in world.of(MEMBERSHIP)
        if one.inputs["instanceGroup"] in mine and one.inputs.get("zone") == group.inputs.get("zone")
    ]
    return [*(group.inputs.get("instances") or []), *joined]


def leave_groups(instance: Record, world: World) -> None:
    """What Google Cloud does when an instance goes: it is a member of nothing afterwards, unasked."""
    names = {instance.id, *instance.names}
    for one in list(world.of(MEMBERSHIP)):
        if one.inputs["instance"] in names:
            world.remove(one)
    for group in list(world.of(GROUP)):
        given = group.inputs.get("instances") or []
        left = [link for link in given if link not in names]
        if left != given:
            world.remove(group)
            changed = {"instances": left}
            outputs = {**group.outputs, **changed, "size": len(left)}
            world.add(replace(group, inputs={**group.inputs, **changed}, outputs=outputs))


def _router(request: Request) -> None:
    needed(request, request.get("network"), NETWORK)


def _nat(request: Request) -> None:
    router = needed(request, request.get("router"), ROUTER)
    if router.region != request.region:
        raise Refused(f"Error 404: The router '{router.inputs['name']}' is in {router.region}, notFound")
    for each in request.get("subnetworks") or []:
        subnetwork = needed(request, each["name"], SUBNETWORK)
        if subnetwork.region != request.region:
            raise Refused(f"Error 400: subnetwork {each['name']} is in {subnetwork.region}, invalid")
        for other in request.others(NAT):
            if each["name"] in [their["name"] for their in other.inputs.get("subnetworks") or []]:
                raise Refused(
                    f"Error 400: {each['name']} is in the NAT {other.inputs['name']} already, invalid"
                )


def _firewall(request: Request) -> None:
    needed(request, request.get("network"), NETWORK)
    allows, denies = request.get("allows"), request.get("denies")
    if bool(allows) == bool(denies):
        raise Refused("Error 400: exactly one of allowed and denied is needed, invalid")
    for each in [*(allows or []), *(denies or [])]:
        if each.get("ports") and each["protocol"] not in ("tcp", "udp", "sctp"):
            raise Refused(f"Error 400: protocol {each['protocol']} has no ports, invalid")
    if request.get("direction") != "EGRESS" and not any(
        request.get(key) for key in ("sourceRanges", "sourceTags", "sourceServiceAccounts")
    ):
        raise Refused(
            "Error 400: an ingress rule needs sourceRanges, sourceTags or sourceServiceAccounts, invalid"
        )


def _address(request: Request) -> Any:
    if request.get("addressType") == "INTERNAL":
        subnetwork = needed(request, request.get("subnetwork"), SUBNETWORK)
        return private_address(request, subnetwork)
    return next_public(request)


def next_public(request: Request) -> str | None:
    """A public address that nobody has: neither reserved, nor lent to an instance or to a NAT."""
    taken = {str(record.outputs.get("address")) for record in request.others(ADDRESS)}
    taken |= {str(ip) for record in request.others(INSTANCE) for ip in public_of(record)}
    taken |= {str(ip) for record in request.others(NAT) for ip in record.outputs.get("autoNetworkIps") or []}
    return addresses.next_public(facts.PUBLIC, taken)


def _nat_addresses(request: Request) -> list[str | None]:
    """What Google Cloud lends a NAT that has no addresses of its own."""
    return [next_public(request)] if request.get("natIpAllocateOption") == "AUTO_ONLY" else []


def public_of(instance: Record) -> list[str]:
    """The public addresses of an instance's interfaces."""
    return [
        str(access.get("natIp"))
        for interface in instance.outputs.get("networkInterfaces") or []
        for access in interface.get("accessConfigs") or []
    ]


def private_address(request: Request, subnetwork: Record) -> str:
    taken = {
        str(interface.get("networkIp"))
        for record in request.others(INSTANCE)
        for interface in record.outputs.get("networkInterfaces") or []
    }
    taken |= {str(record.outputs.get("address")) for record in request.others(ADDRESS)}
    taken |= {str(record.outputs.get("ipAddress")) for record in request.others(FORWARDING)}
    chosen = addresses.free(subnetwork.inputs["ipCidrRange"], taken, **RESERVED)
    if chosen is None:
        raise Refused(f"IP_SPACE_EXHAUSTED: {subnetwork.inputs['name']} has no free address")
    return chosen


def _gateway(request: Request) -> str:
    return str(next(ipaddress.ip_network(request.get("ipCidrRange")).hosts()))


def _route(request: Request) -> None:
    network = needed(request, request.get("network"), NETWORK)
    hops = [key for key in NEXT_HOPS if request.get(key)]
    if len(hops) != 1:
        raise Refused(f"Error 400: a route has exactly one of {', '.join(NEXT_HOPS)}, invalid")
    if hops == ["nextHopInstance"]:
        instance = needed(request, request.get("nextHopInstance"), INSTANCE)
        if instance.outputs.get("canIpForward") is not True:
            raise Refused(
                f"Error 400: {instance.inputs['name']} cannot forward packets (canIpForward), invalid"
            )
    if hops == ["nextHopIlb"]:
        rule = needed(request, request.get("nextHopIlb"), FORWARDING)
        if rule.inputs.get("loadBalancingScheme") != "INTERNAL":
            raise Refused(f"Error 400: {rule.inputs['name']} is no internal passthrough balancer, invalid")
        if found(request, rule.inputs.get("network"), NETWORK) != network:
            raise Refused(f"Error 400: {rule.inputs['name']} is in another network than the route, invalid")
    for subnetwork in request.others(SUBNETWORK):
        same = found(request, subnetwork.inputs["network"], NETWORK) == network
        range_ = subnetwork.inputs["ipCidrRange"]
        if same and addresses.inside(request.get("destRange"), range_):
            raise Refused(f"Error 400: {request.get('destRange')} lies in the subnetwork {range_}, invalid")


def type_(token: str, collection: str, scope: str = "global", **more: Any) -> Type:
    """A resource with a name, an id and a self link as all in this API have them."""
    outputs = {"selfLink": link(collection, scope), "project": "{project}", **more.pop("outputs", {})}
    return Type(
        token,
        path(collection, scope),
        named="name",
        name_rule=NAME,
        outputs=outputs,
        fixed=frozenset({"name", "project", "region", "zone"}) | more.pop("fixed", frozenset()),
        everywhere=scope == "global",
        **more,
    )


TYPES = (
    type_(
        NETWORK,
        "networks",
        quota="NETWORKS",
        fixed=frozenset({"autoCreateSubnetworks", "enableUlaInternalIpv6"}),
        rules={"mtu": MTU, "routingMode": rules.one_of(("REGIONAL", "GLOBAL"), "routing mode")},
        defaults={"autoCreateSubnetworks": True, "mtu": 1460, "routingMode": "REGIONAL"},
        outputs={
            "gatewayIpv4": lambda request: "",
            "internalIpv6Range": lambda r: (
                f"fd20:{r.world.serial:x}::/48" if r.get("enableUlaInternalIpv6") else ""
            ),
        },
    ),
    type_(
        SUBNETWORK,
        "subnetworks",
        REGIONAL,
        required=("network", "ipCidrRange"),
        quota="SUBNETWORKS",
        fixed=frozenset({"network", "ipv6AccessType"}),
        rules={
            "ipCidrRange": rules.network(4, 29),
            "stackType": rules.one_of(("IPV4_ONLY", "IPV4_IPV6", "IPV6_ONLY"), "stack type"),
        },
        defaults={"privateIpGoogleAccess": False, "stackType": "IPV4_ONLY"},
        outputs={"gatewayAddress": _gateway},
        admit=_subnetwork,
    ),
    type_(ROUTER, "routers", REGIONAL, required=("network",), fixed=frozenset({"network"}), admit=_router),
    Type(
        NAT,
        "{project}/{region}/{router}/{name}",
        named="name",
        name_rule=NAME,
        required=("router", "natIpAllocateOption", "sourceSubnetworkIpRangesToNat"),
        fixed=frozenset({"name", "router", "region", "project"}),
        refers={},
        rules={
            "natIpAllocateOption": rules.one_of(("AUTO_ONLY", "MANUAL_ONLY"), "option"),
            "sourceSubnetworkIpRangesToNat": rules.one_of(
                (
                    "ALL_SUBNETWORKS_ALL_IP_RANGES",
                    "ALL_SUBNETWORKS_ALL_PRIMARY_IP_RANGES",
                    "LIST_OF_SUBNETWORKS",
                ),
                "choice",
            ),
        },
        outputs={"autoNetworkIps": _nat_addresses},
        admit=_nat,
    ),
    type_(
        FIREWALL,
        "firewalls",
        required=("network",),
        quota="FIREWALLS",
        fixed=frozenset({"network", "direction"}),
        rules={
            "priority": rules.between(0, 65535, "priority"),
            "sourceRanges[]": rules.network(),
            "allows[].protocol": PROTOCOLS,
            "denies[].protocol": PROTOCOLS,
            "allows[].ports[]": rules.port_range,
            "sourceTags[]": NAME,
            "targetTags[]": NAME,
            "direction": rules.one_of(("INGRESS", "EGRESS"), "direction"),
        },
        defaults={"priority": 1000, "direction": "INGRESS"},
        outputs={"creationTimestamp": lambda request: "2026-01-01T00:00:00Z"},
        admit=_firewall,
    ),
    type_(
        ADDRESS,
        "addresses",
        REGIONAL,
        quota="STATIC_ADDRESSES",
        fixed=frozenset({"addressType", "networkTier", "subnetwork"}),
        rules={
            "addressType": rules.one_of(("EXTERNAL", "INTERNAL"), "type of address"),
            "networkTier": rules.one_of(("PREMIUM", "STANDARD"), "network tier"),
        },
        defaults={"addressType": "EXTERNAL", "networkTier": "PREMIUM"},
        outputs={"address": _address},
    ),
    type_(
        ROUTE,
        "routes",
        required=("network", "destRange"),
        fixed=frozenset({"network", "destRange", "priority", *NEXT_HOPS}),
        rules={"destRange": rules.network(), "priority": rules.between(0, 65535, "priority")},
        defaults={"priority": 1000},
        admit=_route,
    ),
)
