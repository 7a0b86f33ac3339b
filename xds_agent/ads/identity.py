"""Who is at the other end: the one host name a client certificate proves, and how long it proves it.

The certificate proves the name, whatever a node message claims: exactly one URI SAN, a SPIFFE id of our
trust domain, `spiffe://<trust_domain>/host/<name>`. More than one, or one of another shape, is no identity.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")


class IdentityError(ValueError):
    """The certificate proves no name of ours; the words say why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What a verified client certificate says of its holder."""

    name: str
    serial: int
    issuer: bytes  # DER of the issuer's name: which authority's revocation list applies
    not_after: dt.datetime

    @property
    def serial_text(self) -> str:
        """Serial number as operators meet it elsewhere (openssl x509 -serial): upper-case hex."""
        return f"{self.serial:X}"


def host_of(uris: Sequence[str], trust_domain: str) -> str:
    """Host name in the one URI of a certificate. Raises IdentityError."""
    if len(uris) != 1:
        raise IdentityError(f"the certificate has {len(uris)} URI names; it must have exactly one")
    prefix = f"spiffe://{trust_domain}/host/"
    if not uris[0].startswith(prefix):
        raise IdentityError(f"{uris[0]!r} is no host of trust domain {trust_domain!r} ({prefix}<name>)")
    name = uris[0].removeprefix(prefix)
    if not _HOST.fullmatch(name):
        raise IdentityError(f"{uris[0]!r} names no host")
    return name


def peer_of(pem: bytes, trust_domain: str) -> Peer:
    """Read a peer's leaf (PEM, already verified by TLS against our CA). Raises IdentityError."""
    try:
        leaf = x509.load_pem_x509_certificate(pem)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    except ValueError as error:
        raise IdentityError(f"the certificate cannot be read: {error}") from error
    return Peer(
        name=host_of(uris, trust_domain),
        serial=leaf.serial_number,
        issuer=leaf.issuer.public_bytes(),
        not_after=leaf.not_valid_after_utc,
    )
