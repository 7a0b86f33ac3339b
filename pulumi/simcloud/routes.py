"""Which way packets of each subnet go, by the clouds' own route tables; public addresses of machines.

A route leads to machines: one in AWS, and in Google Cloud and Azure those behind an internal load balancer
that its health check finds well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from simcloud.aws import network as aws
from simcloud.azure import network as azure
from simcloud.gcp import balancing
from simcloud.gcp import network as gcp
from simcloud.values import at, first
from simcloud.world import Record, World


@dataclass(frozen=True)
class Probe:
    """A balancer's health check: an HTTP request to each machine behind it."""

    source: str
    port: int
    path: str
    interval_s: int
    unhealthy_after: int


@dataclass(frozen=True)
class Route:
    """A way out of the network."""

    range: str
    hops: tuple[str, ...]
    """Private addresses of machines that packets may be handed to."""
    probe: Probe | None = None
    """Asked whether a hop is well; None where nobody asks."""


@dataclass(frozen=True)
class Subnet:
    """A subnet with its route table."""

    cloud: str
    id: str
    range: str
    network: tuple[str, ...]
    """Ranges of the whole network: inside, everything is one hop away."""
    routes: tuple[Route, ...]


# One address of those that the clouds' probes come from.
GCP_PROBES, AZURE_PROBES = "35.191.0.9", "168.63.129.16"


def subnets(cloud: str, world: World) -> list[Subnet]:
    """Every subnet of a cloud."""
    return list({"aws": _aws, "gcp": _gcp, "azure-native": _azure}[cloud](world))


def public_addresses(cloud: str, world: World) -> dict[str, str]:
    """Private address of a machine -> its public one, of those that have one."""
    return dict({"aws": _aws_public, "gcp": _gcp_public, "azure-native": _azure_public}[cloud](world))


def _aws(world: World) -> Iterator[Subnet]:
    tables = {each.inputs.get("subnetId"): each.inputs["routeTableId"] for each in world.of(aws.ASSOCIATION)}
    for subnet in world.of(aws.SUBNET):
        vpc = world.find(subnet.inputs["vpcId"], aws.VPC)
        assert vpc is not None, "a subnet without a network is refused"
        table = tables.get(subnet.id, vpc.outputs["mainRouteTableId"])
        routes = []
        for route in world.of(aws.ROUTE):
            target = world.find(str(route.outputs.get("networkInterfaceId")), aws.INSTANCE)
            if route.inputs["routeTableId"] == table and route.outputs.get("networkInterfaceId"):
                hops = (str(target.outputs["privateIp"]),) if target else ()
                routes.append(Route(str(route.inputs["destinationCidrBlock"]), hops))
        own = (str(vpc.inputs["cidrBlock"]),)
        yield Subnet("aws", subnet.id, str(subnet.inputs["cidrBlock"]), own, tuple(routes))


def _aws_public(world: World) -> Iterator[tuple[str, str]]:
    for each in world.of(aws.EIP_ASSOCIATION):
        instance = world.find(str(each.inputs.get("instanceId")), aws.INSTANCE)
        if instance is not None:
            yield str(instance.outputs["privateIp"]), str(each.outputs["publicIp"])


def _gcp(world: World) -> Iterator[Subnet]:
    for subnet in world.of(gcp.SUBNETWORK):
        network = world.find(str(subnet.inputs["network"]), gcp.NETWORK)
        siblings = [
            each
            for each in world.of(gcp.SUBNETWORK)
            if world.find(str(each.inputs["network"]), gcp.NETWORK) == network
        ]
        routes = [
            _gcp_route(route, world)
            for route in sorted(world.of(gcp.ROUTE), key=lambda one: one.inputs.get("priority", 1000))
            if world.find(str(route.inputs["network"]), gcp.NETWORK) == network
            and route.inputs.get("nextHopIlb")
        ]
        own = tuple(str(each.inputs["ipCidrRange"]) for each in siblings)
        yield Subnet("gcp", subnet.id, str(subnet.inputs["ipCidrRange"]), own, tuple(routes))


