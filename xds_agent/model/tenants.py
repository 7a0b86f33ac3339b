"""Tenants: the boundary that keeps one team's traffic and secrets from another's proxies."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from xds_agent.model.base import Model, Name

DEFAULT_TENANT = "default"
"""Always exists, so that a small site needs no `tenants` at all."""

SyslogUrl = Annotated[str, StringConstraints(pattern=r"^(udp|tcp|tls)://\S+$")]


class Logging(Model):
    """Where a tenant's proxy logs go."""

    syslog: SyslogUrl | None = Field(
        default=None, description="Syslog server for the tenant's logs.", examples=["udp://10.0.0.5:514"]
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="warning", description="Least severity that is logged.", examples=["warning"]
    )


class Tenant(Model):
    """An isolation boundary: a proxy that does not carry a tenant can never read its resources."""

    name: Name = Field(description="Name that services and domains refer to.", examples=["retail"])
    description: str = Field(default="", description="For people.", examples=["The shop and its partners"])
    logging: Logging | None = Field(
        default=None,
        description="Logging of the tenant's proxies.",
        examples=[{"syslog": "udp://10.0.0.5:514", "level": "warning"}],
    )
