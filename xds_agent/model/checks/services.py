"""Services: names refer to something, endpoints exist where they are wanted, options fit the protocol."""

import ipaddress
from datetime import timedelta
from types import MappingProxyType

from xds_agent.model.certificates import SITE_CA
from xds_agent.model.checks.context import Context
from xds_agent.model.health import Health
from xds_agent.model.services import Auth, Service
from xds_agent.model.tenants import DEFAULT_TENANT

_NOTHING = timedelta(0)
# Envoy refuses an endpoint set beyond these.
_WEIGHTS_MOST = 2**32 - 1
_PRIORITIES_MOST = 128
_HTTP_ONLY = ("domains", "upstream_http", "retries", "retry_on", "per_try_timeout", "timeout")
_HEALTH_ONLY = MappingProxyType({"path": "http", "host": "http", "statuses": "http", "grpc_service": "grpc"})
_AUTH_ONLY = MappingProxyType({"issuer": "jwt", "audiences": "jwt", "jwks": "jwt", "tokens": "token"})


def check_services(context: Context) -> None:
    """Runs every check of one service over all of them."""
    tenants = context.names("tenants") | {DEFAULT_TENANT}
    domains = context.edge.domain_by_name
    known_domains = context.names("domains")
    for index, service in enumerate(context.edge.services):
        if service.tenant not in tenants:
            path = f"{context.label('services', index)}.tenant"
            context.unknown(path, "tenant", service.tenant, tenants, "tenants")
        for at, name in enumerate(service.domains):
            domain = domains.get(name)
            if domain is not None and domain.tenant == service.tenant:
                continue
            path = f"{context.label('services', index)}.domains[{at}]"
            if domain is not None:
                fix = "a domain and what it leads to belong to one tenant"
                context.add(path, f"{name} belongs to tenant {domain.tenant}, not {service.tenant}", fix)
            elif name not in known_domains:
                context.unknown(path, "domain", name, known_domains, "domains")
        _check_endpoints(context, index, service)
        if service.upstream_tls is not None:
            _check_upstream_tls(context, index, service)
        if context.whole("services", index):
            _check_options(context, index, service)


def _check_endpoints(context: Context, index: int, service: Service) -> None:
    groups = context.site.hosts_by_group
    weight = 0
    clouds: set[str | None] = set()
    # Where an unknown group was meant to stand is unknown too: no second mistake follows from it.
    known = True
    for at, endpoint in enumerate(service.endpoints):
        weight += endpoint.weight
        if endpoint.address is not None:
            clouds.add(endpoint.cloud)
            if endpoint.group is not None:
                path = f"{context.label('services', index)}.endpoints[{at}]"
                context.add(path, "has both address and group", "write one endpoint for each")
            if ":" in endpoint.address and not _is_ipv6(endpoint.address):
                path = f"{context.label('services', index)}.endpoints[{at}].address"
                fix = "write the address alone; the port has a key of its own"
                context.add(path, f"'{endpoint.address}' is not an address", fix)
            continue
        path = f"{context.label('services', index)}.endpoints[{at}]"
        if endpoint.group is None:
            if context.whole("services", index):
                context.add(path, "has neither address nor group", "add one of them")
            continue
        for key in ("cloud", "region", "zone"):
            if getattr(endpoint, key) is not None:
                fix = f"remove it; each host of the group has its own {key}"
                context.add(f"{path}.{key}", "has no meaning with a group", fix)
        members = groups.get(endpoint.group)
        if members is None:
            context.unknown(f"{path}.group", "group with hosts", endpoint.group, groups, "groups with hosts")
            known = False
            continue
        for host in members:
            clouds.add(host.cloud)
            if host.address is None:
                fix = f"give host {host.name} the variable ansible_host"
                context.add(
                    f"{path}.group", f"host {host.name} of group {endpoint.group} has no address", fix
                )
    if not context.whole("services", index):
        return
    if not service.endpoints:
        context.add(f"{context.label('services', index)}.endpoints", "is empty", "add an address or a group")
    elif weight == 0:
        path = f"{context.label('services', index)}.endpoints"
        context.add(path, "every weight is 0, so nothing can be served", "give one endpoint a weight")
    elif weight > _WEIGHTS_MOST:
        path = f"{context.label('services', index)}.endpoints"
        context.add(path, f"weighs {weight} in all; Envoy adds up to {_WEIGHTS_MOST}", "use smaller weights")
    if known and "steering" in service.model_fields_set:
        _check_steering(context, index, service, clouds)
    if known and len(clouds) > 1 and service.steering.active_passive:
        _check_signal(context, index, service)


