"""A network load balancer before the ingress hosts; clients keep their addresses.

The balancer sends packets to each host's own private address, so that is what the host sees as destination.
"""

from __future__ import annotations

from collections.abc import Iterable

import pulumi_aws as aws

import pulumi
from edge_iac.aws.tags import named
from edge_iac.base import HEALTH_PATH, SEEN_AS_OWN, Addresses, Front, Made, Network, Reachability, Vip
from edge_iac.component import Part
from edge_iac.plan import Region
from edge_iac.site.names import balancer_name

INTERVAL_S = 10
THRESHOLD = 2
BOTH = "TCP_UDP"


class BalancingPart(Part):
    """The balancer, with a listener and a target group per port."""

    cloud, kind = "aws", "LoadBalancing"

    def __init__(
        self,
        region: Region,
        *,
        network: Network,
        reachability: Reachability,
        addresses: Addresses,
        provider: aws.Provider,
    ) -> None:
        super().__init__(region.name, provider)
        self._region = region
        self._name = balancer_name(region.site, region.cloud, region.name)
        self._balancer = aws.lb.LoadBalancer(
            region.name,
            name=self._name,
            load_balancer_type="network",
            internal=False,
            # A zone without a healthy host of its own is served by another.
            enable_cross_zone_load_balancing=True,
            security_groups=[reachability.front] if reachability.front is not None else None,
            subnet_mappings=[
                aws.lb.LoadBalancerSubnetMappingArgs(
                    subnet_id=network.subnets[subnet.name], allocation_id=vip.id
                )
                for subnet, vip in zip(region.in_tier("outer"), addresses.vips, strict=True)
            ],
            tags=named(region, "edge"),
            opts=self.child(depends_on=[*network.way_out]),
        )
        self._targets = {
            port: self._group(port, protocol, network)
            for port, protocol in listeners(region.front_ports).items()
        }
        self.made = Front(id=self._balancer.arn)
        self.register_outputs({"balancer": self._balancer.arn})

    def _group(self, port: int, protocol: str, network: Network) -> aws.lb.TargetGroup:
        name = _worded(port, protocol)
        return aws.lb.TargetGroup(
            f"{self._region.name}-{name}",
            name=f"{self._name}-{name}",
            port=port,
            protocol=protocol,
            target_type="instance",
            vpc_id=network.id,
            preserve_client_ip="true",
            health_check=aws.lb.TargetGroupHealthCheckArgs(
                protocol="HTTP",
                path=HEALTH_PATH,
                port=str(self._region.health_port),
                interval=INTERVAL_S,
                healthy_threshold=THRESHOLD,
                unhealthy_threshold=THRESHOLD,
            ),
            tags=named(self._region, f"edge-{name}"),
            # In another network it is made anew under its name, once the balancer's listeners have gone.
            opts=self.child(depends_on=[self._balancer]),
        )

    def attach(self, hosts: tuple[Made, ...], addresses: Addresses) -> tuple[Vip, ...]:
        """Puts the ingress hosts into every target group, and then a listener before it."""
        edges = [host for host in hosts if host.plan.role == "ingress"]
        for port, protocol in listeners(self._region.front_ports).items():
            self._listen(port, protocol, [self._attach(host, port, protocol) for host in edges])
        return tuple(
            Vip(
                name=f"{self._region.name}-{number + 1}",
                cloud="aws",
                region=self._region.name,
                address=vip.address,
                seen_as=SEEN_AS_OWN,
            )
            for number, vip in enumerate(addresses.vips)
        )

    def _attach(self, host: Made, port: int, protocol: str) -> aws.lb.TargetGroupAttachment:
        return aws.lb.TargetGroupAttachment(
            f"{host.plan.name}-{_worded(port, protocol)}",
            target_group_arn=self._targets[port].arn,
            target_id=host.link,
            port=port,
            opts=self.child(),
        )

    def _listen(self, port: int, protocol: str, attached: list[pulumi.Resource]) -> None:
        """One listener for a port, whose protocol changes in place: a second one on it would be refused.

        It waits for its targets, so that one that turns to another group finds them there.
        """
        name = f"{self._region.name}-{port}"
        aws.lb.Listener(
            name,
            load_balancer_arn=self._balancer.arn,
            port=port,
            protocol=protocol,
            default_actions=[
                aws.lb.ListenerDefaultActionArgs(type="forward", target_group_arn=self._targets[port].arn)
            ],
            opts=self.child(depends_on=attached, called=[f"{name}-tcp", f"{name}-udp"]),
        )


def listeners(ports: Iterable[tuple[str, int]]) -> dict[int, str]:
    """Port -> protocol of its listener and its target group; BOTH where it has tcp and udp."""
    found: dict[int, str] = {}
    for protocol, port in ports:
        found[port] = BOTH if port in found else protocol.upper()
    return found


def _worded(port: int, protocol: str) -> str:
    """'443-tcp'; '443' of both protocols, since names of target groups hold no underscore."""
    return str(port) if protocol == BOTH else f"{port}-{protocol.lower()}"
