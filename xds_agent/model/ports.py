"""Ports of the proxies themselves."""

from typing import Literal

from pydantic import Field

from xds_agent.model.base import Model, Port

SSH_PORT = 22
NAT_PORTS = range(20_000, 32_768)
"""Source ports of what XDP forwards by `nat`; the kernel's own (ip_local_port_range) lie above."""


ENVOY_HTTP = {"envoy/http": "ports.http", "envoy/https": "ports.https", "envoy/grpc": "ports.grpc"}
"""Envoy's HTTP listeners as XDP counts them, by a name that no service can have: where the port is said."""


class Ports(Model):
    """What the edge's own processes listen on. No service may use one of these."""

    family: Literal["ipv4", "dual"] = Field(
        default="ipv4",
        description="What Envoy listens on: every IPv4 address of the host, or every IPv4 and "
        "IPv6 address (`dual`; the host's kernel must have IPv6). Changing it closes connections.",
        examples=["dual"],
    )
    http: Port = Field(default=80, description="Plain HTTP: redirects and ACME.", examples=[80])
    https: Port = Field(default=443, description="HTTPS and WebSocket.", examples=[443])
    grpc: Port = Field(default=8080, description="gRPC over TLS.", examples=[8080])
    agent_metrics: Port = Field(
        default=8082, description="Metrics and health of the node agent.", examples=[8082]
    )
    envoy_admin: Port | None = Field(
        default=None,
        description="Envoy's admin interface on loopback. None: a Unix socket only.",
        examples=[9901],
    )
    xds: Port = Field(
        default=18000, description="Control plane, gRPC with mTLS (control hosts).", examples=[18000]
    )
    api: Port = Field(
        default=8000, description="Health and metrics of the control plane (control hosts).", examples=[8000]
    )
