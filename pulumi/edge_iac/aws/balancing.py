"""A network load balancer before the ingress hosts; clients keep their addresses.

The balancer sends packets to each host's own private address, so that is what the host sees as destination.
"""

from __future__ import annotations

import pulumi_aws as aws

from edge_iac.aws.tags import named
from edge_iac.base import HEALTH_PATH, SEEN_AS_OWN, Addresses, Front, Made, Network, Reachability, Vip
from edge_iac.component import Part
from edge_iac.plan import Region
from edge_iac.site.names import balancer_name

INTERVAL_S = 10
THRESHOLD = 2


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
        balancer = aws.lb.LoadBalancer(
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
            opts=self.child(),
        )
        self._targets = {
            (protocol, port): self._listen(protocol, port, balancer, network)
            for protocol, port in region.front_ports
        }
        self.made = Front(id=balancer.arn)
        self.register_outputs({"balancer": balancer.arn})

    def _listen(
        self, protocol: str, port: int, balancer: aws.lb.LoadBalancer, network: Network
    ) -> aws.lb.TargetGroup:
        name = f"{self._region.name}-{port}-{protocol}"
        targets = aws.lb.TargetGroup(
            name,
            name=f"{self._name}-{port}-{protocol}",
            port=port,
            protocol=protocol.upper(),
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
            tags=named(self._region, f"edge-{port}-{protocol}"),
            opts=self.child(),
        )
        aws.lb.Listener(
            name,
            load_balancer_arn=balancer.arn,
            port=port,
            protocol=protocol.upper(),
            default_actions=[aws.lb.ListenerDefaultActionArgs(type="forward", target_group_arn=targets.arn)],
            opts=self.child(),
        )
        return targets

    def attach(self, hosts: tuple[Made, ...], addresses: Addresses) -> tuple[Vip, ...]:
        """Puts the ingress hosts into every target group."""
        for host in hosts:
            if host.plan.role != "ingress":
                continue
            for (protocol, port), targets in self._targets.items():
                aws.lb.TargetGroupAttachment(
                    f"{host.plan.name}-{port}-{protocol}",
                    target_group_arn=targets.arn,
                    target_id=host.link,
                    port=port,
                    opts=self.child(),
                )
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
