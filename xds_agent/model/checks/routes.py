"""Routes: one condition on the path, one thing to do, services that exist, expressions Envoy can take."""

from datetime import timedelta

from xds_agent.model.checks.context import Context
from xds_agent.model.checks.patterns import groups_in, highest_reference, why_not_re2
from xds_agent.model.routes import Route
from xds_agent.model.services import Service

_MATCHES = ("prefix", "exact", "regex")
_ACTIONS = ("service", "split", "redirect", "respond")
_TO_SERVICES = ("rewrite", "mirror", "timeout", "idle_timeout", "retries", "retry_on", "per_try_timeout")
_ALL_PERCENT = 100


def check_routes(context: Context) -> None:
    """Runs every check of one route over all of them, then looks for two that match the same."""
    seen: dict[object, str] = {}
    claimed = {
        (name, service.protocol == "grpc"): service.name
        for service in context.edge.services
        if service.is_http
        for name in service.domains
    }
    for index, route in enumerate(context.edge.routes):
        path = context.label("routes", index)
        _check_targets(context, path, route)
        _check_expressions(context, path, route)
        if not context.whole("routes", index):
            continue
        _check_one_of(context, path, route)
        _check_split(context, path, route)
        _check_options(context, path, route)
        _check_retries(context, path, route)
        _check_twice(context, path, route, seen)
        _check_hidden(context, path, route, claimed)


def _check_one_of(context: Context, path: str, route: Route) -> None:
    for keys, what in ((_MATCHES, "paths it holds for"), (_ACTIONS, "thing to do")):
        given = [key for key in keys if getattr(route, key) is not None]
        if not given:
            context.add(path, f"does not say the {what}", f"add one of {', '.join(keys)}")
        elif len(given) > 1:
            context.add(path, f"has {' and '.join(given)}", f"keep one of {', '.join(keys)}")


def _check_targets(context: Context, path: str, route: Route) -> None:
    """Domains and services exist, are of one tenant, and speak HTTP."""
    domains, services = context.edge.domain_by_name, context.edge.service_by_name
    known_domains, known_services = context.names("domains"), context.names("services")
    tenants = {domain.tenant for name in route.domains if (domain := domains.get(name)) is not None}
    for at, name in enumerate(route.domains):
        if name not in domains and name not in known_domains:
            context.unknown(f"{path}.domains[{at}]", "domain", name, known_domains, "domains")
    if len(tenants) > 1:
        fix = "write a route for each tenant"
        context.add(f"{path}.domains", f"are of several tenants: {', '.join(sorted(tenants))}", fix)
    targets = [(f"{path}.service", route.service)] if route.service is not None else []
    targets += [(f"{path}.split.{name}", name) for name in route.split or {}]
    if route.mirror is not None:
        targets.append((f"{path}.mirror.service", route.mirror.service))
    protocols: dict[bool, str] = {}
    for where, name in targets:
        service = services.get(name)
        if service is None:
            if name not in known_services:
                context.unknown(where, "service", name, known_services, "services")
            continue
        if not service.is_http:
            message = (
                f"service {name} is {service.protocol}; a route leads to http, grpc or websocket services"
            )
            context.add(where, message, "reach it on its own port")
            continue
        protocols.setdefault(service.protocol == "grpc", name)
        if len(tenants) == 1 and service.tenant not in tenants:
            message = (
                f"service {name} belongs to tenant {service.tenant}, the domain to {next(iter(tenants))}"
            )
            context.add(where, message, "a domain and what it leads to belong to one tenant")
    if len(protocols) > 1:
        message = f"mixes grpc ({protocols[True]}) and http ({protocols[False]}), served on different ports"
        context.add(path, message, "write a route for each")


def _check_split(context: Context, path: str, route: Route) -> None:
    if route.split is None:
        return
    total = sum(route.split.values())
    if total != _ALL_PERCENT:
        context.add(f"{path}.split", f"adds up to {total} percent", "make the shares add up to 100")


def _check_expressions(context: Context, path: str, route: Route) -> None:
    expressions = [(f"{path}.regex", route.regex)]
    expressions += [(f"{path}.headers[{match.name}].regex", match.regex) for match in route.headers]
    if route.rewrite is not None:
        expressions.append((f"{path}.rewrite.regex", route.rewrite.regex))
    for where, expression in expressions:
        if expression is None:
            continue
        why = why_not_re2(expression)
        if why is not None:
            context.add(
                where, f"'{expression}' is not an expression Envoy takes: {why}", "write it in RE2 syntax"
            )