def _check_steering(context: Context, index: int, service: Service, clouds: set[str | None]) -> None:
    path = f"{context.label('services', index)}.steering"
    has = ", ".join(sorted(cloud for cloud in clouds if cloud)) or "no cloud"
    for at, cloud in enumerate(service.steering.order):
        if cloud in service.steering.order[:at]:
            context.add(f"{path}.order[{at}]", f"'{cloud}' is there twice", "remove one")
        elif cloud not in clouds:
            fix = f"add one, or take {cloud} out of the order (endpoints are in: {has})"
            context.add(f"{path}.order[{at}]", f"service {service.name} has no endpoint in {cloud}", fix)
    if len(service.steering.order) > _PRIORITIES_MOST:
        message = f"has {len(service.steering.order)} clouds; Envoy knows {_PRIORITIES_MOST} priorities"
        context.add(f"{path}.order", message, "leave the last ones out")
    for cloud in service.steering.weights:
        if cloud not in clouds:
            fix = f"add one, or take {cloud} out of the weights (endpoints are in: {has})"
            context.add(f"{path}.weights.{cloud}", f"service {service.name} has no endpoint in {cloud}", fix)
    for cloud in service.steering.capacity:
        if cloud not in clouds:
            fix = f"add one, or take {cloud} out of the capacity (endpoints are in: {has})"
            context.add(f"{path}.capacity.{cloud}", f"service {service.name} has no endpoint in {cloud}", fix)
    if service.steering.max_shift == 0:
        context.add(f"{path}.max_shift", "is 0, so nothing could ever move", "write 25, or leave it out")
    if service.steering.latency_budget is not None and service.steering.algorithm != "cost":
        fix = "use algorithm: cost, or remove it"
        message = f"has no meaning: algorithm is {service.steering.algorithm}"
        context.add(f"{path}.latency_budget", message, fix)
    if service.steering.weights and not any(service.steering.weights.get(str(cloud), 1) for cloud in clouds):
        context.add(f"{path}.weights", "every weight is 0", "give one cloud a weight")
    if service.steering.mode == "active-passive" and not service.steering.order:
        fix = "add order: [first, second], or use mode: active-active"
        context.add(f"{path}.order", "is missing: mode is active-passive", fix)


def _check_signal(context: Context, index: int, service: Service) -> None:
    """A cloud takes over when Envoy sees the one before it fail; Envoy accepts that nobody ever looks."""
    # Datagrams are forwarded without looking at what comes back: nothing is learnt from them.
    by_requests = service.ejection.max_percent > 0 and service.protocol != "udp"
    if service.health is not None or by_requests or service.protocol == "icmp":
        return
    path = f"{context.label('services', index)}.steering.order"
    learnt = "udp requests tell nothing" if service.protocol == "udp" else "ejection is off"
    message = f"nothing would tell that a cloud has failed: there is no health check, and {learnt}"
    fix = "add health: {type: tcp, port: ...}" if service.protocol == "udp" else "add health: {type: http}"
    context.add(path, message, f"{fix}, or use mode: active-active")


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _check_upstream_tls(context: Context, index: int, service: Service) -> None:
    tls = service.upstream_tls
    assert tls is not None
    path = f"{context.label('services', index)}.upstream_tls"
    authorities = context.names("authorities") | {SITE_CA}
    if tls.ca is not None and tls.ca not in authorities:
        context.unknown(f"{path}.ca", "authority", tls.ca, authorities, "authorities")
    certificates = context.names("certificates")
    if tls.client_certificate is not None and tls.client_certificate not in certificates:
        name = tls.client_certificate
        context.unknown(f"{path}.client_certificate", "certificate", name, certificates, "certificates")
    if not service.is_http and service.protocol != "tcp":
        context.add(path, f"has no meaning: protocol is {service.protocol}", "remove it")
    if tls.sni is None and not tls.names and context.whole("services", index):
        fix = "add sni (or names), so that not every certificate of the authority is accepted"
        context.add(path, "says nothing about the backend's name", fix)


