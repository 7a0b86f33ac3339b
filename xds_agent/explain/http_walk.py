"""The HTTP part of an explanation: from a chain's connection manager to a route, and what the route does."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from envoy.config.core.v3 import protocol_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2

from xds_agent.explain.route_match import first_route, redirected_to_tls, virtual_host
from xds_agent.explain.target import Target
from xds_agent.snapshot.resource import ROUTES, Snapshot

_REDIRECT_STATUS = (301, 302, 303, 307, 308)
_ESCAPED_SLASH = re.compile(r"%2f|%5c", re.IGNORECASE)
_REJECT_HEADER = protocol_pb2.HttpProtocolOptions.REJECT_REQUEST
_REJECT = hcm_pb2.HttpConnectionManager.REJECT_REQUEST


def manager_of(chain: Any) -> Any:
    """The chain's HTTP connection manager, or None for a chain of another kind."""
    for one in chain.filters:
        if one.typed_config.type_url.endswith("HttpConnectionManager"):
            return hcm_pb2.HttpConnectionManager.FromString(one.typed_config.value)
    return None


def route_table(manager: Any, snapshot: Snapshot) -> Any:
    """The RouteConfiguration the manager uses, or None when it names one that the proxy does not hold."""
    if manager.HasField("route_config"):
        return manager.route_config
    resource = snapshot.of_type(ROUTES).get(manager.rds.route_config_name)
    return None if resource is None else route_pb2.RouteConfiguration.FromString(resource.body.value)


def rejected(manager: Any, target: Target) -> str:
    """Why the manager answers 400 before it looks at any route; empty where it does not."""
    action = manager.common_http_protocol_options.headers_with_underscores_action
    if action == _REJECT_HEADER and any("_" in name for name in target.headers):
        return "a header name holds an underscore"
    return "the path holds an escaped slash" if _escaped_slash(manager, target.path) else ""


def _escaped_slash(manager: Any, path: str) -> bool:
    return manager.path_with_escaped_slashes_action == _REJECT and bool(
        _ESCAPED_SLASH.search(path.partition("?")[0])
    )


def normal_path(manager: Any, path: str) -> str:
    """The path as routes see it: '.' and '..' resolved, slashes merged, as far as the manager is told to."""
    plain, mark, query = path.partition("?")
    if manager.HasField("normalize_path") and manager.normalize_path.value:
        plain = _resolved(plain)
    if manager.merge_slashes:
        plain = re.sub("/{2,}", "/", plain)
    return plain + mark + query


def _resolved(path: str) -> str:
    path = re.sub(r"%2e", ".", path, flags=re.IGNORECASE).replace("\\", "/")
    path = re.sub(r"%[0-9a-fA-F]{2}", _decoded, path)
    kept: list[str] = []
    segments = path.split("/")[1:]
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "..":
            kept = kept[:-1]
        if segment in (".", ".."):
            kept += [""] if last else []
            continue
        kept.append(segment)
    return "/" + "/".join(kept)


def _decoded(match: re.Match[str]) -> str:
    """Letters, digits and -._~ need no escape; everything else keeps its own."""
    one = unquote(match[0])
    return one if one.isascii() and (one.isalnum() or one in "-._~") else match[0]


def host_of(manager: Any, target: Target) -> str:
    """The host that virtual hosts are chosen by: without port where the manager strips it."""
    authority = target.headers[":authority"].lower()
    return target.host if manager.strip_any_host_port else authority


def chosen(table: Any, host: str, target: Target, path: str) -> tuple[Any, str, Any, bool] | None:
    """(virtual host, its domain, route or None, redirected to TLS by the host itself), None for no host."""
    found = virtual_host(table, host)
    if found is None:
        return None
    candidate, domain = found
    if redirected_to_tls(candidate, tls=target.tls):
        return candidate, domain, None, True
    headers = {**target.headers, ":path": path}
    route = first_route(candidate, path, headers, client_certificate=target.client_certificate)
    return candidate, domain, route, False


def location(redirect: Any, target: Target, path: str, matched: str) -> str:
    """The URL a redirect sends the client to."""
    scheme = "https" if redirect.https_redirect else redirect.scheme_redirect or target.headers[":scheme"]
    host = redirect.host_redirect or target.host
    plain, mark, query = path.partition("?")
    if redirect.path_redirect:
        plain, _, own = redirect.path_redirect.partition("?")
        mark, query = ("?", own) if own else (mark, query)
    elif redirect.prefix_rewrite:
        plain = redirect.prefix_rewrite + plain[len(matched) :]
    if redirect.strip_query:
        mark = query = ""
    port = f":{redirect.port_redirect}" if redirect.port_redirect else ""
    return f"{scheme}://{host}{port}{plain}{mark}{query}"


def redirect_status(redirect: Any) -> int:
    return _REDIRECT_STATUS[redirect.response_code]


def rewritten(action: Any, path: str, matched: str) -> str:
    """What the backend is asked for, where the route changes it; empty where it does not."""
    parts = []
    if action.prefix_rewrite:
        parts.append(f"path {action.prefix_rewrite + path[len(matched) :]}")
    elif action.HasField("regex_rewrite"):
        parts.append(f"path by {action.regex_rewrite.pattern.regex} -> {action.regex_rewrite.substitution}")
    if action.host_rewrite_literal:
        parts.append(f"host {action.host_rewrite_literal}")
    return ", ".join(parts)


def matched_text(route: Any) -> str:
    """What of the path the route matched, for rewrites of a prefix."""
    kind = route.match.WhichOneof("path_specifier")
    return getattr(route.match, kind) if kind in ("prefix", "path", "path_separated_prefix") else ""


def match_words(route: Any) -> str:
    """'/api', '= /robots.txt', '~ /v[0-9]+', with further conditions named."""
    kind = route.match.WhichOneof("path_specifier")
    signs: dict[str, Callable[[], str]] = {
        "prefix": lambda: route.match.prefix,
        "path_separated_prefix": lambda: route.match.path_separated_prefix,
        "path": lambda: f"= {route.match.path}",
        "safe_regex": lambda: f"~ {route.match.safe_regex.regex}",
    }
    more = [one.name for one in route.match.headers]
    return signs.get(kind, lambda: str(kind))() + (f" with {', '.join(more)}" if more else "")
