"""Certificates the site issues: strict verifiers take them, and a host's proves exactly one name."""

from __future__ import annotations

import contextlib
import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from xds_agent.pki import files, revocation
from xds_agent.pki.issuer import IssueError, Issuer

NOW = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
PEM = serialization.Encoding.PEM
CA_USAGE = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    key_encipherment=False,
    content_commitment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


def make_issuer(*, days: int = 365) -> Issuer:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuing")])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    return Issuer(cert, key)


def make_csr(name: str = "whatever") -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA384())
    return key, csr.public_bytes(PEM)


def test_host_leaf_names_one_uri_whatever_the_request_says() -> None:
    issuer = make_issuer()
    key, csr = make_csr("intruder")
    chain = issuer.sign_host(csr, name="edge1", trust_domain="td", now=NOW)
    leaf, ca = x509.load_pem_x509_certificates(chain)
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://td/host/edge1"]
    assert san.get_values_for_type(x509.DNSName) == ["edge1"]
    assert "intruder" not in leaf.subject.rfc4514_string()
    assert leaf.public_key() == key.public_key()
    assert ca == issuer.certificate
    leaf.verify_directly_issued_by(ca)


def test_leaf_has_what_strict_verification_demands() -> None:
    issuer = make_issuer()
    leaf = x509.load_pem_x509_certificates(
        issuer.sign_host(make_csr()[1], name="edge1", trust_domain="td", now=NOW)
    )[0]
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature and not usage.value.key_cert_sign
    authority = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert authority.key_identifier == own.digest


def test_leaf_never_outlives_its_ca() -> None:
    issuer = make_issuer(days=10)
    leaf = x509.load_pem_x509_certificates(
        issuer.sign_host(make_csr()[1], name="edge1", trust_domain="td", now=NOW)
    )[0]
    assert leaf.not_valid_after_utc == issuer.certificate.not_valid_after_utc
    with pytest.raises(IssueError, match="issuing CA has expired"):
        issuer.sign_host(make_csr()[1], name="e", trust_domain="td", now=NOW + dt.timedelta(days=11))


def test_damaged_request_is_one_sentence() -> None:
    with pytest.raises(IssueError, match="not a certificate signing request"):
        make_issuer().sign_host(b"nonsense", name="edge1", trust_domain="td", now=NOW)


def test_service_without_names_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(IssueError, match="no domain refers to it"):
        make_issuer().sign_service(key, names=[], now=NOW)


def test_files_must_be_a_pair(tmp_path: Path) -> None:
    one, other = make_issuer(), make_issuer()
    (tmp_path / "c").write_bytes(one.pem)
    (tmp_path / "k").write_bytes(
        other.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    with pytest.raises(IssueError, match="is not the key of"):
        Issuer.load(tmp_path / "c", tmp_path / "k")


def test_renewal_is_due_at_two_thirds_of_life() -> None:
    leaf = x509.load_pem_x509_certificates(
        make_issuer().sign_host(make_csr()[1], name="e", trust_domain="td", now=NOW, days=30)
    )[0]
    assert not files.renewal_due(leaf, NOW + dt.timedelta(days=19))
    assert files.renewal_due(leaf, NOW + dt.timedelta(days=20, hours=1))


def test_crl_is_resigned_only_when_aged_or_revoking_and_keeps_other_lists(tmp_path: Path) -> None:
    issuer, root = make_issuer(), make_issuer()
    foreign = root.sign_crl({7: NOW}, now=NOW, number=1)
    # The two CAs of this test share a subject; a real root has its own.
    path = tmp_path / "crl.pem"
    assert revocation.refresh(path, issuer, now=NOW)
    assert not revocation.refresh(path, issuer, now=NOW + dt.timedelta(days=1))
    assert revocation.refresh(path, issuer, now=NOW, revoke=frozenset({42}))
    assert not revocation.refresh(path, issuer, now=NOW, revoke=frozenset({42}))
    assert set(revocation.revoked_serials(path.read_bytes())) == {42}
    assert revocation.refresh(path, issuer, now=NOW + dt.timedelta(days=6))
    (crl,) = revocation.lists_of(path.read_bytes())
    assert crl.is_signature_valid(issuer.certificate.public_key())
    assert crl.next_update_utc is not None and crl.next_update_utc > NOW + dt.timedelta(days=12)
    assert [e.serial_number for e in revocation.lists_of(foreign)[0]] == [7]


def test_replacing_files_is_all_or_nothing(tmp_path: Path) -> None:
    good = tmp_path / "host.crt"
    good.write_bytes(b"old")
    with pytest.raises(OSError):
        files.replace_files({good: (b"new", 0o644), tmp_path / "missing" / "x": (b"", 0o600)})
    assert good.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["host.crt"]


def test_a_strict_handshake_accepts_the_leaf(tmp_path: Path) -> None:
    issuer = make_issuer()
    key, csr = make_csr()
    pem = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    now = dt.datetime.now(dt.UTC)
    chain = issuer.sign_host(csr, name="edge1", trust_domain="td", now=now)
    for name, content in {"ca": issuer.pem, "key": pem, "crt": chain}.items():
        (tmp_path / name).write_bytes(content)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    client = ssl.create_default_context(cafile=str(tmp_path / "ca"))
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname="edge1")
    far = server.wrap_bio(to_server, to_client, server_side=True)
    pending = [near, far, near, far]
    for side in pending:
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert near.getpeercert()["subject"] == ((("commonName", "edge1"),),)
