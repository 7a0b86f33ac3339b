"""What Envoy would accept and regret: expired certificates, keys of others, broken chains, stale lists.

Checked before anything is compiled, each fault named by its place in the inventory.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Iterator, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from xds_agent.pki.revocation import lists_of

MINIMUM_RSA_BITS = 2048
ENVOY_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

# What is wrong, and the fix.
Fault = tuple[str, str]


def key_pair_faults(
    chain_pem: str, key_pem: str, names: Iterable[str], now: dt.datetime
) -> Iterator[tuple[str, Fault]]:
    """Faults of a certificate given as PEM: (field, (what, fix)); `names` are the domains that present it."""
    try:
        chain = x509.load_pem_x509_certificates(chain_pem.encode())
    except ValueError:
        yield "certificate", ("is not a PEM certificate", "give the leaf first, then its issuers")
        return
    leaf = chain[0]
    yield from (("certificate", fault) for fault in _chain_faults(chain, now))
    yield from (("certificate", fault) for fault in _name_faults(leaf, names))
    try:
        key = serialization.load_pem_private_key(key_pem.encode(), password=None)
    except TypeError:
        yield "private_key", ("is encrypted", "decrypt it, and keep it as a vault value")
        return
    except ValueError:
        yield "private_key", ("is not a PEM private key", "give the unencrypted PKCS#8 or traditional PEM")
        return
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        yield "private_key", ("is neither ECDSA nor RSA, which Envoy needs", "make a key of one of the two")
    elif isinstance(key, rsa.RSAPrivateKey) and key.key_size < MINIMUM_RSA_BITS:
        yield "private_key", (f"has {key.key_size} bits", f"use RSA of {MINIMUM_RSA_BITS} bits, or ECDSA")
    elif isinstance(key, ec.EllipticCurvePrivateKey) and not isinstance(key.curve, ENVOY_CURVES):
        yield "private_key", (f"is on curve {key.curve.name}, which Envoy refuses", "use P-256 or P-384")
    if key.public_key() != leaf.public_key():
        yield "private_key", ("is not the key of the certificate", "give the pair that belongs together")


def authority_faults(ca_pem: str, crl_pem: str | None, now: dt.datetime) -> Iterator[tuple[str, Fault]]:
    """Faults of a foreign authority: (field, (what, fix))."""
    try:
        authorities = x509.load_pem_x509_certificates(ca_pem.encode())
    except ValueError:
        yield "certificate", ("is not a PEM certificate", "give the CA's certificate, or several")
        return
    for one in authorities:
        name = one.subject.rfc4514_string()
        if not _is_ca(one):
            yield (
                "certificate",
                (f"{name} is no certificate authority", "give the CA that issues, not a leaf"),
            )
        yield from (("certificate", fault) for fault in _date_faults(one, now, name))
    if crl_pem is None:
        return
    try:
        lists = lists_of(crl_pem.encode())
    except ValueError:
        yield "crl", ("is not a PEM revocation list", "convert it: openssl crl -inform der")
        return
    for crl in lists:
        issuer = crl.issuer.rfc4514_string()
        if crl.next_update_utc is not None and crl.next_update_utc <= now:
            when = f"{crl.next_update_utc:%Y-%m-%d %H:%M} UTC"
            yield "crl", (f"the list of {issuer} is stale since {when}", "fetch the authority's current list")
        if crl.last_update_utc > now:
            when = f"{crl.last_update_utc:%Y-%m-%d %H:%M} UTC"
            yield (
                "crl",
                (f"the list of {issuer} is valid only from {when}", "wait, or check this host's clock"),
            )
        signer = next((one for one in authorities if one.subject == crl.issuer), None)
        if signer is None:
            yield "crl", (f"the list of {issuer} belongs to none of the CAs", "remove it, or add its CA")
        elif not crl.is_signature_valid(signer.public_key()):  # type: ignore[arg-type]
            yield "crl", (f"the list of {issuer} is not signed by it", "fetch the authority's current list")
    listed = {crl.issuer for crl in lists}
    for one in authorities:
        if one.subject not in listed:
            name = one.subject.rfc4514_string()
            yield "crl", (f"{name} has no list here: every client of it would be refused", "add its list")


def _chain_faults(chain: Sequence[x509.Certificate], now: dt.datetime) -> Iterator[Fault]:
    for one in chain:
        yield from _date_faults(one, now, one.subject.rfc4514_string() or "the certificate")
    for lower, upper in itertools.pairwise(chain):
        try:
            lower.verify_directly_issued_by(upper)
        except (ValueError, TypeError, InvalidSignature):
            below, above = lower.subject.rfc4514_string(), upper.subject.rfc4514_string()
            yield f"{above} did not issue {below}", "put the leaf first and each issuer behind what it issued"


def _date_faults(certificate: x509.Certificate, now: dt.datetime, name: str) -> Iterator[Fault]:
    if certificate.not_valid_after_utc <= now:
        yield f"{name} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", "renew it"
    if certificate.not_valid_before_utc > now:
        when = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        yield f"{name} is valid only from {when}", "wait, or check this host's clock"


def _name_faults(leaf: x509.Certificate, names: Iterable[str]) -> Iterator[Fault]:
    try:
        held = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        covered = {name.lower() for name in held.get_values_for_type(x509.DNSName)}
    except (x509.ExtensionNotFound, ValueError):
        covered = set()
    missing = sorted(name for name in names if not _covers(covered, name))
    if missing:
        shown = ", ".join(sorted(covered)) or "no name at all"
        yield f"holds {shown}, not {', '.join(missing)}", "get one for every domain that presents it"


def _covers(covered: set[str], name: str) -> bool:
    return name in covered or "*." + name.partition(".")[2] in covered


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
