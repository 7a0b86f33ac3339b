"""A small PKI as roles/pki makes one: offline root, issuing CA, leaves, CRL; strict (AKI, keyUsage)."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from xds_agent.pki.issuer import Issuer

TRUST_DOMAIN = "marchproxy.internal"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _authority(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    signer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signing = (signer[0].subject, signer[1]) if signer else (subject, key)
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=False, key_encipherment=False, content_commitment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=365))
        .add_extension(
            x509.BasicConstraints(ca=True, path_length=None if signer is None else 0), critical=True
        )
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
        .sign(signing, hashes.SHA384())
    )


@dataclass
class HostFiles:
    """Where one host's own PKI lies."""

    certificate: Path
    key: Path
    ca: Path
    crl: Path

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificates(self.certificate.read_bytes())[0].serial_number


@dataclass
class SitePki:
    """Root and issuing CA of one site, and its hosts' files under `folder`."""

    folder: Path
    issuer: Issuer = field(init=False)
    root_pem: bytes = field(init=False)
    root_crl: bytes = field(init=False)
    revoked: dict[int, dt.datetime] = field(default_factory=dict)
    crl_number: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        root_key, issuing_key = new_key(), new_key()
        root = _authority("root", root_key, None)
        issuing = _authority("issuing", issuing_key, (root, root_key))
        self.root_pem = root.public_bytes(serialization.Encoding.PEM)
        self.issuer = Issuer(issuing, issuing_key)
        self.root_crl = Issuer(root, root_key).sign_crl({}, now=dt.datetime.now(dt.UTC), number=1, days=365)
        (self.folder / "ca.crt").write_bytes(self.root_pem + self.issuer.pem)
        self.write_crl()

    def write_crl(self, *, days: int = 7, now: dt.datetime | None = None) -> None:
        self.crl_number += 1
        crl = self.issuer.sign_crl(
            self.revoked, now=now or dt.datetime.now(dt.UTC), number=self.crl_number, days=days
        )
        temporary = self.folder / "crl.new"
        # One list per CA, as the role pki writes them: Envoy refuses every client of a CA without.
        temporary.write_bytes(crl + self.root_crl)
        temporary.replace(self.folder / "crl.pem")

    def revoke(self, serial: int) -> None:
        self.revoked[serial] = dt.datetime.now(dt.UTC)
        self.write_crl()

    def host(
        self, name: str, *, now: dt.datetime | None = None, life: dt.timedelta | None = None
    ) -> HostFiles:
        """Files of a new host, or of an old one with a new certificate; `life` shortens the certificate's."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        key = new_key()
        csr = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .sign(key, hashes.SHA384())
            .public_bytes(serialization.Encoding.PEM)
        )
        start = now or dt.datetime.now(dt.UTC)
        if life is not None:
            # The issuer counts in days; a start in the past leaves exactly `life` of one.
            start = start - dt.timedelta(days=1) + life
        chain = self.issuer.sign_host(
            csr, name=name, trust_domain=TRUST_DOMAIN, now=start, days=1 if life is not None else 30
        )
        files = HostFiles(
            folder / "host.crt", folder / "host.key", self.folder / "ca.crt", self.folder / "crl.pem"
        )
        files.key.write_bytes(key_pem(key))
        files.certificate.write_bytes(chain)
        return files
