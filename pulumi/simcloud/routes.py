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
from simcloud.probes import Probe, azure_probe, gcp_probe
from simcloud.schema import Values
from simcloud.values import at, first
from simcloud.world import Record, World


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


def subnets(cloud: str, world: World) -> list[Subnet]:
    """Every subnet of a cloud."""
    return list({"aws": _aws, "gcp": _gcp, "azure-native": _azure}[cloud](world))


def public_addresses(cloud: str, world: World) -> dict[str, str]:
    """Private address of a machine -> its public one, of those that have one."""
    return dict({"aws": _aws_public, "gcp": _gcp_public, "azure-native": _azure_public}[cloud](world))


def _aws(world: World) -> Iterator[Subnet]:
    for subnet in world.of(aws.SUBNET):
        vpc = world.find(subnet.inputs["vpcId"], aws.VPC)
        assert vpc is not None, "a subnet without a network is refused"
        table = aws.table_of(subnet, world)
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
    hops = tuple(balancing.addresses_behind(service, world)) if service else ()
    return Route(str(route.inputs["destRange"]), hops, gcp_probe(check) if check else None)


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
            for route in (table.inputs.get("routes") or [] if table is not None else [])
            if route.get("nextHopIpAddress")
        ]
        own = tuple(network.inputs["addressSpace"]["addressPrefixes"])
        yield Subnet("azure", subnet.id, azure.prefixes(subnet)[0], own, tuple(routes))


def _azure_route(route: Values, world: World) -> Route:
    address, range_ = str(route["nextHopIpAddress"]), str(route["addressPrefix"])
    for balancer in world.of(azure.BALANCER):
        if address in azure.fronts(balancer):
            pools = {f"{balancer.id}/backendAddressPools/{one['name']}" for one in _pools(balancer)}
            return Route(range_, tuple(azure.members(pools, world)), azure_probe(balancer))
    return Route(range_, (address,))


def _pools(balancer: Record) -> list[dict[str, Any]]:
    return balancer.inputs.get("backendAddressPools") or []


def _azure_public(world: World) -> Iterator[tuple[str, str]]:
    for interface in world.of(azure.INTERFACE):
        for part in interface.outputs.get("ipConfigurations") or []:
            public = world.find(str(first(part, "publicIPAddress.id")), azure.ADDRESS)
            if public is not None and part.get("privateIPAddressVersion") != "IPv6":
                yield str(part["privateIPAddress"]), str(public.outputs["ipAddress"])


def _key(record: Record, name: str) -> tuple[Any, Any]:
    return record.inputs.get("resourceGroupName"), record.inputs.get(name)
