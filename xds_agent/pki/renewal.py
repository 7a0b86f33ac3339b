"""Renewal of a host's certificate without Ansible: the node asks, control signs.

The still valid certificate is the whole proof: control signs for the very name it proves and no other. The
node keeps its key, so that one atomic rename of host.crt is the whole change and no crash can leave a key
beside another key's certificate; roles/pki makes a new key when asked to.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from xds_agent.pki.files import leaf_of, renewal_due, replace_files
from xds_agent.pki.issuer import IssueError, Issuer
from xds_agent.proto import marchproxy_pb2

METHOD = "/marchproxy.v1.NodeService/Renew"
TIMEOUT_S = 20.0


class RenewalError(Exception):
    """The certificate was not renewed; the words say why and what to do."""


@dataclass(frozen=True)
class HostFiles:
    """Where a host keeps what it presents and trusts."""

    certificate: Path
    key: Path
    ca: Path
    crl: Path | None = None


def renew_if_due(
    name: str, files: HostFiles, control: Sequence[str], control_names: Sequence[str], *,
    now: dt.datetime, force: bool = False,
) -> bool:  # fmt: skip
    """Renew `files.certificate` from two thirds of its life on; True if it was replaced.

    Tries each control address in order. Raises RenewalError when none signed, with the last one's words;
    the old certificate then stays.
    """
    try:
        leaf = leaf_of(files.certificate)
    except (OSError, ValueError, IndexError) as error:
        raise RenewalError(f"{files.certificate}: {error}; run site.yml --tags pki for this host") from error
    if not force and not renewal_due(leaf, now):
        return False
    if now >= leaf.not_valid_after_utc:
        raise RenewalError(
            f"the certificate of {name} expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC and can no "
            "longer prove its name; run site.yml --tags pki for this host"
        )
    answer = _ask(name, files, control, control_names)
    _check(answer, leaf, files)
    contents = {files.certificate: (bytes(answer.chain), 0o644)}
    if answer.ca:
        contents[files.ca] = (bytes(answer.ca), 0o644)
    if answer.crl and files.crl is not None:
        contents[files.crl] = (bytes(answer.crl), 0o644)
    replace_files(contents)
    return True


def _ask(name: str, files: HostFiles, control: Sequence[str], control_names: Sequence[str]) -> Any:
    try:
        key_pem = files.key.read_bytes()
        credentials = grpc.ssl_channel_credentials(
            files.ca.read_bytes(), key_pem, files.certificate.read_bytes()
        )
    except OSError as error:
        raise RenewalError(f"cannot read this host's PKI: {error}") from error
    request = marchproxy_pb2.RenewRequest(csr=_signing_request(name, key_pem))
    words = "no control address is configured"
    for index, address in enumerate(control):
        target = control_names[min(index, len(control_names) - 1)] if control_names else None
        options = [("grpc.ssl_target_name_override", target)] if target else []
        with grpc.secure_channel(address, credentials, options) as channel:
            call = channel.unary_unary(
                METHOD,
                request_serializer=marchproxy_pb2.RenewRequest.SerializeToString,
                response_deserializer=marchproxy_pb2.RenewResponse.FromString,
            )
            try:
                return call(request, timeout=TIMEOUT_S)
            except grpc.RpcError as error:
                words = f"{address}: {error.details()}"
    raise RenewalError(f"no control host renewed the certificate of {name}; {words}")


def _signing_request(name: str, key_pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise RenewalError("this host's key is neither ECDSA nor RSA")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA384())
    return csr.public_bytes(serialization.Encoding.PEM)


def _check(answer: Any, old: x509.Certificate, files: HostFiles) -> None:
    """Refuse an answer that would leave the host worse off than before."""
    try:
        fresh = x509.load_pem_x509_certificates(answer.chain)[0]
    except (ValueError, IndexError) as error:
        raise RenewalError(f"control answered no certificate: {error}") from error
    if fresh.public_key() != old.public_key():
        raise RenewalError(f"control signed another key than {files.key}")
    if fresh.not_valid_after_utc <= old.not_valid_after_utc:
        raise RenewalError(
            f"control's certificate ends {fresh.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, no later than the "
            "one held: the issuing CA is near its own end; run site.yml --tags pki"
        )


class RenewalHandler:
    """Control's side: `renew(identity, csr)` for a caller whose certificate proves `identity`."""

    def __init__(
        self, issuer: Callable[[], Issuer], *, trust_domain: str, ca: Path, crl: Path | None,
        on_renewed: Callable[[str, str, dt.datetime], None] | None = None,
        held: Callable[[str], bool] = lambda name: True,
    ) -> None:  # fmt: skip
        self._issuer = issuer
        self._trust_domain = trust_domain
        self._ca = ca
        self._crl = crl
        self._on_renewed = on_renewed
        self._held = held

    def renew(self, identity: str, csr: bytes, *, now: dt.datetime) -> marchproxy_pb2.RenewResponse:
        """Sign for `identity` and no other name, as long as the live revision `held`s it: a host that was
        removed must not live on by renewing. Raises IssueError with words for the caller."""
        if not self._held(identity):
            raise IssueError(f"{identity} is no host of the live revision")
        chain = self._issuer().sign_host(csr, name=identity, trust_domain=self._trust_domain, now=now)
        try:
            ca = self._ca.read_bytes()
            crl = self._crl.read_bytes() if self._crl is not None else b""
        except OSError as error:
            raise IssueError(f"control cannot read its own PKI: {error}") from error
        if self._on_renewed is not None:
            leaf = x509.load_pem_x509_certificates(chain)[0]
            self._on_renewed(identity, f"{leaf.serial_number:X}", leaf.not_valid_after_utc)
        return marchproxy_pb2.RenewResponse(chain=chain, ca=ca, crl=crl)
