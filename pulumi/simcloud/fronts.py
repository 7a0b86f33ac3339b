"""Load balancers with public addresses: who takes the packets of each port, and how they arrive there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from simcloud.aws import balancing as lb
from simcloud.aws import network as aws
from simcloud.azure import network as azure
from simcloud.gcp import balancing
from simcloud.gcp import network as gcp
from simcloud.packets import EVERYBODY
from simcloud.probes import Probe, aws_probe, azure_probe, gcp_probe
from simcloud.values import at, first
from simcloud.world import Record, World


@dataclass(frozen=True)
class Target:
    """A machine behind a balancer, by its private address."""

    address: str
    port: int


@dataclass(frozen=True)
class Front:
    """A port of a balancer's public address."""

    address: str
    protocol: Literal["tcp", "udp"]
    port: int
    sources: tuple[str, ...]
    """Ranges that the balancer itself takes packets from."""
    targets: tuple[Target, ...]
    probe: Probe | None
    keeps_destination: bool
    """Whether a target sees the balancer's address as destination; else its own."""
    hash_by: Literal["flow", "client"]
    """What decides about the target: addresses and ports, or the client's address alone."""
    last_resort: bool
    """Whether every target gets packets where none is well; else none does."""
    breaks_flows: bool
    """Whether flows end that lead to a target which ceased to be well; else they stay there."""


def fronts(cloud: str, world: World) -> list[Front]:
    """Every port of a cloud's balancers."""
    return list({"aws": _aws, "gcp": _gcp, "azure-native": _azure}[cloud](world))


def _aws(world: World) -> Iterator[Front]:
    """Network load balancers: an address in each zone, whose targets are all, or those of its zone."""
    for listener in world.of(lb.LISTENER):
        balancer = world.find(str(listener.inputs["loadBalancerArn"]), aws.BALANCER)
        group = world.find(str(first(listener.inputs, "defaultActions[].targetGroupArn")), lb.TARGETS)
        if balancer is None or group is None or balancer.inputs.get("internal"):
            continue
        own = aws.interfaces_of(balancer)
        guarded = balancer.inputs.get("securityGroups")
        port = int(listener.inputs["port"])
        for mapping in balancer.inputs.get("subnetMappings") or []:
            public = world.find(str(mapping.get("allocationId")), aws.EIP)
            if public is None or mapping["subnetId"] not in own:
                continue
            zone = None if balancer.inputs.get("enableCrossZoneLoadBalancing") else _zone(mapping, world)
            probe = aws_probe(
                group, source=own[mapping["subnetId"]], traffic_port=int(group.inputs.get("port", port))
            )
            for protocol in _protocols(str(listener.inputs["protocol"])):
                yield Front(
                    address=str(public.outputs["publicIp"]),
                    protocol=protocol,
                    port=port,
                    sources=tuple(_aws_sources(guarded, protocol, port, world)) if guarded else (EVERYBODY,),
                    targets=tuple(_aws_targets(group, zone, world)),
                    probe=probe,
                    keeps_destination=False,
                    hash_by="client" if first(group.inputs, "stickiness.enabled") else "flow",
                    last_resort=True,
                    breaks_flows=True,
                )


def _protocols(said: str) -> tuple[Literal["tcp", "udp"], ...]:
    both: dict[str, tuple[Literal["tcp", "udp"], ...]] = {"UDP": ("udp",), "TCP_UDP": ("tcp", "udp")}
    return both.get(said, ("tcp",))


def _zone(in_subnet: dict[str, Any], world: World) -> str | None:
    subnet = world.find(str(in_subnet.get("subnetId")), aws.SUBNET)
    return str(subnet.inputs["availabilityZone"]) if subnet else None


def _aws_targets(group: Record, zone: str | None, world: World) -> Iterator[Target]:
    for attached in world.of(lb.ATTACHMENT):
        instance = world.find(str(attached.inputs["targetId"]), aws.INSTANCE)
        if attached.inputs["targetGroupArn"] != group.id or instance is None:
            continue
        if zone is None or zone == _zone(instance.inputs, world):
            port = attached.inputs.get("port") or group.inputs["port"]
            yield Target(str(instance.outputs["privateIp"]), int(port))


def _aws_sources(groups: list[str], protocol: str, port: int, world: World) -> Iterator[str]:
    for rule in world.of(aws.INGRESS_RULE):
        said = rule.inputs
        if said["securityGroupId"] not in groups or not said.get("cidrIpv4"):
            continue
        if said["ipProtocol"] == "-1" or (
            said["ipProtocol"] == protocol and int(said["fromPort"]) <= port <= int(said["toPort"])
        ):
            yield str(said["cidrIpv4"])


def _gcp(world: World) -> Iterator[Front]:
    """External passthrough load balancers: packets arrive as the client sent them."""
    for rule in world.of(gcp.FORWARDING):
        service = world.find(str(rule.inputs.get("backendService")), balancing.BACKEND)
        if service is None or rule.inputs.get("loadBalancingScheme") != "EXTERNAL":
            continue
        check = world.find(str(first(service.inputs, "healthChecks")), balancing.REGION_CHECK)
        members = balancing.addresses_behind(service, world)
        for protocol in _protocols(str(rule.inputs.get("ipProtocol"))):
            for port in _ports(rule):
                yield Front(
                    address=_gcp_address(str(rule.inputs["ipAddress"]), world),
                    protocol=protocol,
                    port=port,
                    sources=(EVERYBODY,),
                    targets=tuple(Target(address, port) for address in members),
                    probe=gcp_probe(check) if check else None,
                    keeps_destination=True,
                    hash_by="flow" if service.inputs.get("sessionAffinity", "NONE") == "NONE" else "client",
                    last_resort=True,
                    # Connections persist on a target that is unwell; datagrams go to another.
                    breaks_flows=protocol == "udp",
                )


def _ports(rule: Record) -> Iterator[int]:
    for text in rule.inputs.get("ports") or []:
        low, _, high = str(text).partition("-")
        yield from range(int(low), int(high or low) + 1)


def _gcp_address(said: str, world: World) -> str:
    reserved = world.find(said, gcp.ADDRESS)
    return str(reserved.outputs["address"]) if reserved else said


def _azure(world: World) -> Iterator[Front]:
    for balancer in world.of(azure.BALANCER):
        public = {
            str(front["name"]): address
            for front in balancer.inputs.get("frontendIPConfigurations") or []
            if (address := world.find(str(first(front, "publicIPAddress.id")), azure.ADDRESS))
        }
        for rule in balancer.inputs.get("loadBalancingRules") or []:
            address = public.get(_last(first(rule, "frontendIPConfiguration.id")))
            if address is None:
                continue
            members = azure.members(set(at(rule, "backendAddressPools[].id")), world)
            for protocol in _protocols({"All": "TCP_UDP"}.get(rule["protocol"], rule["protocol"].upper())):
                yield Front(
                    address=str(address.outputs["ipAddress"]),
                    protocol=protocol,
                    port=int(rule["frontendPort"]),
                    sources=(EVERYBODY,),
                    targets=tuple(Target(member, int(rule["backendPort"])) for member in members),
                    probe=azure_probe(balancer, _last(first(rule, "probe.id"))),
                    keeps_destination=bool(rule.get("enableFloatingIP")),
                    hash_by="flow" if rule.get("loadDistribution", "Default") == "Default" else "client",
                    last_resort=False,
                    breaks_flows=protocol == "udp",
                )


def _last(reference: object) -> str:
    return str(reference).rpartition("/")[2]
