"""The issuing CA on a control host: signs what the site's hosts and services present.

The offline root stays with the operator (roles/pki makes both); here only the issuing CA's key is known.
Every leaf carries AKI, SKI and keyUsage, since strict verifiers (Python 3.13's VERIFY_X509_STRICT) refuse
certificates without them, and a host's leaf exactly one URI SAN: with two, gRPC reports no peer identity.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LEAF_DAYS = 30
CRL_DAYS = 7
# A certificate is valid a little into the past: two hosts' clocks never agree to the second.
CLOCK_SKEW = dt.timedelta(minutes=5)

_PUBLIC_KEYS = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)


class IssueError(ValueError):
    """What was asked for cannot be issued; the words are for the one who asked."""


def host_uri(trust_domain: str, name: str) -> str:
    """SPIFFE URI of a host, the one identity its certificate proves."""
    return f"spiffe://{trust_domain}/host/{name}"


@dataclass(frozen=True)
class Issuer:
    """The issuing CA: its certificate and private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Issuer:
        """Read both PEM files. Raises IssueError when they are unreadable, unusable or no pair."""
        try:
            cert = x509.load_pem_x509_certificate(certificate.read_bytes())
            private = serialization.load_pem_private_key(key.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise IssueError(f"issuing CA {certificate} with key {key}: {error}") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise IssueError(f"{key}: the issuing CA's key must be ECDSA or RSA")
        if private.public_key() != cert.public_key():
            raise IssueError(f"{key} is not the key of {certificate}")
        return cls(cert, private)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign_host(
        self, csr_pem: bytes, *, name: str, trust_domain: str, now: dt.datetime, days: int = LEAF_DAYS
    ) -> bytes:
        """Leaf and issuing CA (PEM) for a host's key.

        Of the request only the public key is used, after its self-signature is checked: what the certificate
        says is decided here. Raises IssueError on a request that is damaged or signed by another key.
        """
        try:
            csr = x509.load_pem_x509_csr(csr_pem)
        except ValueError as error:
            raise IssueError(f"not a certificate signing request: {error}") from error
        if not csr.is_signature_valid:
            raise IssueError("the signing request is not signed by the key it names")
        names: list[x509.GeneralName] = [
            x509.DNSName(name),
            x509.UniformResourceIdentifier(host_uri(trust_domain, name)),
        ]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._leaf(csr.public_key(), name, names, usages, now=now, days=days)

    def sign_service(
        self, public_key: CertificateIssuerPublicKeyTypes, *, names: Sequence[str], now: dt.datetime,
        days: int = LEAF_DAYS,
    ) -> bytes:  # fmt: skip
        """Leaf and issuing CA (PEM) for a service's key; `names` are its domains (or IP addresses)."""
        if not names:
            raise IssueError("a service certificate needs at least one name: no domain refers to it")
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._leaf(public_key, names[0], [_general_name(n) for n in names], usages, now=now, days=days)

    def sign_crl(
        self, revoked: Mapping[int, dt.datetime], *, now: dt.datetime, number: int, days: int = CRL_DAYS
    ) -> bytes:
        """CRL of this CA (PEM): `revoked` maps serial number to time of revocation."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - CLOCK_SKEW)
            .next_update(now + dt.timedelta(days=days))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(self._authority_key(), critical=False)
        )
        for serial, when in sorted(revoked.items()):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)

    def _leaf(
        self, public_key: object, common_name: str, names: Iterable[x509.GeneralName],
        usages: Sequence[x509.ObjectIdentifier], *, now: dt.datetime, days: int,
    ) -> bytes:  # fmt: skip
        if not isinstance(public_key, _PUBLIC_KEYS):
            raise IssueError("keys must be ECDSA, RSA or EdDSA")
        until = min(now + dt.timedelta(days=days), self.certificate.not_valid_after_utc)
        if until <= now:
            raise IssueError("the issuing CA has expired: run the pki role to make a new one")
        usage = x509.KeyUsage(
            digital_signature=True,
            key_encipherment=isinstance(public_key, rsa.RSAPublicKey),
            content_commitment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        leaf = (
            x509.CertificateBuilder()
            # X.509 limits a common name to 64 characters; the SAN is what is verified.
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])]))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(self._authority_key(), critical=False)
            .sign(self.key, hashes.SHA384())
        )
        return leaf.public_bytes(serialization.Encoding.PEM) + self.pem

    def _authority_key(self) -> x509.AuthorityKeyIdentifier:
        try:
            own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
