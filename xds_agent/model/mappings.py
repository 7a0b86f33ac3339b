"""Mappings: who may go where, for egress and between services."""

from typing import Literal

from pydantic import Field

from xds_agent.model.base import Model, Name, Port, Text
from xds_agent.model.tenants import DEFAULT_TENANT


class Mapping(Model):
    """One permission. What no mapping names is refused."""

    name: Name = Field(description="Name of the mapping.", examples=["payments-out"])
    tenant: Name = Field(default=DEFAULT_TENANT, description="Whose traffic.", examples=["retail"])
    sources: tuple[Text, ...] = Field(
        min_length=1, description="Services, or networks, that may.", examples=[["shop"], ["10.1.0.0/16"]]
    )
    destinations: tuple[Text, ...] = Field(
        min_length=1,
        description="Services, DNS names or networks they may reach.",
        examples=[["api.stripe.com"]],
    )
    protocols: tuple[Literal["http", "https", "grpc", "websocket", "tcp", "udp", "icmp"], ...] = Field(
        min_length=1, description="Protocols they may use.", examples=[["https"]]
    )
    ports: tuple[Port, ...] = Field(
        default=(), description="Ports they may reach (not for icmp).", examples=[[443]]
    )
    auth: Literal["none", "jwt", "token", "mtls"] = Field(
        default="mtls", description="How the source proves who it is.", examples=["jwt"]
    )
