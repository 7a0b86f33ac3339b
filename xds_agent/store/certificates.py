"""Service certificates issued by the site's own CA: made here, kept sealed, renewed at two thirds of life."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from sqlalchemy import select
from sqlalchemy.orm import Session

from xds_agent.pki.issuer import Issuer
from xds_agent.store.schema import CertificateRow
from xds_agent.store.sealing import Sealer

DEFAULT_KEY = "ecdsa-p384"
_KEYS: Mapping[str, Callable[[], ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey]] = {
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa-3072": lambda: rsa.generate_private_key(65537, 3072),
    "rsa-4096": lambda: rsa.generate_private_key(65537, 4096),
}


@dataclass(frozen=True)
class Issued:
    """One service certificate with its key, both PEM; `chain` is leaf, then issuing CA."""

    name: str
    names: tuple[str, ...]
    chain: bytes
    key: bytes = field(repr=False)
    not_before: dt.datetime
    not_after: dt.datetime

    @property
    def key_type(self) -> str:
        """Kind of its key, as the inventory calls it."""
        public = x509.load_pem_x509_certificates(self.chain)[0].public_key()
        if isinstance(public, ec.EllipticCurvePublicKey):
            return f"ecdsa-p{public.key_size}"
        return f"rsa-{public.key_size}" if isinstance(public, rsa.RSAPublicKey) else "other"

    def due(self, now: dt.datetime) -> bool:
        """True from two thirds of its life on."""
        return _past_two_thirds(self.not_before, self.not_after, now)


def issue(
    issuer: Issuer, name: str, names: Sequence[str], *, now: dt.datetime, key_type: str = DEFAULT_KEY
) -> Issued:
    """A new key and its certificate for `names`. Raises xds_agent.pki.issuer.IssueError."""
    key = _KEYS[key_type]()
    ordered = tuple(sorted(names))
    chain = issuer.sign_service(key.public_key(), names=ordered, now=now)
    leaf = x509.load_pem_x509_certificates(chain)[0]
    return Issued(name, ordered, chain, _pem(key), leaf.not_valid_before_utc, leaf.not_valid_after_utc)


def make_key(key_type: str) -> bytes:
    """A new private key (PEM) of a kind the inventory names."""
    return _pem(_KEYS[key_type]())


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def why_new(
    held: Issued | None, names: Sequence[str], issuer: Issuer, now: dt.datetime, key_type: str = DEFAULT_KEY
) -> str | None:
    """Why a certificate must be issued (again), in words; None when the one held serves."""
    if held is None:
        return "first issued"
    if held.names != tuple(sorted(names)):
        return f"its names are now {', '.join(sorted(names))}"
    if held.due(now):
        return f"two thirds of its life are over (it ends {held.not_after:%Y-%m-%d})"
    if held.key_type != key_type:
        return f"its key is to be {key_type}"
    if issuer.pem not in held.chain:
        return "the issuing CA is a new one"
    return None


def load(session: Session, sealer: Sealer) -> dict[str, Issued]:
    """All certificates held, by name. Raises SealError when the key file is another one."""
    return {
        row.name: Issued(
            name=row.name,
            names=tuple(row.names),
            chain=row.chain.encode(),
            key=sealer.open(row.key, belongs_to=f"certificate {row.name}"),
            not_before=row.not_before,
            not_after=row.not_after,
        )
        for row in session.scalars(select(CertificateRow))
    }


def keep(session: Session, sealer: Sealer, issued: Iterable[Issued]) -> None:
    """Store, replacing what was held under the same names."""
    for one in issued:
        session.merge(
            CertificateRow(
                name=one.name,
                names=list(one.names),
                chain=one.chain.decode(),
                key=sealer.seal(one.key, belongs_to=f"certificate {one.name}"),
                not_before=one.not_before,
                not_after=one.not_after,
            )
        )


def renewals(session: Session, now: dt.datetime) -> list[str]:
    """Names of those past two thirds of their life; opens no key."""
    rows = session.execute(select(CertificateRow.name, CertificateRow.not_before, CertificateRow.not_after))
    return sorted(name for name, start, end in rows if _past_two_thirds(start, end, now))


def _past_two_thirds(start: dt.datetime, end: dt.datetime, now: dt.datetime) -> bool:
    return now >= start + (end - start) * 2 / 3
