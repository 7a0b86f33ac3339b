"""Domains: what holds for a name before any request exists, TLS and client certificates."""

from typing import Literal

from pydantic import Field

from xds_agent.model.base import DomainName, Flag, Model, Name, Text
from xds_agent.model.tenants import DEFAULT_TENANT


class Domain(Model):
    """A name clients connect to. Exact names beat wildcards."""

    name: DomainName = Field(
        description="DNS name, or a wildcard for one label.", examples=["shop.example.com", "*.example.com"]
    )
    tenant: Name = Field(default=DEFAULT_TENANT, description="Whose name it is.", examples=["retail"])
    certificate: Name = Field(description="Certificate presented for the name.", examples=["shop"])
    client_auth: Literal["none", "optional", "required"] = Field(
        default="none",
        description="Whether a client must show a certificate of `client_ca` (mTLS). Names of different "
        "policies never share a connection.",
        examples=["required"],
    )
    client_ca: Name | None = Field(
        default=None,
        description="Authority that client certificates must come from: a name in `authorities`, or "
        "`site-ca`.",
        examples=["partners"],
    )
    client_names: tuple[Text, ...] = Field(
        default=(),
        description="Accept only client certificates with one of these subject alternative names "
        "(DNS, URI or e-mail). Empty: any of the authority.",
        examples=[["spiffe://partners.example/orders"]],
    )
    tls_minimum: Literal["1.2", "1.3"] = Field(
        default="1.2", description="Oldest TLS version accepted.", examples=["1.3"]
    )
    redirect_http: Flag = Field(
        default=True,
        description="Redirect plain HTTP to HTTPS. False: plain HTTP for the name is answered 404.",
        examples=[True],
    )
