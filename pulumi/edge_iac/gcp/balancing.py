"""An external passthrough network load balancer: packets arrive as the client sent them.

The host sees the balancer's own address as destination (Google's guest agent adds a local route for it), so
it must take packets for that address.
"""

from __future__ import annotations

import pulumi_gcp as gcp

import pulumi
from edge_iac.base import HEALTH_PATH, Addresses, Front, Made, Network, Vip
from edge_iac.component import Part
from edge_iac.plan import Region
from edge_iac.site.front import FrontPort, forwarding_rules
from edge_iac.site.names import balancer_name

INTERVAL_S = 5
TIMEOUT_S = 2
THRESHOLD = 2


class BalancingPart(Part):
    """A health check, and per protocol a backend service with its forwarding rules."""

    cloud, kind = "gcp", "LoadBalancing"

    def __init__(self, region: Region, provider: gcp.Provider) -> None:
        super().__init__(region.name, provider)
        self._region = region
        self._name = balancer_name(region.site, region.cloud, region.name)
        self._check = gcp.compute.RegionHealthCheck(
            region.name,
            name=self._name,
            region=region.name,
            http_health_check=gcp.compute.RegionHealthCheckHttpHealthCheckArgs(
                port=region.health_port, request_path=HEALTH_PATH
            ),
            check_interval_sec=INTERVAL_S,
            timeout_sec=TIMEOUT_S,
            healthy_threshold=THRESHOLD,
            unhealthy_threshold=THRESHOLD,
            opts=self.child(),
        )
        self.made = Front(id=self._check.self_link)
        self.groups: list[pulumi.Output[str]] = []

    def attach(self, hosts: tuple[Made, ...], network: Network, addresses: Addresses) -> tuple[Vip, ...]:
        """Groups the ingress hosts by zone and sends the balancer's packets to them."""
        (vip,) = addresses.vips
        groups = self.groups = groups_of(self, self._name, hosts, network)
        protocols = sorted({protocol for protocol, _ in self._region.front_ports})
        services = {protocol: self._service(protocol, groups) for protocol in protocols}
        made: list[pulumi.Resource] = []
        for name, ports in forwarding_rules(self._region.front_ports).items():
            # The proxies' own comes first: a port that it loses may be another's from now on.
            made.append(self._forward(name, ports, services[ports[0][0]], vip.address, after=made[:1]))
        self.register_outputs({"address": vip.address})
        return (
            Vip(
                name=self._region.name,
                cloud="gcp",
                region=self._region.name,
                address=vip.address,
                seen_as=vip.address,
            ),
        )

    def _service(self, protocol: str, groups: list[pulumi.Output[str]]) -> gcp.compute.RegionBackendService:
        return gcp.compute.RegionBackendService(
            f"{self._region.name}-{protocol}",
            name=f"{self._name}-{protocol}",
            region=self._region.name,
            protocol=protocol.upper(),
            load_balancing_scheme="EXTERNAL",
            health_checks=self._check.self_link,
            backends=[
                gcp.compute.RegionBackendServiceBackendArgs(group=group, balancing_mode="CONNECTION")
                for group in groups
            ],
            opts=self.child(),
        )

    def _forward(
        self,
        name: str,
        ports: tuple[FrontPort, ...],
        service: gcp.compute.RegionBackendService,
        address: pulumi.Output[str],
        *,
        after: list[pulumi.Resource],
    ) -> gcp.compute.ForwardingRule:
        return gcp.compute.ForwardingRule(
            f"{self._region.name}-{name}",
            name=f"{self._name}-{name}",
            region=self._region.name,
            ip_address=address,
            ip_protocol=ports[0][0].upper(),
            ports=[str(port) for _, port in ports],
            load_balancing_scheme="EXTERNAL",
            backend_service=service.self_link,
            opts=self.child(depends_on=after),
        )


def groups_of(part: Part, name: str, hosts: tuple[Made, ...], network: Network) -> list[pulumi.Output[str]]:
    """Groups of the ingress hosts by zone; a host is in one group, whichever balancers use it.

    Members are resources of their own. A group forgets an instance that goes, and the one that takes its
    place has the same link: a list of members would show no change, and the new host would stay outside. A
    membership goes and comes with its instance, since its instance cannot be changed in place.
    """
    zones: dict[str, list[Made]] = {}
    for host in hosts:
        if host.plan.role == "ingress":
            zones.setdefault(host.plan.zone, []).append(host)
    return [_group(part, name, zone, own, network) for zone, own in sorted(zones.items())]


def _group(part: Part, name: str, zone: str, hosts: list[Made], network: Network) -> pulumi.Output[str]:
    group = gcp.compute.InstanceGroup(
        zone,
        name=f"{name}-{zone.rpartition('-')[2]}",
        zone=zone,
        network=network.id,
        opts=part.child(),
    )
    for host in hosts:
        gcp.compute.InstanceGroupMembership(
            host.plan.name,
            zone=zone,
            instance_group=group.name,
            instance=host.link,
            opts=part.child(),
        )
    return group.self_link
