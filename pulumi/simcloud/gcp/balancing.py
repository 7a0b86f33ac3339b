"""Google Cloud load balancers, and records of Cloud DNS."""

from __future__ import annotations

from simcloud import rules
from simcloud.gcp import network
from simcloud.gcp.network import REGIONAL, ZONAL, type_
from simcloud.schema import Refused, Request, Type
from simcloud.values import at, first
from simcloud.world import Record, World

GROUP = network.GROUP
REGION_CHECK, CHECK = "gcp:compute/regionHealthCheck:RegionHealthCheck", "gcp:compute/healthCheck:HealthCheck"
BACKEND = "gcp:compute/regionBackendService:RegionBackendService"
RECORD = "gcp:dns/recordSet:RecordSet"
CHECKS = {
    "checkIntervalSec": rules.between(1, 300, "interval"),
    "timeoutSec": rules.between(1, 300, "timeout"),
    "httpHealthCheck.port": rules.between(1, 65535, "port"),
    "tcpHealthCheck.port": rules.between(1, 65535, "port"),
    "healthyThreshold": rules.between(1, 10),
    "unhealthyThreshold": rules.between(1, 10),
}


def _group(request: Request) -> None:
    for link in request.get("instances") or []:
        _joins(request, link, request.id)


def _membership(request: Request) -> None:
    group = network.needed(request, request.get("instanceGroup"), GROUP)
    if group.inputs.get("zone") != request.get("zone"):
        raise Refused(f"Error 404: The resource '{request.get('instanceGroup')}' was not found, notFound")
    _joins(request, request.get("instance"), group.id)
    for other in request.others(network.MEMBERSHIP):
        if other.inputs["instance"] == request.get("instance"):
            raise Refused(
                f"Error 400: {request.get('instance')} is a member of the group already, memberAlreadyExists"
            )


def _joins(request: Request, link: str, group: str) -> None:
    """An instance is in the group's zone, and in no other group."""
    instance = network.needed(request, link, network.INSTANCE)
    if instance.inputs.get("zone") != request.get("zone"):
        raise Refused(f"Error 400: {link} is not in zone {request.get('zone')}, invalid")
    for other in request.others(GROUP):
        if other.id != group and link in network.members(other, request.world):
            raise Refused(f"Error 400: {link} is a member of the group {other.inputs['name']}, invalid")


def _check(request: Request) -> None:
    if int(request.get("timeoutSec", 5)) > int(request.get("checkIntervalSec", 5)):
        raise Refused("Error 400: timeoutSec may not be longer than checkIntervalSec, invalid")


def _backend(request: Request) -> None:
    for each in request.get("backends") or []:
        group = network.needed(request, each["group"], GROUP)
        if not str(group.inputs["zone"]).startswith(request.region):
            raise Refused(f"Error 400: group {group.inputs['name']} is not in {request.region}, invalid")
        if request.get("loadBalancingScheme") == "EXTERNAL" and each.get("balancingMode") != "CONNECTION":
            raise Refused("Error 400: a passthrough load balancer balances by CONNECTION, invalid")


def _forwarding(request: Request) -> None:
    backend = network.needed(request, request.get("backendService"), BACKEND)
    if backend.inputs.get("protocol") not in (request.get("ipProtocol"), "UNSPECIFIED"):
        raise Refused(
            f"Error 400: rule of {request.get('ipProtocol')}, "
            f"backend service of {backend.inputs.get('protocol')}, invalid"
        )
    for other in request.others(network.FORWARDING):
        same = (other.inputs.get("ipAddress"), other.inputs.get("ipProtocol"))
        shared = set(other.inputs.get("ports") or []) & set(request.get("ports") or [])
        if same == (request.get("ipAddress"), request.get("ipProtocol")) and shared:
            raise Refused(
                f"Error 400: {request.get('ipAddress')} port {shared.pop()} has another rule, invalid"
            )
    if backend.inputs.get("loadBalancingScheme", "EXTERNAL") != request.get(
        "loadBalancingScheme", "EXTERNAL"
    ):
        raise Refused("Error 400: rule and backend service are of different schemes, invalid")
    if bool(request.get("ports")) == bool(request.get("allPorts")):
        raise Refused("Error 400: a rule has ports or allPorts, invalid")
    if request.get("loadBalancingScheme") == "INTERNAL":
        _internal(request)
        return
    address = request.get("ipAddress")
    if address and not any(
        address in (each.outputs["address"], each.id, each.outputs["selfLink"])
        for each in request.others(network.ADDRESS)
    ):
        raise Refused(f"Error 400: {address} is not a reserved address of {request.region}, invalid")


