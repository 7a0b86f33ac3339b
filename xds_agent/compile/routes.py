"""Routes: one rule of the inventory becomes one route of Envoy, and rules get their order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from envoy.config.route.v3 import route_components_pb2
from envoy.type.v3 import percent_pb2

from xds_agent.compile import route_filters
from xds_agent.compile.encoding import duration
from xds_agent.compile.retries import retry_policy
from xds_agent.model import HeaderEdit, HeaderMatch, Mirror, Redirect, Rewrite, Route, Service

_REDIRECTS = {
    301: route_components_pb2.RedirectAction.MOVED_PERMANENTLY,
    302: route_components_pb2.RedirectAction.FOUND,
    303: route_components_pb2.RedirectAction.SEE_OTHER,
    307: route_components_pb2.RedirectAction.TEMPORARY_REDIRECT,
    308: route_components_pb2.RedirectAction.PERMANENT_REDIRECT,
}
_EXACT, _REGEX, _PREFIX = range(3)
_PER_MILLION = 10_000
Services = Mapping[str, Service]


def ordered(rules: Sequence[Route]) -> list[Route]:
    """Rules in the order Envoy tries them.

    Highest `priority` first; then exact before regex before prefix, longer paths first, more conditions
    first.
    What still ties is ordered by its own content, so that the order of files never shows.
    """
    return sorted(rules, key=_rank)


def _rank(rule: Route) -> tuple[Any, ...]:
    kind, path = _path(rule)
    headers = tuple(
        sorted((m.name, m.exact or "", m.prefix or "", m.regex or "", m.negate) for m in rule.headers)
    )
    conditions = len(rule.headers) + bool(rule.methods)
    return -rule.priority, kind, -len(path), -conditions, path, tuple(sorted(rule.methods)), headers


def _path(rule: Route) -> tuple[int, str]:
    if rule.exact is not None:
        return _EXACT, rule.exact
    if rule.regex is not None:
        return _REGEX, rule.regex
    return _PREFIX, rule.prefix or "/"


def rule_route(rule: Route, services: Services) -> Any:
    """Route of one rule; `services` holds every service it leads to."""
    kind, path = _path(rule)
    route = route_components_pb2.Route(name=rule.name or f"{('exact', 'regex', 'prefix')[kind]} {path}")
    _match(route.match, rule, kind, path)
    if rule.redirect is not None:
        _redirect(route.redirect, rule.redirect, path)
    elif rule.respond is not None:
        route.direct_response.status = rule.respond.status
        if rule.respond.body:
            route.direct_response.body.inline_string = rule.respond.body
    else:
        _to_services(route, rule, services, kind, path)
    _edit(route, "request", rule.request_headers)
    _edit(route, "response", rule.response_headers)
    if rule.cors is not None:
        route_filters.cors(route, rule.cors)
    if rule.client_certificate is not None and not rule.destinations:
        route_filters.client_certificate(route)
    return route


def catch_all(service: Service) -> Any:
    """Route of everything no rule takes, to the service that answers for the domain."""
    route = route_components_pb2.Route(name=f"service {service.name}")
    route.match.prefix = "/"
    route.route.cluster = service.name
    _manners(route.route, service, None)
    route_filters.of_service(route, service)
    return route


def _match(match: Any, rule: Route, kind: int, path: str) -> None:
    if kind == _EXACT:
        match.path = path
    elif kind == _REGEX:
        match.safe_regex.regex = path
    elif path.endswith("/"):
        match.prefix = path
    else:
        match.path_separated_prefix = path
    if rule.methods:
        # A browser asks with OPTIONS first; the CORS filter answers where the rule matches.
        methods = sorted({*rule.methods, *(("OPTIONS",) if rule.cors is not None else ())})
        header = match.headers.add(name=":method")
        if len(methods) == 1:
            header.string_match.exact = methods[0]
        else:
            header.string_match.safe_regex.regex = "|".join(methods)
    for condition in sorted(rule.headers, key=lambda one: (one.name, one.exact or "", one.regex or "")):
        header = match.headers.add(name=condition.name, invert_match=condition.negate)
        # Without this a header that is absent matches neither a condition nor its opposite.
        header.treat_missing_header_as_empty = condition.negate
        _header(header, condition)


def _header(matcher: Any, condition: HeaderMatch) -> None:
    if condition.exact is not None:
        matcher.string_match.exact = condition.exact
    elif condition.prefix is not None:
        matcher.string_match.prefix = condition.prefix
    elif condition.regex is not None:
        matcher.string_match.safe_regex.regex = condition.regex
    else:
        matcher.present_match = True
        matcher.treat_missing_header_as_empty = False


def _redirect(action: Any, redirect: Redirect, path: str) -> None:
    action.response_code = _REDIRECTS[redirect.status]
    action.strip_query = redirect.strip_query
    if redirect.scheme is not None:
        action.scheme_redirect = redirect.scheme
    if redirect.host is not None:
        action.host_redirect = redirect.host
    if redirect.port is not None:
        action.port_redirect = redirect.port
    if redirect.path is not None:
        action.path_redirect = redirect.path
    elif redirect.prefix is not None:
        _replace_prefix(action, path, redirect.prefix)


def _replace_prefix(action: Any, path: str, replacement: str) -> None:
    """`/api` by `/` makes `/x` of `/api/x`, never `//x`."""
    if replacement.endswith("/") and not path.endswith("/"):
        action.regex_rewrite.pattern.regex = f"^{re.escape(path)}/?"
        action.regex_rewrite.substitution = replacement.replace("\\", "\\\\")
    else:
        action.prefix_rewrite = replacement


def _to_services(route: Any, rule: Route, services: Services, kind: int, path: str) -> None:
    action = route.route
    destinations = rule.destinations
    for name, percent in destinations:
        if len(destinations) == 1:
            action.cluster = name
            route_filters.of_service(route, services[name])
            continue
        share = action.weighted_clusters.clusters.add(name=name)
        share.weight.value = percent
        route_filters.of_service(share, services[name])
    kinds = [services[name].auth.type for name, _ in destinations]
    if rule.client_certificate is not None:
        kinds.append("mtls")
    route_filters.of_clients(route, kinds)
    _manners(action, services[_lead(destinations)], rule)
    if any(services[name].protocol == "websocket" for name, _ in destinations):
        _allow_websocket(action)
    if rule.rewrite is not None:
        _rewrite(action, rule.rewrite, kind, path)
    if rule.mirror is not None:
        _mirror(action.request_mirror_policies.add(), rule.mirror)


def _lead(destinations: Sequence[tuple[str, int]]) -> str:
    """The service with the largest share lends a rule the manners it does not set itself."""
    return min(destinations, key=lambda one: (-one[1], one[0]))[0]


def _manners(action: Any, service: Service, rule: Route | None) -> None:
    """Timeouts and retries: the rule's own, else the service's."""
    timeout: timedelta | None = service.request_timeout
    idle, retries = service.idle_timeout, service.retries
    retry_on: Sequence[str] = service.retry_on
    per_try = service.per_try_timeout
    if rule is not None:
        timeout = _either(rule.timeout, timeout)
        idle = _either(rule.idle_timeout, idle)
        retries = retries if rule.retries is None else rule.retries
        retry_on = retry_on if rule.retry_on is None else rule.retry_on
        per_try = _either(rule.per_try_timeout, per_try)
    action.timeout.CopyFrom(duration(timeout or timedelta(0)))
    if idle is not None:
        action.idle_timeout.CopyFrom(duration(idle))
    if service.protocol == "grpc":
        # What the client says in grpc-timeout holds; the timeout above is the most it may ask for.
        action.max_stream_duration.grpc_timeout_header_max.CopyFrom(duration(timeout or timedelta(0)))
    if service.protocol == "websocket" and rule is None:
        _allow_websocket(action)
    if retries:
        action.retry_policy.CopyFrom(retry_policy(retries, tuple(retry_on), per_try))


def _either(first: timedelta | None, second: timedelta | None) -> timedelta | None:
    return second if first is None else first


def _allow_websocket(action: Any) -> None:
    action.upgrade_configs.add(upgrade_type="websocket")


def _rewrite(action: Any, rewrite: Rewrite, kind: int, path: str) -> None:
    if rewrite.prefix is not None and kind == _EXACT:
        action.prefix_rewrite = rewrite.prefix
    elif rewrite.prefix is not None:
        _replace_prefix(action, path, rewrite.prefix)
    elif rewrite.regex is not None:
        action.regex_rewrite.pattern.regex = rewrite.regex
        action.regex_rewrite.substitution = rewrite.substitution or ""
    if rewrite.host is not None:
        action.host_rewrite_literal = rewrite.host
        action.append_x_forwarded_host = True


def _mirror(policy: Any, mirror: Mirror) -> None:
    policy.cluster = mirror.service
    share = policy.runtime_fraction.default_value
    share.numerator = round(mirror.percent * _PER_MILLION)
    share.denominator = percent_pb2.FractionalPercent.MILLION


def _edit(route: Any, way: str, edit: HeaderEdit | None) -> None:
    if edit is None:
        return
    options = getattr(route, f"{way}_headers_to_add")
    for name in sorted(edit.set):
        _add_header(options, name, edit.set[name], "OVERWRITE_IF_EXISTS_OR_ADD")
    for name in sorted(edit.add):
        _add_header(options, name, edit.add[name], "APPEND_IF_EXISTS_OR_ADD")
    getattr(route, f"{way}_headers_to_remove").extend(sorted(set(edit.remove)))


def _add_header(options: Any, name: str, value: str, action: str) -> None:
    option = options.add(append_action=action, keep_empty_value=True)
    option.header.key = name
    # Envoy reads % as the start of a command; the inventory means what it says.
    option.header.value = value.replace("%", "%%")
