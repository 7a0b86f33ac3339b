"""The whole language: everything a site's edge does."""

from functools import cached_property
from typing import Annotated

from pydantic import Field

from xds_agent.model.base import BY_KEY, Model, Name
from xds_agent.model.certificates import Authority, Certificate
from xds_agent.model.clouds import Cloud
from xds_agent.model.domains import Domain
from xds_agent.model.limits import ProxyLimits
from xds_agent.model.maintenance import Maintenance
from xds_agent.model.mappings import Mapping
from xds_agent.model.ports import Ports
from xds_agent.model.protection import Protection
from xds_agent.model.rollout import Rollout
from xds_agent.model.routes import Route
from xds_agent.model.services import Service
from xds_agent.model.tenants import Tenant


class Edge(Model):
    """What stands beside the hosts in the inventory: `edge.yml` and the folder `edge/`."""

    tenants: tuple[Tenant, ...] = Field(
        default=(),
        description="Isolation boundaries. The tenant `default` always exists.",
        examples=[[{"name": "retail"}]],
    )
    certificates: tuple[Certificate, ...] = Field(
        default=(),
        description="Certificates the edge shows.",
        examples=[[{"name": "shop", "source": "site-ca"}]],
    )
    authorities: tuple[Authority, ...] = Field(
        default=(),
        description="Foreign certificate authorities. `site-ca` always exists.",
        examples=[[{"name": "partners", "certificate": "{{ lookup('file', 'partners-ca.crt') }}"}]],
    )
    domains: tuple[Domain, ...] = Field(
        default=(),
        description="Names clients connect to.",
        examples=[[{"name": "shop.example.com", "certificate": "shop"}]],
    )
    services: tuple[Service, ...] = Field(
        default=(),
        description="What the edge serves.",
        examples=[
            [
                {
                    "name": "shop",
                    "domains": ["shop.example.com"],
                    "endpoints": [{"group": "shop_backends", "port": 8080}],
                }
            ]
        ],
    )
    routes: tuple[Route, ...] = Field(
        default=(),
        description="Host and path rules over services.",
        examples=[[{"domains": ["shop.example.com"], "prefix": "/api", "split": {"shop": 95, "shop-v2": 5}}]],
    )
    mappings: tuple[Mapping, ...] = Field(
        default=(),
        description="Who may go where.",
        examples=[
            [
                {
                    "name": "payments-out",
                    "sources": ["shop"],
                    "destinations": ["api.stripe.com"],
                    "protocols": ["https"],
                    "ports": [443],
                }
            ]
        ],
    )
    protection: Protection | None = Field(
        default=None, description="Packet filter.", examples=[{"deny": ["203.0.113.0/24"]}]
    )
    clouds: Annotated[dict[Name, Cloud], BY_KEY] = Field(
        default_factory=dict,
        description="Prices and places.",
        examples=[{"aws": {"regions": {"us-east-1": {"egress_usd_per_gb": 0.09}}}}],
    )
    maintenance: tuple[Maintenance, ...] = Field(
        default=(),
        description="What is out for a time.",
        examples=[[{"cloud": "azure", "until": "2026-12-01T06:00Z", "reason": "CHG-812"}]],
    )
    rollout: Rollout = Field(
        default=Rollout(), description="How a change goes out.", examples=[{"waves": [1, "25%", "100%"]}]
    )
    ports: Ports = Field(
        default=Ports(), description="Ports of the proxies themselves.", examples=[{"https": 443}]
    )
    limits: ProxyLimits = Field(
        default=ProxyLimits(), description="Ceilings of each proxy.", examples=[{"connections": 50000}]
    )

    @cached_property
    def service_by_name(self) -> dict[str, Service]:
        """Services by name."""
        return {service.name: service for service in self.services}

    @cached_property
    def domain_by_name(self) -> dict[str, Domain]:
        """Domains by name."""
        return {domain.name: domain for domain in self.domains}

    @cached_property
    def certificate_by_name(self) -> dict[str, Certificate]:
        """Certificates by name."""
        return {certificate.name: certificate for certificate in self.certificates}

    @cached_property
    def authority_by_name(self) -> dict[str, Authority]:
        """Foreign authorities by name; `site-ca` is not among them."""
        return {authority.name: authority for authority in self.authorities}

    def listen_port(self, service: Service) -> int | None:
        """Port on which clients reach ``service``; None for icmp, which has none."""
        if service.protocol == "icmp":
            return None
        if service.listen is not None and service.listen.port is not None:
            return service.listen.port
        return self.ports.grpc if service.protocol == "grpc" else self.ports.https