def _internal(request: Request) -> None:
    subnetwork = network.needed(request, request.get("subnetwork"), network.SUBNETWORK)
    if subnetwork.region != request.region:
        raise Refused(f"Error 400: {subnetwork.inputs['name']} is not in {request.region}, invalid")


def _own_address(request: Request) -> str:
    """Of an internal rule: the next free one of its subnetwork."""
    if request.before:
        return str(request.before["ipAddress"])
    return network.private_address(
        request, network.needed(request, request.get("subnetwork"), network.SUBNETWORK)
    )


def _record(request: Request) -> None:
    if bool(request.get("rrdatas")) == bool(request.get("routingPolicy")):
        raise Refused("Error 400: a record set has rrdatas or a routingPolicy, invalid")
    for other in request.others(RECORD):
        if all(other.inputs.get(key) == request.get(key) for key in ("managedZone", "name", "type")):
            raise Refused(f"Error 409: The resource '{request.get('name')}' already exists, alreadyExists")


def addresses_behind(service: Record, world: World) -> list[str]:
    """Private addresses of the instances behind a backend service."""
    return [
        str(first(instance.outputs, "networkInterfaces[].networkIp"))
        for link in at(service.inputs, "backends[].group")
        if (group := world.find(str(link), GROUP))
        for member in network.members(group, world)
        if (instance := world.find(str(member), network.INSTANCE))
    ]


TYPES = (
    type_(
        GROUP,
        "instanceGroups",
        ZONAL,
        fixed=frozenset({"network"}),
        outputs={"size": lambda r: len(r.get("instances") or [])},
        admit=_group,
    ),
    Type(
        network.MEMBERSHIP,
        "{project}/{zone}/{instanceGroup}/{instance}",
        required=("instance", "instanceGroup"),
        fixed=frozenset({"instance", "instanceGroup", "zone", "project"}),
        outputs={"project": "{project}"},
        # The group outlives its members, and the instance takes its membership along.
        weak=frozenset({"instance"}),
        admit=_membership,
    ),
    type_(REGION_CHECK, "healthChecks", REGIONAL, rules=CHECKS, admit=_check),
    type_(CHECK, "healthChecks", rules=CHECKS, admit=_check),
    type_(
        BACKEND,
        "backendServices",
        REGIONAL,
        required=("healthChecks",),
        fixed=frozenset({"loadBalancingScheme", "network"}),
        rules={
            "protocol": rules.one_of(
                ("TCP", "UDP", "UNSPECIFIED"), "protocol of a passthrough load balancer"
            ),
            "sessionAffinity": rules.one_of(
                ("NONE", "CLIENT_IP", "CLIENT_IP_PROTO", "CLIENT_IP_PORT_PROTO"), "affinity"
            ),
        },
        outputs={"generatedId": lambda request: int(request.digits(12), 16)},
        admit=_backend,
    ),
    type_(
        network.FORWARDING,
        "forwardingRules",
        REGIONAL,
        fixed=frozenset(
            {
                "ipAddress",
                "ipProtocol",
                "ports",
                "portRange",
                "allPorts",
                "loadBalancingScheme",
                "network",
                "subnetwork",
            }
        ),
        rules={
            "ipProtocol": rules.one_of(("TCP", "UDP", "L3_DEFAULT"), "protocol"),
            "ports[]": rules.port_range,
        },
        outputs={"ipAddress": _own_address},
        admit=_forwarding,
    ),
    Type(
        RECORD,
        "projects/{project}/managedZones/{managedZone}/rrsets/{name}/{type}",
        everywhere=True,
        required=("managedZone", "name", "type"),
        fixed=frozenset({"managedZone", "name", "type", "project"}),
        rules={
            "name": rules.matches(r"([\w*-]+\.)+", "the name of a record ends with a dot"),
            "ttl": rules.between(0, 2147483647, "time to live"),
        },
        outputs={"project": "{project}"},
        admit=_record,
    ),
)
