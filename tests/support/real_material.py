"""Keys, certificates and authorities that a real Envoy and a real client accept, for a site of a test."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from xds_agent.compile import KeyPair, Material, Trust
from xds_agent.model import SITE_CA, Site

_PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Ca:
    """An authority that signs at once."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, name: str) -> Ca:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named(name)
        builder = _builder(subject, subject, key).add_extension(
            x509.BasicConstraints(True, None), critical=True
        )
        usage = _usage(key_cert_sign=True, crl_sign=True)
        return cls(builder.add_extension(usage, critical=True).sign(key, hashes.SHA256()), key)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(_PEM)

    def issue(self, names: Sequence[str], uri: str | None = None) -> KeyPair:
        """A leaf for DNS names (and a URI), good for server and client."""
        key = ec.generate_private_key(ec.SECP256R1())
        sans: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        if uri is not None:
            sans.append(x509.UniformResourceIdentifier(uri))
        builder = _builder(_named(names[0]), self.certificate.subject, key)
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
        builder = builder.add_extension(_usage(digital_signature=True), critical=True)
        leaf = builder.sign(self.key, hashes.SHA256())
        pem = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return KeyPair(leaf.public_bytes(_PEM) + self.pem, pem)

    def crl(self, *revoked: KeyPair) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(now - dt.timedelta(hours=1)).next_update(now + dt.timedelta(days=1))
        for pair in revoked:
            serial = x509.load_pem_x509_certificates(pair.chain)[0].serial_number
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            builder = builder.add_revoked_certificate(one.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(_PEM)


def real_material(site: Site, authorities: dict[str, Ca] | None = None) -> tuple[Material, dict[str, Ca]]:
    """(material, the authorities by name) for all that a site refers to."""
    cas = dict(authorities or {})
    for name in (SITE_CA, *(one.name for one in site.edge.authorities)):
        cas.setdefault(name, Ca.new(name))
    pairs = {}
    for one in site.edge.certificates:
        names = [domain.name for domain in site.edge.domains if domain.certificate == one.name]
        pairs[one.name] = cas[SITE_CA].issue(names or [f"{one.name}.example.com"])
    return Material(pairs, {name: Trust(ca.pem, ca.crl()) for name, ca in cas.items()}), cas


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )


def _usage(**given: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: given.get(name, False) for name in names})