def _check_options(context: Context, index: int, service: Service) -> None:
    path = context.label("services", index)
    given = service.model_fields_set
    if not service.is_http:
        for key in _HTTP_ONLY:
            if key in given:
                fix = "use listen.sni" if key == "domains" and service.protocol == "tcp" else "remove it"
                context.add(f"{path}.{key}", f"has no meaning: protocol is {service.protocol}", fix)
    elif service.retries == 0:
        for key in ("retry_on", "per_try_timeout"):
            if key in given:
                context.add(f"{path}.{key}", "has no meaning: retries is 0", "add retries: 2, or remove it")
    if service.protocol == "grpc" and service.upstream_http == "1.1":
        context.add(f"{path}.upstream_http", "gRPC needs HTTP/2", "remove it")
    if service.connect_timeout <= _NOTHING:
        context.add(f"{path}.connect_timeout", "must be longer than 0", "write 1s")
    if service.per_try_timeout is not None and _NOTHING < service.timeout < service.per_try_timeout:
        fix = "make it shorter than timeout"
        context.add(f"{path}.per_try_timeout", "is longer than the whole timeout", fix)
    if service.health is not None:
        _check_health(context, f"{path}.health", service, service.health)
    if service.ejection.interval <= _NOTHING or service.ejection.time <= _NOTHING:
        context.add(f"{path}.ejection", "interval and time must be longer than 0", "write 1s and 5s")
    if "auth" in given:
        _check_auth(context, f"{path}.auth", service, service.auth)


def _check_health(context: Context, path: str, service: Service, health: Health) -> None:
    given = health.model_fields_set
    for key, kind in _HEALTH_ONLY.items():
        if key in given and health.type != kind:
            context.add(
                f"{path}.{key}", f"has no meaning: type is {health.type}", f"use type: {kind}, or remove it"
            )
    for key in ("interval", "timeout"):
        if getattr(health, key) <= _NOTHING:
            context.add(f"{path}.{key}", "must be longer than 0", "write 1s")
    if health.type == "grpc" and not service.upstream_http2:
        fix = 'use protocol: grpc or upstream_http: "2", or type: http'
        context.add(f"{path}.type", "a grpc check needs HTTP/2 to the backend", fix)
    if service.protocol in ("udp", "icmp") and health.port is None:
        fix = "name a TCP port of the backend under health.port"
        context.add(
            f"{path}.port", f"is missing: a {service.protocol} backend is checked on another port", fix
        )


def _check_auth(context: Context, path: str, service: Service, auth: Auth) -> None:
    if auth.type != "none" and not service.is_http:
        message = f"a {service.protocol} service has no requests that could carry a proof"
        context.add(f"{path}.type", message, "use type: none")
        return
    for key, kind in _AUTH_ONLY.items():
        if key in auth.model_fields_set and auth.type != kind:
            context.add(
                f"{path}.{key}", f"has no meaning: type is {auth.type}", f"use type: {kind}, or remove it"
            )
    if auth.type == "jwt" and auth.issuer is None:
        context.add(f"{path}.issuer", "is missing: type is jwt", "add issuer: https://id.example.com")
    if auth.type == "mtls":
        for name in service.domains:
            domain = context.edge.domain_by_name.get(name)
            if domain is not None and domain.client_auth != "required":
                fix = f"give {name} client_auth: required and a client_ca"
                context.add(f"{path}.type", f"{name} does not require a client certificate", fix)
    if auth.type == "token" and not auth.tokens:
        context.add(
            f"{path}.tokens", "is missing: type is token", "add a token for each holder, as vault values"
        )
