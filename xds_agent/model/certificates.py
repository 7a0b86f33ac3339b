"""Certificates the edge presents, and the foreign authorities it trusts."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints

from xds_agent.model.base import DomainName, Model, Name

SITE_CA = "site-ca"
"""The authority every site has; its certificate is not written in the inventory."""

CertificatePem = Annotated[str, StringConstraints(pattern=r"-----BEGIN CERTIFICATE-----")]
CrlPem = Annotated[str, StringConstraints(pattern=r"-----BEGIN X509 CRL-----")]
HttpsUrl = Annotated[str, StringConstraints(pattern=r"^https://\S+$")]


class Certificate(Model):
    """A certificate and its private key, made by the site, given as PEM, or fetched by ACME."""

    name: Name = Field(description="Name that domains and upstream TLS refer to.", examples=["shop"])
    source: Literal["site-ca", "pem", "acme"] = Field(
        default="site-ca",
        description="`site-ca`: issued and renewed by the site's own CA. `pem`: `certificate` and "
        "`private_key` hold it. `acme`: ordered from `directory` over HTTP-01.",
        examples=["site-ca"],
    )
    names: tuple[DomainName, ...] = Field(
        default=(),
        description="DNS names in the certificate, beside the domains that use it (`site-ca` and `acme`).",
        examples=[["shop.example.com"]],
    )
    key_type: Literal["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"] = Field(
        default="ecdsa-p384",
        description="Kind of key that is made (`site-ca` and `acme`).",
        examples=["ecdsa-p256"],
    )
    certificate: CertificatePem | None = Field(
        default=None,
        description="PEM chain, leaf first (`pem`).",
        examples=["{{ lookup('file', 'shop.crt') }}"],
    )
    private_key: SecretStr | None = Field(
        default=None,
        description="PEM private key (`pem`). Keep it as a vault value; it is never shown.",
        examples=["{{ vault_shop_key }}"],
    )
    directory: HttpsUrl | None = Field(
        default=None,
        description="ACME directory (`acme`).",
        examples=["https://acme-v02.api.letsencrypt.org/directory"],
    )
    directory_ca: CertificatePem | None = Field(
        default=None,
        description="PEM of the CA that the directory's own TLS certificate is verified with, for a private "
        "ACME server; the system's CAs where absent.",
        examples=["{{ lookup('file', 'acme-ca.crt') }}"],
    )
    contact: str | None = Field(
        default=None, description="E-mail address of the ACME account.", examples=["edge@example.com"]
    )


class Authority(Model):
    """A certificate authority that is not ours: of client certificates or of backends."""

    name: Name = Field(
        description="Name that `client_ca` and `upstream_tls.ca` refer to.", examples=["partners"]
    )
    certificate: CertificatePem = Field(
        description="PEM of the CA certificate, or of several.",
        examples=["{{ lookup('file', 'partners-ca.crt') }}"],
    )
    crl: CrlPem | None = Field(
        default=None,
        description="PEM of the revocation lists. With one, every CA of the bundle needs its own: a "
        "client of "
        "a CA without a list would be refused.",
        examples=["{{ lookup('file', 'partners.crl') }}"],
    )
