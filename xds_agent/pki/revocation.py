"""The issuing CA's revocation list, re-signed before it grows stale.

A list past its nextUpdate refuses every client, and Envoy accepts it without a word, so control re-signs
it by itself, unchanged or not, well before that. The list on disk is the only record of what is revoked:
`pki` (Ansible) and `revoke` both add to it, nobody else.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from xds_agent.pki.files import replace_files
from xds_agent.pki.issuer import Issuer

_BEGIN = b"-----BEGIN X509 CRL-----"
# Control signs when a list ages and when somebody is revoked: neither may lose what the other adds.
_SIGNING = threading.Lock()


def lists_of(pem: bytes) -> list[x509.CertificateRevocationList]:
    """All CRLs of a PEM bundle. Raises ValueError on a damaged one."""
    parts = [_BEGIN + part for part in pem.split(_BEGIN)[1:]]
    return [x509.load_pem_x509_crl(part) for part in parts]


def revoked_serials(pem: bytes) -> dict[int, dt.datetime]:
    """Serial number -> time of revocation, over all lists of the bundle."""
    return {entry.serial_number: entry.revocation_date_utc for crl in lists_of(pem) for entry in crl}


def refresh(path: Path, issuer: Issuer, *, now: dt.datetime, revoke: frozenset[int] = frozenset()) -> bool:
    """Re-sign the issuing CA's list inside the bundle at `path`; other CAs' lists stay as they are.

    Signs when serials are to be added, the list is missing, or two thirds of its life are over. Returns
    whether the file changed.
    """
    with _SIGNING:
        return _refresh(path, issuer, now=now, revoke=revoke)


def _refresh(path: Path, issuer: Issuer, *, now: dt.datetime, revoke: frozenset[int]) -> bool:
    lists = lists_of(path.read_bytes()) if path.exists() else []
    own = own_list(lists, issuer)
    revoked = {e.serial_number: e.revocation_date_utc for e in own} if own else {}
    fresh = revoke - revoked.keys()
    if own is not None and not fresh and not _aged(own, now):
        return False
    revoked |= dict.fromkeys(fresh, now)
    number = number_of(own) + 1
    signed = issuer.sign_crl(revoked, now=now, number=number)
    others = [crl for crl in lists if crl is not own]
    pem = signed + b"".join(crl.public_bytes(Encoding.PEM) for crl in others)
    replace_files({path: (pem, 0o644)})
    return True


def _aged(crl: x509.CertificateRevocationList, now: dt.datetime) -> bool:
    until = crl.next_update_utc
    return until is None or now >= crl.last_update_utc + (until - crl.last_update_utc) * 2 / 3


def own_list(
    lists: Sequence[x509.CertificateRevocationList], issuer: Issuer
) -> x509.CertificateRevocationList | None:
    """The list among them that this CA signed."""
    return next((crl for crl in lists if crl.issuer == issuer.certificate.subject), None)


def number_of(crl: x509.CertificateRevocationList | None) -> int:
    """Its CRLNumber, which grows with each list of a CA; 0 where there is none."""
    if crl is None:
        return 0
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0
