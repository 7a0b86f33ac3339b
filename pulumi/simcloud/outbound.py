"""By which public address what a machine sends leaves its cloud, by its own or by a NAT gateway's."""

from __future__ import annotations

from collections.abc import Iterator

from simcloud.aws import network as aws
from simcloud.azure import network as azure
from simcloud.gcp import network as gcp
from simcloud.packets import EVERYBODY
from simcloud.routes import public_addresses
from simcloud.values import at, first
from simcloud.world import Record, World


def outbound(cloud: str, world: World) -> dict[str, str]:
    """Private address of a machine -> public source of what it sends; others reach nothing outside."""
    return dict({"aws": _aws, "gcp": _gcp, "azure-native": _azure}[cloud](world))


def _aws(world: World) -> Iterator[tuple[str, str]]:
    """Where the subnet's table leads: to the internet with an address of one's own, or to a NAT gateway."""
    public = public_addresses("aws", world)
    for instance in world.of(aws.INSTANCE):
        subnet = world.find(str(instance.inputs.get("subnetId")), aws.SUBNET)
        private = str(instance.outputs["privateIp"])
        for route in world.of(aws.ROUTE) if subnet else []:
            out = route.inputs.get("destinationCidrBlock") == EVERYBODY
            if not out or route.inputs["routeTableId"] != aws.table_of(subnet, world):
                continue
            gateway = world.find(str(route.inputs.get("natGatewayId")), aws.NAT)
            if gateway is not None:
                yield private, str(gateway.outputs["publicIp"])
            elif route.inputs.get("gatewayId") and private in public:
                yield private, public[private]


def _gcp(world: World) -> Iterator[tuple[str, str]]:
    """An address of one's own, else that of the router's NAT."""
    public = public_addresses("gcp", world)
    for instance in world.of(gcp.INSTANCE):
        for interface in instance.outputs.get("networkInterfaces") or []:
            private = str(interface["networkIp"])
            subnet = world.find(str(interface.get("subnetwork")), gcp.SUBNETWORK)
            source = public.get(private) or (_gcp_nat(subnet, world) if subnet else None)
            if source is not None:
                yield private, source


def _gcp_nat(subnet: Record, world: World) -> str | None:
    for nat in world.of(gcp.NAT):
        named = [world.find(str(name), gcp.SUBNETWORK) for name in at(nat.inputs, "subnetworks[].name")]
        everybody = nat.inputs["sourceSubnetworkIpRangesToNat"] != "LIST_OF_SUBNETWORKS"
        if subnet not in named and not (everybody and _gcp_network(nat, world) == subnet.inputs["network"]):
            continue
        given = world.find(str(first(nat.inputs, "natIps[]")), gcp.ADDRESS)
        return str(given.outputs["address"]) if given else first(nat.outputs, "autoNetworkIps[]")
    return None


def _gcp_network(nat: Record, world: World) -> object:
    routers = [one for one in world.of(gcp.ROUTER) if one.inputs["name"] == nat.inputs["router"]]
    return next((one.inputs["network"] for one in routers if one.region == nat.region), None)


def _azure(world: World) -> Iterator[tuple[str, str]]:
    """The NAT gateway of the subnet, else an address of one's own; none that Azure lends."""
    public = public_addresses("azure-native", world)
    for interface in world.of(azure.INTERFACE):
        for part in interface.outputs.get("ipConfigurations") or []:
            subnet = world.find(str(first(part, "subnet.id")), azure.SUBNET)
            gateway = world.find(str(first(subnet and subnet.inputs, "natGateway.id")), azure.NAT)
            shared = world.find(
                str(first(gateway and gateway.inputs, "publicIpAddresses[].id")), azure.ADDRESS
            )
            private = str(part["privateIPAddress"])
            if shared is not None:
                yield private, str(shared.outputs["ipAddress"])
            elif private in public:
                yield private, public[private]
