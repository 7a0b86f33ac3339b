"""Certificates, authorities and domains: what a client meets before any request exists."""

from xds_agent.model.certificates import SITE_CA, Certificate
from xds_agent.model.checks.context import Context
from xds_agent.model.domains import Domain
from xds_agent.model.tenants import DEFAULT_TENANT

_GENERATED_ONLY = ("names", "key_type")


def check_certificates(context: Context) -> None:
    """Each source has its own keys; `site-ca` is not an authority of the inventory."""
    wildcards = _wildcard_certificates(context)
    for index, certificate in enumerate(context.edge.certificates):
        path = context.label("certificates", index)
        if context.whole("certificates", index):
            _check_source(context, path, certificate)
        if certificate.source == "acme" and (certificate.name in wildcards or _has_wildcard(certificate)):
            context.add(
                f"{path}.source",
                "HTTP-01 cannot order a wildcard",
                "use source: pem or site-ca, or name each domain",
            )
    for index, authority in enumerate(context.edge.authorities):
        if authority.name == SITE_CA:
            context.add(
                f"{context.label('authorities', index)}.name",
                f"'{SITE_CA}' is the site's own CA, which always exists",
                "give the foreign authority another name",
            )


def _has_wildcard(certificate: Certificate) -> bool:
    return any(name.startswith("*.") for name in certificate.names)


def _wildcard_certificates(context: Context) -> set[str]:
    return {domain.certificate for domain in context.edge.domains if domain.name.startswith("*.")}


def _check_source(context: Context, path: str, certificate: Certificate) -> None:
    given = certificate.model_fields_set
    if certificate.source == "pem":
        for key in ("certificate", "private_key"):
            if getattr(certificate, key) is None:
                context.add(
                    f"{path}.{key}", "is missing: source is pem", f"add {key}, or use source: site-ca"
                )
        for key in _GENERATED_ONLY:
            if key in given:
                context.add(f"{path}.{key}", "has no meaning: a pem certificate says it itself", "remove it")
    else:
        for key in ("certificate", "private_key"):
            if key in given:
                fix = f"use source: pem, or remove {key}"
                context.add(f"{path}.{key}", f"has no meaning: source is {certificate.source}", fix)
    if certificate.source == "acme":
        if certificate.directory is None:
            fix = "add directory: https://acme-v02.api.letsencrypt.org/directory"
            context.add(f"{path}.directory", "is missing: source is acme", fix)
    else:
        for key in ("directory", "directory_ca", "contact"):
            if key in given:
                context.add(
                    f"{path}.{key}", f"has no meaning: source is {certificate.source}", "use source: acme"
                )


def check_domains(context: Context) -> None:
    """Names refer to something, policies are whole, and no tenant owns a name within another's wildcard."""
    tenants = context.names("tenants") | {DEFAULT_TENANT}
    certificates = context.names("certificates")
    wildcards = {domain.name: domain for domain in context.edge.domains if domain.name.startswith("*.")}
    for index, domain in enumerate(context.edge.domains):
        if domain.tenant not in tenants:
            path = f"{context.label('domains', index)}.tenant"
            context.unknown(path, "tenant", domain.tenant, tenants, "tenants")
        if domain.certificate not in certificates:
            path = f"{context.label('domains', index)}.certificate"
            context.unknown(path, "certificate", domain.certificate, certificates, "certificates")
        _check_client_auth(context, index, domain)
        around = wildcards.get("*." + domain.name.removeprefix("*.").partition(".")[2])
        if around is not None and around is not domain and around.tenant != domain.tenant:
            context.add(
                context.label("domains", index),
                f"lies within {around.name} of tenant {around.tenant}, but belongs to tenant {domain.tenant}",
                "give both the same tenant, or use another name",
            )


def _check_client_auth(context: Context, index: int, domain: Domain) -> None:
    path = context.label("domains", index)
    known = context.names("authorities") | {SITE_CA}
    if domain.client_ca is not None and domain.client_ca not in known:
        context.unknown(f"{path}.client_ca", "authority", domain.client_ca, known, "authorities")
    if not context.whole("domains", index):
        return
    if domain.client_auth == "none":
        for key in ("client_ca", "client_names"):
            if getattr(domain, key):
                fix = "use client_auth: optional or required"
                context.add(f"{path}.{key}", "has no meaning: client_auth is none", fix)
    elif domain.client_ca is None:
        fix = f"add client_ca: {SITE_CA}, or a name under authorities"
        context.add(f"{path}.client_ca", f"is missing: client_auth is {domain.client_auth}", fix)
