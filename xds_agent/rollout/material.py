"""Key pairs and trusts a site is compiled with: issued by the site's CA, or given in the inventory."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from xds_agent.compile import KeyPair, Material, Trust
from xds_agent.model import ModelError, Problem, Site
from xds_agent.pki.issuer import IssueError, Issuer
from xds_agent.rollout.preflight import authority_faults, key_pair_faults
from xds_agent.store import certificates
from xds_agent.store.certificates import Issued

SITE_CA = "site-ca"


@dataclass(frozen=True)
class SiteCa:
    """The site's own authority: what clients and backends are verified with, and what issues."""

    ca: Path
    crl: Path | None
    issuing_certificate: Path | None = None
    issuing_key: Path | None = None

    def trust(self) -> Trust:
        """Raises OSError when the files of the pki role cannot be read."""
        crl = self.crl.read_bytes() if self.crl is not None and self.crl.exists() else None
        return Trust(ca=self.ca.read_bytes(), crl=crl or None)

    def issuer(self) -> Issuer:
        """Raises IssueError."""
        if self.issuing_certificate is None or self.issuing_key is None:
            raise IssueError("this control host has no issuing CA: set issuing_ca in serve.yml (roles/pki)")
        return Issuer.load(self.issuing_certificate, self.issuing_key)


@dataclass(frozen=True)
class Prepared:
    """What to compile with; `issued` is new and must be stored with the revision, with the reason of each."""

    material: Material
    issued: tuple[Issued, ...] = ()
    reasons: tuple[str, ...] = ()
    # What a new change would be refused for, met in what is served already.
    faults: tuple[Problem, ...] = ()
    # Certificates that are to come from an ACME authority and have not yet.
    stand_ins: tuple[str, ...] = ()


def names_by_certificate(site: Site) -> dict[str, list[str]]:
    """Certificate name -> the names it is issued for: its domains, its own `names`, or else its own name."""
    names: dict[str, set[str]] = {one.name: set(one.names) for one in site.edge.certificates}
    for domain in site.edge.domains:
        names.setdefault(domain.certificate, set()).add(domain.name)
    # A certificate that only proves the edge to backends serves no domain.
    return {name: sorted(found or {name}) for name, found in names.items()}


def prepare(
    site: Site, ca: SiteCa, held: Mapping[str, Issued], *, now: dt.datetime, serving: bool = False,
    challenges: Mapping[str, bytes] | None = None,
) -> Prepared:  # fmt: skip
    """Collect the material of a site, issuing what is missing or due.

    Raises ModelError naming every certificate and authority that Envoy would accept and regret. With
    `serving` (a revision that is live already) they are faults to be told, as long as something is there to
    serve with: a certificate that ran out must not take the other names down with it.
    """
    problems: list[Problem] = []
    names = names_by_certificate(site)
    pairs: dict[str, KeyPair] = {}
    issued: list[Issued] = []
    reasons: list[str] = []
    stand_ins: list[str] = []
    issuer: Issuer | None = None
    for one in site.edge.certificates:
        path = f"certificates[{one.name}]"
        if one.source == "pem":
            chain = one.certificate or ""
            key = one.private_key.get_secret_value() if one.private_key is not None else ""
            domains = [d.name for d in site.edge.domains if d.certificate == one.name]
            for field, (what, fix) in key_pair_faults(chain, key, domains, now):
                problems.append(_problem(site, f"{path}.{field}", what, fix))
            pairs[one.name] = KeyPair(chain=chain.encode(), key=key.encode())
            continue
        current = held.get(one.name)
        try:
            issuer = issuer or ca.issuer()
            if one.source == "acme" and current is not None and issuer.pem not in current.chain:
                pairs[one.name] = KeyPair(chain=current.chain, key=current.key)
                continue
            # Until an ACME order (orders.py) has succeeded the site's CA stands in.
            if one.source == "acme":
                stand_ins.append(one.name)
            reason = certificates.why_new(current, names[one.name], issuer, now, one.key_type)
            if current is None or reason is not None:
                current = certificates.issue(
                    issuer, one.name, names[one.name], now=now, key_type=one.key_type
                )
                issued.append(current)
                reasons.append(f"certificate {one.name}: {reason}")
            pairs[one.name] = KeyPair(chain=current.chain, key=current.key)
        except IssueError as error:
            problems.append(_problem(site, path, str(error), "run site.yml --tags pki for the control hosts"))
            if current is not None:
                pairs[one.name] = KeyPair(chain=current.chain, key=current.key)
    trusts = _trusts(site, ca, problems, now)
    whole = SITE_CA in trusts and all(one.name in pairs for one in site.edge.certificates)
    if problems and not (serving and whole):
        raise ModelError(problems)
    return Prepared(
        Material(pairs, trusts, dict(challenges or {})), tuple(issued), tuple(reasons), tuple(problems),
        tuple(stand_ins),
    )  # fmt: skip


def stand_in_notes(prepared: Prepared) -> list[str]:
    """Certificates whose ACME order has not succeeded yet: nobody is to take them for the real ones."""
    return [
        f"certificates[{name}]: the site's own CA stands in until its ACME order succeeds"
        for name in prepared.stand_ins
    ]


def expiries(material: Material) -> dict[str, dt.datetime]:
    """Certificate name -> end of its leaf, for metrics and status."""
    ends = {}
    for name, pair in material.key_pairs.items():
        ends[name] = x509.load_pem_x509_certificates(pair.chain)[0].not_valid_after_utc
    return ends


def _trusts(site: Site, ca: SiteCa, problems: list[Problem], now: dt.datetime) -> dict[str, Trust]:
    trusts: dict[str, Trust] = {}
    try:
        trusts[SITE_CA] = ca.trust()
    except OSError as error:
        problems.append(
            Problem(SITE_CA, f"control cannot read its own CA ({error})", "run site.yml --tags pki", None)
        )
    if SITE_CA in trusts and _proves_others(site):
        own = trusts[SITE_CA]
        crl = own.crl.decode() if own.crl else None
        for field, (what, _) in authority_faults(own.ca.decode(), crl, now):
            message = f"of the site itself: {what}"
            problems.append(_problem(site, f"{SITE_CA}.{field}", message, "run site.yml --tags pki"))
    for one in site.edge.authorities:
        for field, (what, fix) in authority_faults(one.certificate, one.crl, now):
            problems.append(_problem(site, f"authorities[{one.name}].{field}", what, fix))
        listed = one.crl.encode() if one.crl else None
        trusts[one.name] = Trust(ca=one.certificate.encode(), crl=listed)
    return trusts


def _proves_others(site: Site) -> bool:
    """Whether proxies verify clients or backends by the site's own CA, hence by its list."""
    edge = site.edge
    return any(domain.client_ca == SITE_CA for domain in edge.domains) or any(
        service.upstream_tls is not None and service.upstream_tls.ca == SITE_CA for service in edge.services
    )


def _problem(site: Site, path: str, message: str, fix: str) -> Problem:
    return Problem(path=path, message=message, fix=fix, origin=site.origin(path))
