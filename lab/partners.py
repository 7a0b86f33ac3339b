"""A foreign certificate authority for the lab: the partners whose clients the strict domain asks for.

Made on each machine into the git-ignored ``.lab/partners``; nothing of it is a secret worth keeping, and
nothing of it is in the repository.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME_DAYS = 365
RENEW_BELOW_DAYS = 30
FILES = (
    "ca.crt",
    "ca.key",
    "crl.pem",
    "client.crt",
    "client.key",
    "revoked.crt",
    "revoked.key",
    "stranger.crt",
    "stranger.key",
)
Key = ec.EllipticCurvePrivateKey


def ensure(folder: Path) -> bool:
    """Make the authority and its clients if a file is missing or near its end; True if it made them.

    ``client`` is a partner, ``revoked`` one whose certificate the CRL lists, ``stranger`` is
    signed by nobody we know.
    """
    if all((folder / name).exists() for name in FILES) and not _ends_soon(folder):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    ca_key, ca = _authority("Lab partners", now)
    _write(folder, "ca", ca_key, [ca])
    for name in ("client", "revoked"):
        key, certificate = _client(f"{name}.partners.example", ca_key, ca, now)
        _write(folder, name, key, [certificate])
        if name == "revoked":
            (folder / "crl.pem").write_bytes(_crl(certificate, ca_key, ca, now))
    other_key, other = _authority("Somebody else", now)
    key, certificate = _client("stranger.example", other_key, other, now)
    _write(folder, "stranger", key, [certificate])
    return True


def _ends_soon(folder: Path) -> bool:
    limit = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=RENEW_BELOW_DAYS)
    return any(
        x509.load_pem_x509_certificate((folder / name).read_bytes()).not_valid_after_utc < limit
        for name in FILES
        if name.endswith(".crt")
    )


def _start(common_name: str, key: Key, now: datetime.datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=LIFETIME_DAYS))
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _authority(common_name: str, now: datetime.datetime) -> tuple[Key, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP384R1())
    builder = _start(common_name, key, now)
    certificate = (
        builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    return key, certificate


def _client(
    common_name: str, ca_key: Key, ca: x509.Certificate, now: datetime.datetime
) -> tuple[Key, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _start(common_name, key, now)
        .issuer_name(ca.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA384())
    )
    return key, certificate


def _crl(revoked: x509.Certificate, ca_key: Key, ca: x509.Certificate, now: datetime.datetime) -> bytes:
    entry = x509.RevokedCertificateBuilder().serial_number(revoked.serial_number).revocation_date(now).build()
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.subject)
        .last_update(now - datetime.timedelta(hours=1))
        .next_update(now + datetime.timedelta(days=LIFETIME_DAYS))
        .add_revoked_certificate(entry)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .add_extension(x509.CRLNumber(1), critical=False)
        .sign(ca_key, hashes.SHA384())
    )
    return crl.public_bytes(serialization.Encoding.PEM)


def _write(folder: Path, name: str, key: Key, chain: list[x509.Certificate]) -> None:
    path = folder / f"{name}.key"
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    (folder / f"{name}.crt").write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in chain))
