"""TLS: the policy that makes a filter chain, what clients meet, and what backends meet."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2

from xds_agent.compile.encoding import ADS, packed
from xds_agent.model import Domain, UpstreamTls

# What ordinary clients can speak and nothing weaker: forward secrecy and AEAD only (TLS 1.3 has its own).
_CIPHERS = (
    "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]",
    "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
_CURVES = ("X25519MLKEM768", "X25519", "P-256", "P-384")
_VERSIONS = {"1.2": common_pb2.TlsParameters.TLSv1_2, "1.3": common_pb2.TlsParameters.TLSv1_3}
_SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_SOCKET = "envoy.transport_sockets.tls"
_SAN = common_pb2.SubjectAltNameMatcher


class Policy(NamedTuple):
    """What domains must share to share a filter chain."""

    certificate: str
    client_auth: str = "none"
    client_ca: str = ""
    client_names: tuple[str, ...] = ()
    tls_minimum: str = "1.2"

    @property
    def name(self) -> str:
        """Name of the chain: `shop/none`, `partners/required/partners`."""
        parts = [self.certificate, self.client_auth]
        if self.client_ca:
            parts.append(self.client_ca)
        if self.tls_minimum != "1.2":
            parts.append(f"tls{self.tls_minimum}")
        if self.client_names:
            joined = "\0".join(self.client_names).encode()
            parts.append(hashlib.blake2b(joined, digest_size=4).hexdigest())
        return "/".join(parts)


def policy_of(domain: Domain) -> Policy:
    """Policy of a domain."""
    return Policy(
        domain.certificate,
        domain.client_auth,
        domain.client_ca or "",
        tuple(sorted(set(domain.client_names))),
        domain.tls_minimum,
    )


def certificate_secret(name: str) -> str:
    """Name of the SDS secret that holds a certificate and its key."""
    return f"certificate/{name}"


def trust_secret(name: str) -> str:
    """Name of the SDS secret that holds an authority and its revocation lists."""
    return f"trust/{name}"


def downstream_tls(policy: Policy, alpn: tuple[str, ...]) -> Any:
    """Transport socket of a filter chain."""
    context = tls_pb2.DownstreamTlsContext()
    common = context.common_tls_context
    _parameters(common.tls_params, policy.tls_minimum)
    common.alpn_protocols.extend(alpn)
    _sds(common.tls_certificate_sds_secret_configs.add(), certificate_secret(policy.certificate))
    if policy.client_auth != "none":
        context.require_client_certificate.value = policy.client_auth == "required"
        _validation(common, policy.client_ca, policy.client_names)
    return _socket(context)


def upstream_tls(tls: UpstreamTls, *, http2: bool) -> Any:
    """Transport socket of a cluster; the backend's name is checked where the inventory gives one."""
    context = tls_pb2.UpstreamTlsContext(sni=tls.sni or "")
    common = context.common_tls_context
    _parameters(common.tls_params, "1.2")
    if http2:
        common.alpn_protocols.append("h2")
    if tls.client_certificate is not None:
        _sds(common.tls_certificate_sds_secret_configs.add(), certificate_secret(tls.client_certificate))
    names = tls.names or ((tls.sni,) if tls.sni else ())
    if tls.ca is not None:
        _validation(common, tls.ca, names)
    else:
        common.validation_context.trusted_ca.filename = _SYSTEM_AUTHORITIES
        _match_names(common.validation_context, names)
    return _socket(context)


def upstream_secrets(tls: UpstreamTls | None) -> tuple[str, ...]:
    """Names of the secrets that `upstream_tls` refers to."""
    if tls is None:
        return ()
    found = [certificate_secret(tls.client_certificate)] if tls.client_certificate is not None else []
    return (*found, trust_secret(tls.ca)) if tls.ca is not None else tuple(found)


def policy_secrets(policy: Policy) -> tuple[str, ...]:
    """Names of the secrets that `downstream_tls` refers to."""
    own = certificate_secret(policy.certificate)
    return (own, trust_secret(policy.client_ca)) if policy.client_auth != "none" else (own,)


def _parameters(parameters: Any, minimum: str) -> None:
    parameters.tls_minimum_protocol_version = _VERSIONS[minimum]
    parameters.tls_maximum_protocol_version = common_pb2.TlsParameters.TLSv1_3
    parameters.cipher_suites.extend(_CIPHERS)
    parameters.ecdh_curves.extend(_CURVES)


def _sds(config: Any, name: str) -> None:
    config.name = name
    config.sds_config.CopyFrom(ADS)


def _validation(common: Any, authority: str, names: tuple[str, ...]) -> None:
    """An authority by SDS; names beside it in place, so that its secret serves every policy."""
    combined = common.combined_validation_context
    combined.default_validation_context.SetInParent()
    _match_names(combined.default_validation_context, names)
    _sds(combined.validation_context_sds_secret_config, trust_secret(authority))


def _match_names(context: Any, names: tuple[str, ...]) -> None:
    for name in names:
        kind = _SAN.URI if "://" in name else _SAN.EMAIL if "@" in name else _SAN.DNS
        context.match_typed_subject_alt_names.add(san_type=kind).matcher.exact = name


def _socket(context: Any) -> Any:
    return base_pb2.TransportSocket(name=_SOCKET, typed_config=packed(context))
