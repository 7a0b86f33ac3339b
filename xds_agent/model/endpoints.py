"""Endpoints: where a service's backends are, and how to speak TLS to them."""

from pydantic import Field

from xds_agent.model.base import Address, Hostname, Model, Name, Port, Text, Weight


class Endpoint(Model):
    """One backend by address or DNS name, or every host of an inventory group."""

    address: Address | None = Field(
        default=None,
        description="IP address or DNS name. A name is resolved by the proxy; if the resolver fails, the "
        "last "
        "answer stays.",
        examples=["10.1.0.11", "shop.internal.example.com"],
    )
    group: Text | None = Field(
        default=None,
        description="Inventory group; each of its hosts is a backend, with its own cloud, region and zone.",
        examples=["shop_backends"],
    )
    port: Port = Field(description="Port of the backend.", examples=[8080])
    cloud: str | None = Field(
        default=None, description="Cloud it runs in (with `address`).", examples=["aws"]
    )
    region: str | None = Field(default=None, description="Region (with `address`).", examples=["us-east-1"])
    zone: str | None = Field(default=None, description="Zone (with `address`).", examples=["us-east-1a"])
    weight: Weight = Field(
        default=1,
        description="Share of requests against the service's other endpoints in the same place; 0 takes "
        "it out.",
        examples=[1, 0],
    )


class UpstreamTls(Model):
    """TLS from the edge to the backend."""

    ca: Name | None = Field(
        default=None,
        description="Authority the backend's certificate must come from: a name in `authorities`, or "
        "`site-ca`. "
        "None: the system's authorities.",
        examples=["site-ca"],
    )
    sni: Hostname | None = Field(
        default=None, description="Server name asked for, and checked.", examples=["shop.internal"]
    )
    names: tuple[Text, ...] = Field(
        default=(),
        description="Accept the backend if its certificate holds one of these names. Empty: `sni`.",
        examples=[["shop.internal", "spiffe://marchproxy.internal/host/backend1"]],
    )
    client_certificate: Name | None = Field(
        default=None, description="Certificate the edge shows the backend (mTLS).", examples=["edge"]
    )
