"""A standard load balancer before the ingress hosts; clients keep their addresses.

Without floating addresses the balancer rewrites the destination to the host's own private address, so that is
what the host sees. Interfaces join the pool when they are made, so the balancer comes first.
"""

from __future__ import annotations

from pulumi_azure_native import network

import pulumi
from edge_iac.azure.place import Place
from edge_iac.base import HEALTH_PATH, SEEN_AS_OWN, Addresses, Front, Vip
from edge_iac.component import Part
from edge_iac.site.names import balancer_name

INTERVAL_S = 5
THRESHOLD = 2
_FRONT, _POOL, _PROBE = "front", "edges", "healthz"
_PROTOCOLS = {"tcp": "Tcp", "udp": "Udp"}


class BalancingPart(Part):
    """The balancer with its frontend, pool, probe and rules."""

    cloud, kind = "azure", "LoadBalancing"

    def __init__(self, place: Place, addresses: Addresses) -> None:
        super().__init__(place.region.name, place.provider)
        region = place.region
        (vip,) = addresses.vips
        name = balancer_name(region.site, region.cloud, region.name)
        # Parts of a balancer refer to each other by ids that it has not got yet.
        own = place.group_id.apply(lambda group: f"{group}/providers/Microsoft.Network/loadBalancers/{name}")
        balancer = network.LoadBalancer(
            region.name,
            resource_group_name=place.group,
            load_balancer_name=name,
            location=region.name,
            sku=network.LoadBalancerSkuArgs(name="Standard"),
            frontend_ip_configurations=[
                network.FrontendIPConfigurationArgs(
                    name=_FRONT, public_ip_address=network.PublicIPAddressArgs(id=vip.id)
                )
            ],
            backend_address_pools=[network.BackendAddressPoolArgs(name=_POOL)],
            probes=[
                network.ProbeArgs(
                    name=_PROBE,
                    protocol="Http",
                    port=region.health_port,
                    request_path=HEALTH_PATH,
                    interval_in_seconds=INTERVAL_S,
                    probe_threshold=THRESHOLD,
                )
            ],
            load_balancing_rules=[_rule(own, protocol, port) for protocol, port in region.front_ports],
            tags=place.tags,
            opts=self.child(),
        )
        pool = balancer.backend_address_pools.apply(lambda pools: (pools[0].id if pools else None) or "")
        self.made = Front(id=balancer.id, pool=pool)
        self.vip = Vip(
            name=region.name,
            cloud="azure",
            region=region.name,
            address=vip.address,
            seen_as=SEEN_AS_OWN,
        )
        self.register_outputs({"balancer": balancer.id})


def _rule(own: pulumi.Output[str], protocol: str, port: int) -> network.LoadBalancingRuleArgs:
    def part(kind: str, name: str) -> network.SubResourceArgs:
        return network.SubResourceArgs(id=pulumi.Output.concat(own, f"/{kind}/{name}"))

    return network.LoadBalancingRuleArgs(
        name=f"{protocol}-{port}",
        protocol=_PROTOCOLS[protocol],
        frontend_port=port,
        backend_port=port,
        frontend_ip_configuration=part("frontendIPConfigurations", _FRONT),
        backend_address_pools=[part("backendAddressPools", _POOL)],
        probe=part("probes", _PROBE),
        enable_floating_ip=False,
        enable_tcp_reset=True if protocol == "tcp" else None,
        # Hosts go out by their own addresses.
        disable_outbound_snat=True,
    )