def _check_options(context: Context, path: str, route: Route) -> None:
    leads_on = route.service is not None or route.split is not None
    if not leads_on and (route.redirect is not None or route.respond is not None):
        for key in _TO_SERVICES:
            if getattr(route, key) is not None:
                context.add(f"{path}.{key}", "has no meaning: the route leads to no service", "remove it")
    for match in route.headers:
        given = [key for key in _MATCHES if getattr(match, key) is not None]
        if len(given) > 1:
            context.add(f"{path}.headers[{match.name}]", f"has {' and '.join(given)}", "keep one of them")
    _check_rewrite(context, path, route)
    _check_redirect(context, path, route)
    if route.cors is not None and route.cors.credentials and "*" in route.cors.origins:
        fix = "name the origins"
        context.add(f"{path}.cors.origins", 'browsers refuse "*" together with credentials', fix)
    if route.client_certificate is not None:
        for name in route.domains:
            domain = context.edge.domain_by_name.get(name)
            if domain is not None and domain.client_auth == "none":
                fix = f"give {name} client_auth: optional and a client_ca"
                context.add(f"{path}.client_certificate", f"{name} never asks for a client certificate", fix)


def _check_rewrite(context: Context, path: str, route: Route) -> None:
    rewrite = route.rewrite
    if rewrite is None:
        return
    path = f"{path}.rewrite"
    if rewrite.prefix is None and rewrite.regex is None and rewrite.host is None:
        context.add(path, "changes nothing", "add prefix, regex or host")
    if rewrite.prefix is not None and rewrite.regex is not None:
        context.add(path, "has prefix and regex", "keep one of them")
    if rewrite.prefix is not None and route.regex is not None:
        fix = "use rewrite.regex and rewrite.substitution"
        context.add(f"{path}.prefix", "a route by regex has no prefix to replace", fix)
    if (rewrite.regex is None) != (rewrite.substitution is None):
        context.add(path, "regex and substitution belong together", "add the other one")
    elif (
        rewrite.regex is not None and rewrite.substitution is not None and why_not_re2(rewrite.regex) is None
    ):
        highest = highest_reference(rewrite.substitution)
        if highest > groups_in(rewrite.regex):
            message = f"refers to group {highest}, but the expression has {groups_in(rewrite.regex)}"
            context.add(f"{path}.substitution", message, "add the group to the expression, with ( and )")


def _check_redirect(context: Context, path: str, route: Route) -> None:
    redirect = route.redirect
    if redirect is None:
        return
    path = f"{path}.redirect"
    if redirect.path is not None and redirect.prefix is not None:
        context.add(path, "has path and prefix", "keep one of them")
    if redirect.prefix is not None and route.prefix is None:
        context.add(f"{path}.prefix", "only a route by prefix has a prefix to replace", "use path")
    if all(getattr(redirect, key) is None for key in ("scheme", "host", "port", "path", "prefix")):
        context.add(path, "leads back to where the client is", "add scheme, host, port, path or prefix")


def _check_retries(context: Context, path: str, route: Route) -> None:
    """Conditions of retries without retries; a try that is longer than the whole."""
    services = [
        service for name, _ in route.destinations if (service := context.edge.service_by_name.get(name))
    ]
    if not services:
        return
    if route.retries == 0 or (route.retries is None and not any(service.retries for service in services)):
        for key in ("retry_on", "per_try_timeout"):
            if getattr(route, key) is not None:
                context.add(f"{path}.{key}", "has no meaning: retries is 0", "add retries: 2, or remove it")
    if route.per_try_timeout is not None:
        whole = route.timeout if route.timeout is not None else min(_timeouts(services))
        if timedelta(0) < whole < route.per_try_timeout:
            context.add(
                f"{path}.per_try_timeout", "is longer than the whole timeout", "make it shorter than timeout"
            )


def _timeouts(services: list[Service]) -> list[timedelta]:
    return [service.request_timeout or timedelta.max for service in services]


def _match_key(route: Route) -> tuple[object, ...]:
    headers = tuple(
        sorted((m.name, m.exact or "", m.prefix or "", m.regex or "", m.negate) for m in route.headers)
    )
    methods = tuple(sorted(set(route.methods)))
    return route.prefix, route.exact, route.regex, methods, headers, route.priority


def _check_twice(context: Context, path: str, route: Route, seen: dict[object, str]) -> None:
    # gRPC and HTTP stand on different ports: one path may lead to each.
    services = [
        service for name, _ in route.destinations if (service := context.edge.service_by_name.get(name))
    ]
    grpc = bool(services) and services[0].protocol == "grpc"
    for at, name in enumerate(route.domains):
        other = seen.setdefault((name, grpc, *_match_key(route)), path)
        if other != path:
            fix = "remove one, or tell them apart by methods, headers or priority"
            context.add(f"{path}.domains[{at}]", f"{other} takes the same requests of {name}", fix)


def _check_hidden(context: Context, path: str, route: Route, claimed: dict[tuple[str, bool], str]) -> None:
    """A rule for everything hides the service that answers for the domain."""
    if route.prefix != "/" or route.methods or route.headers:
        return
    services = [
        service for name, _ in route.destinations if (service := context.edge.service_by_name.get(name))
    ]
    grpc = bool(services) and services[0].protocol == "grpc"
    for name in route.domains:
        owner = claimed.get((name, grpc))
        if owner is not None:
            message = f"takes every request of {name}, for which service {owner} answers"
            fix = f"remove {name} from the domains of service {owner}, or narrow the route"
            context.add(f"{path}.prefix", message, fix)
