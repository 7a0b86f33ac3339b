"""Secrets: key pairs and trusts for SDS."""

from __future__ import annotations

from typing import Any

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from xds_agent.compile.material import KeyPair, Trust
from xds_agent.compile.tls import certificate_secret, trust_secret


def key_pair_secret(name: str, pair: KeyPair) -> Any:
    """Secret of a certificate and its key."""
    message = secret_pb2.Secret(name=certificate_secret(name))
    message.tls_certificate.certificate_chain.inline_bytes = pair.chain
    message.tls_certificate.private_key.inline_bytes = pair.key
    return message


def trust_secret_of(name: str, trust: Trust) -> Any:
    """Secret of an authority: who may sign, and what is revoked."""
    message = secret_pb2.Secret(name=trust_secret(name))
    message.validation_context.trusted_ca.inline_bytes = trust.ca
    if trust.crl:
        message.validation_context.crl.inline_bytes = trust.crl
    return message
