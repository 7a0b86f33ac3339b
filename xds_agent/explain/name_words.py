"""Words for what changes about domains, certificates and authorities. Keys and PEM texts are never shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from xds_agent.explain.fields import field_changes
from xds_agent.explain.said import Said, listed, plural
from xds_agent.model import Authority, Certificate, Domain, Site

_CLIENT_WORDS = {
    "none": "asks for no client certificate",
    "optional": "takes an optional client certificate",
    "required": "requires a client certificate",
}
_CLIENT_SHORT = {"none": "none asked for", "optional": "optional", "required": "required"}


def name_words(old: Site | None, new: Site) -> Iterator[Said]:
    """Domains, then certificates, then authorities."""
    yield from _section(old, new, "domains", _new_domain, _domain, _of_domain)
    yield from _section(old, new, "certificates", _new_certificate, _certificate, _of_certificate)
    yield from _section(old, new, "authorities", _new_authority, _authority, _of_authority)


def _section(
    old: Site | None,
    new: Site,
    section: str,
    describe_new: Callable[[Any], str],
    describe_change: Callable[[Any, Any], Iterator[tuple[str, str]]],
    tenants_of: Callable[[Site, str], frozenset[str]],
) -> Iterator[Said]:
    """What comes, goes and changes in one list of named things."""
    before = {one.name: one for one in getattr(old.edge, section)} if old else {}
    after = {one.name: one for one in getattr(new.edge, section)}
    noun = {"domains": "domain", "certificates": "certificate", "authorities": "authority"}[section]
    for name in (*before, *(name for name in after if name not in before)):
        tenants = frozenset().union(*(tenants_of(site, name) for site in (old, new) if site is not None))
        path = f"{section}[{name}]"
        if name not in after:
            yield Said(f"{noun} {name} is removed", path, tenants)
        elif name not in before:
            yield Said(f"new {noun} {name}{describe_new(after[name])}", path, tenants)
        elif before[name] != after[name]:
            for field, words in describe_change(before[name], after[name]):
                yield Said(f"{noun} {name}{words}", f"{path}.{field}", tenants)
    if [name for name in before if name in after] != [name for name in after if name in before]:
        yield Said(
            f"{section} are listed in another order; nothing else follows from it",
            section,
            reaches_proxies=False,
        )


def _new_domain(domain: Domain) -> str:
    client = _CLIENT_SHORT[domain.client_auth] + (f" ({domain.client_ca})" if domain.client_ca else "")
    return f": certificate {domain.certificate}, client certificate {client}"


def _domain(was: Domain, now: Domain) -> Iterator[tuple[str, str]]:
    if was.client_auth != now.client_auth:
        of = f" of {now.client_ca}" if now.client_ca and now.client_auth != "none" else ""
        yield (
            "client_auth",
            f" now {_CLIENT_WORDS[now.client_auth]}{of} (was {_CLIENT_SHORT[was.client_auth]})",
        )
    if was.certificate != now.certificate:
        yield "certificate", f" now shows certificate {now.certificate} (was {was.certificate})"
    if was.redirect_http != now.redirect_http:
        words = (
            "is now redirected to HTTPS"
            if now.redirect_http
            else "is now answered 404 (was redirected to HTTPS)"
        )
        yield "redirect_http", f": plain HTTP {words}"
    if was.tls_minimum != now.tls_minimum:
        yield "tls_minimum", f" now takes TLS {now.tls_minimum} and newer (was {was.tls_minimum})"
    skip = {"name", "client_auth", "certificate", "redirect_http", "tls_minimum"}
    if was.client_auth != now.client_auth:
        skip.add("client_ca")
    for field, words in field_changes(was, now, skip=skip):
        yield field, f": {field} {words}"


def _new_certificate(certificate: Certificate) -> str:
    source = {"site-ca": "issued by the site's own CA", "pem": "given as PEM", "acme": "ordered by ACME"}
    names = f" for {listed(certificate.names)}" if certificate.names else ""
    return f", {source[certificate.source]}{names}"


def _certificate(was: Certificate, now: Certificate) -> Iterator[tuple[str, str]]:
    if was.private_key != now.private_key:
        yield "private_key", ": new key" if now.private_key else ": its key is taken away"
    if was.certificate != now.certificate:
        yield "certificate", ": new certificate" if now.certificate else ": its PEM certificate is taken away"
    for field, words in field_changes(was, now, skip={"name", "private_key", "certificate"}):
        yield field, f": {field} {words}"


def _new_authority(authority: Authority) -> str:
    count = authority.certificate.count("-----BEGIN CERTIFICATE-----")
    crl = "with its revocation list" if authority.crl else "without a revocation list"
    return f": {plural(count, 'CA certificate')}, {crl}"


def _authority(was: Authority, now: Authority) -> Iterator[tuple[str, str]]:
    if was.certificate != now.certificate:
        yield "certificate", ": new CA certificates"
    if was.crl != now.crl:
        words = (
            "a new revocation list"
            if was.crl and now.crl
            else "a revocation list"
            if now.crl
            else "no revocation list"
        )
        more = "" if now.crl else ": revoked clients are no longer refused"
        yield "crl", f" now has {words}{more}"
    for field, words in field_changes(was, now, skip={"name", "certificate", "crl"}):
        yield field, f": {field} {words}"


def _of_domain(site: Site, name: str) -> frozenset[str]:
    domain = site.edge.domain_by_name.get(name)
    return frozenset({domain.tenant}) if domain else frozenset()


def _of_certificate(site: Site, name: str) -> frozenset[str]:
    shown = {domain.tenant for domain in site.edge.domains if domain.certificate == name}
    tls = ((one.tenant, one.upstream_tls) for one in site.edge.services)
    return frozenset(
        shown | {tenant for tenant, one in tls if one is not None and one.client_certificate == name}
    )


def _of_authority(site: Site, name: str) -> frozenset[str]:
    shown = {domain.tenant for domain in site.edge.domains if domain.client_ca == name}
    tls = ((one.tenant, one.upstream_tls) for one in site.edge.services)
    return frozenset(shown | {tenant for tenant, one in tls if one is not None and one.ca == name})
