"""Routes to the other regions: an internal load balancer is the next hop, and finds a gateway that lives.

It asks every ingress host; those that are no gateways do not answer. Packets keep their addresses.
"""

from __future__ import annotations

import pulumi_gcp as gcp

import pulumi
from edge_iac.base import Made, Network
from edge_iac.component import Part
from edge_iac.gcp.balancing import groups_of
from edge_iac.plan import Mesh, Region
from edge_iac.plan.reachability import MESH_HEALTH_PORT
from edge_iac.site.names import cloud_name

INTERVAL_S, TIMEOUT_S, THRESHOLD = 2, 1, 2
PRIORITY = 900
"""Before the routes that the network brings along (1000)."""


class InterconnectPart(Part):
    """Health check, backend service, forwarding rule, and a route per other region."""

    cloud, kind = "gcp", "Interconnect"

    def __init__(
        self,
        region: Region,
        mesh: Mesh,
        *,
        network: Network,
        hosts: tuple[Made, ...],
        groups: list[pulumi.Output[str]],
        provider: gcp.Provider,
    ) -> None:
        super().__init__(region.name, provider)
        name = cloud_name(region.site, f"mesh-{region.name}")
        # Those of the balancer in front, where there is one: a host is in one group only.
        groups = groups or groups_of(self, name, hosts, network)
        check = gcp.compute.RegionHealthCheck(
            f"{region.name}-mesh",
            name=name,
            region=region.name,
            http_health_check=gcp.compute.RegionHealthCheckHttpHealthCheckArgs(
                port=MESH_HEALTH_PORT, request_path="/"
            ),
            check_interval_sec=INTERVAL_S,
            timeout_sec=TIMEOUT_S,
            healthy_threshold=THRESHOLD,
            unhealthy_threshold=THRESHOLD,
            opts=self.child(),
        )
        service = gcp.compute.RegionBackendService(
            f"{region.name}-mesh",
            name=name,
            region=region.name,
            # As next hop it forwards every protocol, whatever is written here.
            protocol="TCP",
            load_balancing_scheme="INTERNAL",
            network=network.id,
            health_checks=check.self_link,
            backends=[
                gcp.compute.RegionBackendServiceBackendArgs(group=group, balancing_mode="CONNECTION")
                for group in groups
            ],
            opts=self.child(),
        )
        rule = gcp.compute.ForwardingRule(
            f"{region.name}-mesh",
            name=name,
            region=region.name,
            ip_protocol="TCP",
            all_ports=True,
            load_balancing_scheme="INTERNAL",
            network=network.id,
            subnetwork=network.subnets[region.in_tier("outer")[0].name],
            backend_service=service.self_link,
            opts=self.child(),
        )
        for range_ in mesh.remote:
            gcp.compute.Route(
                f"{region.name}-{range_}",
                name=cloud_name(region.site, f"{region.name}-to-{_worded(range_)}"),
                network=network.id,
                dest_range=range_,
                next_hop_ilb=rule.id,
                priority=PRIORITY,
                opts=self.child(),
            )
        self.register_outputs({})


def _worded(range_: str) -> str:
    """Names hold no dots and no slashes."""
    return range_.replace(".", "-").replace("/", "-")