def _gcp_route(route: Record, world: World) -> Route:
    rule = world.find(str(route.inputs["nextHopIlb"]), gcp.FORWARDING)
    service = world.find(str(first(rule and rule.inputs, "backendService")), balancing.BACKEND)
    check = world.find(str(first(service and service.inputs, "healthChecks")), balancing.REGION_CHECK)
    hops = [
        str(first(instance.outputs, "networkInterfaces[].networkIp"))
        for link in at(service and service.inputs, "backends[].group")
        if (group := world.find(str(link), balancing.GROUP))
        for member in gcp.members(group, world)
        if (instance := world.find(str(member), gcp.INSTANCE))
    ]
    probe = None
    if check is not None:
        said = check.inputs
        probe = Probe(
            source=GCP_PROBES,
            port=int(first(said, "httpHealthCheck.port")),
            path=str(first(said, "httpHealthCheck.requestPath", "/")),
            interval_s=int(said.get("checkIntervalSec", 5)),
            unhealthy_after=int(said.get("unhealthyThreshold", 2)),
        )
    return Route(str(route.inputs["destRange"]), tuple(hops), probe)


def _gcp_public(world: World) -> Iterator[tuple[str, str]]:
    for instance in world.of(gcp.INSTANCE):
        for interface in instance.outputs.get("networkInterfaces") or []:
            for public in at(interface, "accessConfigs[].natIp"):
                yield str(interface["networkIp"]), str(public)


def _azure(world: World) -> Iterator[Subnet]:
    networks = {_key(each, "virtualNetworkName"): each for each in world.of(azure.NETWORK)}
    for subnet in world.of(azure.SUBNET):
        network = networks[_key(subnet, "virtualNetworkName")]
        table = world.find(str(first(subnet.inputs, "routeTable.id")), azure.TABLE)
        routes = [
            _azure_route(route, world)
            for route in world.of(azure.ROUTE)
            if table is not None
            and _key(route, "routeTableName") == _key(table, "routeTableName")
            and route.inputs.get("nextHopIpAddress")
        ]
        own = tuple(network.inputs["addressSpace"]["addressPrefixes"])
        yield Subnet("azure", subnet.id, azure.prefixes(subnet)[0], own, tuple(routes))


def _azure_route(route: Record, world: World) -> Route:
    address = str(route.inputs["nextHopIpAddress"])
    range_ = str(route.inputs["addressPrefix"])
    for balancer in world.of(azure.BALANCER):
        if address in azure.fronts(balancer):
            return Route(range_, tuple(_members(balancer, world)), _azure_probe(balancer))
    return Route(range_, (address,))


def _members(balancer: Record, world: World) -> Iterator[str]:
    pools = f"{balancer.id}/backendAddressPools/"
    for interface in world.of(azure.INTERFACE):
        for part in interface.outputs.get("ipConfigurations") or []:
            if any(str(pool).startswith(pools) for pool in at(part, "loadBalancerBackendAddressPools[].id")):
                yield str(part["privateIPAddress"])


def _azure_probe(balancer: Record) -> Probe | None:
    said: dict[str, Any] | None = first(balancer.inputs, "probes[]")
    if said is None:
        return None
    return Probe(
        source=AZURE_PROBES,
        port=int(said["port"]),
        path=str(said.get("requestPath", "/")),
        interval_s=int(said.get("intervalInSeconds", 15)),
        unhealthy_after=int(said.get("probeThreshold", 1)),
    )


def _azure_public(world: World) -> Iterator[tuple[str, str]]:
    for interface in world.of(azure.INTERFACE):
        for part in interface.outputs.get("ipConfigurations") or []:
            public = world.find(str(first(part, "publicIPAddress.id")), azure.ADDRESS)
            if public is not None and part.get("privateIPAddressVersion") != "IPv6":
                yield str(part["privateIPAddress"]), str(public.outputs["ipAddress"])


def _key(record: Record, name: str) -> tuple[Any, Any]:
    return record.inputs.get("resourceGroupName"), record.inputs.get(name)
