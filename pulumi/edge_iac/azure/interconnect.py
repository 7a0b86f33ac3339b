"""Where a region's routes to the others lead: an internal load balancer, which finds a gateway that lives.

It takes every port of every protocol and asks every ingress host; those that are no gateways do not answer.
Interfaces join its pool when they are made, so it comes first.
"""

from __future__ import annotations

from pulumi_azure_native import network

import pulumi
from edge_iac.azure.network import next_hop
from edge_iac.azure.place import Place
from edge_iac.base import Network, Transit
from edge_iac.component import Part
from edge_iac.plan.reachability import MESH_HEALTH_PORT

INTERVAL_S, THRESHOLD = 5, 2
_FRONT, _POOL, _PROBE = "mesh", "gateways", "mesh"


class InterconnectPart(Part):
    """The balancer that the region's route table names."""

    cloud, kind = "azure", "Interconnect"

    def __init__(self, place: Place, made: Network) -> None:
        super().__init__(place.region.name, place.provider)
        region = place.region
        outer = region.in_tier("outer")[0]
        name = place.name(f"mesh-{region.name}")
        own = place.group_id.apply(lambda group: f"{group}/providers/Microsoft.Network/loadBalancers/{name}")
        balancer = network.LoadBalancer(
            f"{region.name}-mesh",
            resource_group_name=place.group,
            load_balancer_name=name,
            location=region.name,
            sku=network.LoadBalancerSkuArgs(name="Standard"),
            frontend_ip_configurations=[
                network.FrontendIPConfigurationArgs(
                    name=_FRONT,
                    subnet=network.SubnetArgs(id=made.subnets[outer.name]),
                    private_ip_allocation_method="Static",
                    private_ip_address=next_hop(region),
                    zones=place.zones,
                )
            ],
            backend_address_pools=[network.BackendAddressPoolArgs(name=_POOL)],
            probes=[
                network.ProbeArgs(
                    name=_PROBE,
                    protocol="Http",
                    port=MESH_HEALTH_PORT,
                    request_path="/",
                    interval_in_seconds=INTERVAL_S,
                    probe_threshold=THRESHOLD,
                )
            ],
            load_balancing_rules=[_every_port(own)],
            tags=place.tags,
            opts=self.child(),
        )
        pool = balancer.backend_address_pools.apply(lambda pools: (pools[0].id if pools else None) or "")
        self.made = Transit(pool=pool)
        self.register_outputs({})


def _every_port(own: pulumi.Output[str]) -> network.LoadBalancingRuleArgs:
    def part(kind: str, name: str) -> network.SubResourceArgs:
        return network.SubResourceArgs(id=pulumi.Output.concat(own, f"/{kind}/{name}"))

    return network.LoadBalancingRuleArgs(
        name="all",
        protocol="All",
        frontend_port=0,
        backend_port=0,
        frontend_ip_configuration=part("frontendIPConfigurations", _FRONT),
        backend_address_pools=[part("backendAddressPools", _POOL)],
        probe=part("probes", _PROBE),
        enable_floating_ip=False,
        disable_outbound_snat=True,
    )
