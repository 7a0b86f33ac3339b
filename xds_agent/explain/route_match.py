"""Which virtual host and route of a RouteConfiguration a request meets, by Envoy's rules.

Small and honest: what is not judged here (random fractions, metadata, filter state) raises NotJudged
instead of guessing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any

from envoy.config.route.v3 import route_components_pb2
from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import SchemaError

_TLS_ALL = route_components_pb2.VirtualHost.ALL
_TLS_EXTERNAL = route_components_pb2.VirtualHost.EXTERNAL_ONLY


class NotJudged(Exception):
    """The configuration uses something this matcher does not know; its words name it."""


def virtual_host(config: Any, host: str) -> tuple[Any, str] | None:
    """(virtual host, its domain that matched) or None. Exact, then '*.x', 'x.*', '*'; longest first."""
    suffixes: list[tuple[int, Any, str]] = []
    prefixes: list[tuple[int, Any, str]] = []
    catch_all: tuple[Any, str] | None = None
    for candidate in config.virtual_hosts:
        for domain in candidate.domains:
            pattern = domain.lower()
            if pattern == "*":
                catch_all = (candidate, domain)
            elif pattern == host:
                return candidate, domain
            elif pattern.startswith("*") and host.endswith(pattern[1:]) and len(host) > len(pattern) - 1:
                suffixes.append((len(pattern), candidate, domain))
            elif pattern.endswith("*") and host.startswith(pattern[:-1]) and len(host) > len(pattern) - 1:
                prefixes.append((len(pattern), candidate, domain))
    for found in (suffixes, prefixes):
        if found:
            _, candidate, domain = max(found, key=lambda one: one[0])
            return candidate, domain
    return catch_all


def redirected_to_tls(candidate: Any, *, tls: bool) -> bool:
    """True when the virtual host itself sends plain requests to HTTPS."""
    return not tls and candidate.require_tls in (_TLS_ALL, _TLS_EXTERNAL)


def first_route(candidate: Any, path: str, headers: Mapping[str, str], *, client_certificate: bool) -> Any:
    """The first route of the virtual host that takes the request, or None."""
    if candidate.HasField("matcher"):
        raise NotJudged(f"virtual host {candidate.name} chooses routes by a generic matcher")
    for route in candidate.routes:
        if _takes(route.match, path, headers, client_certificate=client_certificate):
            return route
    return None


def _takes(match: Any, path: str, headers: Mapping[str, str], *, client_certificate: bool) -> bool:
    return (
        _path(match, path)
        and all(_header(one, headers) for one in match.headers)
        and all(_query(one, path) for one in match.query_parameters)
        and (not match.HasField("grpc") or headers.get("content-type", "").startswith("application/grpc"))
        and _tls(match, client_certificate)
        and _fraction(match)
        and not _unknown(match)
    )


def _path(match: Any, whole: str) -> bool:
    path = whole.partition("?")[0].partition("#")[0]
    kind = match.WhichOneof("path_specifier")
    folded = match.HasField("case_sensitive") and not match.case_sensitive.value
    if folded and kind != "safe_regex":
        path = path.lower()
    if kind in ("prefix", "path", "path_separated_prefix"):
        wanted = getattr(match, kind).lower() if folded else getattr(match, kind)
        if kind == "path":
            return bool(path == wanted)
        if not path.startswith(wanted):
            return False
        return kind == "prefix" or len(path) == len(wanted) or path[len(wanted)] == "/"
    if kind == "safe_regex":
        return matches_regex(match.safe_regex.regex, path)
    if kind == "connect_matcher":
        return False
    raise NotJudged(f"routes by {kind}")


def _header(match: Any, headers: Mapping[str, str]) -> bool:
    value = headers.get(match.name.lower())
    kind = match.WhichOneof("header_match_specifier")
    if kind == "present_match" or kind is None:
        wanted = match.present_match if kind else True
        found = value is not None
        return bool((found == wanted) != match.invert_match)
    if value is None:
        # Envoy: a missing header matches nothing, not even inverted, unless it is to count as empty.
        if not match.treat_missing_header_as_empty:
            return False
        value = ""
    return bool(_specified(match, kind, value) != match.invert_match)


def _specified(match: Any, kind: str, value: str) -> bool:
    if kind == "string_match":
        return string_matches(match.string_match, value)
    if kind == "exact_match":
        return bool(value == match.exact_match)
    if kind == "prefix_match":
        return bool(value.startswith(match.prefix_match))
    if kind == "suffix_match":
        return bool(value.endswith(match.suffix_match))
    if kind == "contains_match":
        return bool(match.contains_match in value)
    if kind == "safe_regex_match":
        return matches_regex(match.safe_regex_match.regex, value)
    if kind == "range_match":
        return value.lstrip("-").isdigit() and match.range_match.start <= int(value) < match.range_match.end
    raise NotJudged(f"header {match.name} by {kind}")


def string_matches(matcher: Any, value: str) -> bool:
    """envoy.type.matcher.v3.StringMatcher."""
    kind = matcher.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return matches_regex(matcher.safe_regex.regex, value)
    if kind not in ("exact", "prefix", "suffix", "contains"):
        raise NotJudged(f"a text by {kind}")
    wanted = getattr(matcher, kind)
    if matcher.ignore_case:
        wanted, value = wanted.lower(), value.lower()
    if kind == "exact":
        return bool(value == wanted)
    if kind == "prefix":
        return value.startswith(wanted)
    return value.endswith(wanted) if kind == "suffix" else wanted in value


def _query(match: Any, whole: str) -> bool:
    pairs = [pair.partition("=") for pair in whole.partition("?")[2].partition("#")[0].split("&") if pair]
    value = next((found for name, _, found in pairs if name == match.name), None)
    kind = match.WhichOneof("query_parameter_match_specifier")
    if kind == "string_match":
        return value is not None and string_matches(match.string_match, value)
    return (value is not None) == (match.present_match if kind else True)


def _tls(match: Any, client_certificate: bool) -> bool:
    if not match.HasField("tls_context"):
        return True
    for field in ("presented", "validated"):
        if (
            match.tls_context.HasField(field)
            and getattr(match.tls_context, field).value != client_certificate
        ):
            return False
    return True


def _fraction(match: Any) -> bool:
    if not match.HasField("runtime_fraction"):
        return True
    share = match.runtime_fraction.default_value
    whole = (100, 10_000, 1_000_000)[share.denominator]
    if 0 < share.numerator < whole:
        raise NotJudged("a random share of requests")
    return bool(share.numerator)


def _unknown(match: Any) -> bool:
    for field in ("dynamic_metadata", "filter_state", "cookies"):
        if field in match.DESCRIPTOR.fields_by_name and len(getattr(match, field)):
            raise NotJudged(f"routes by {field}")
    return False


@lru_cache(maxsize=1024)
def _expression(regex: str) -> TypeAdapter[str]:
    # pydantic's engine is Rust's regex crate: RE2's syntax and linear time, so that no expression of an
    # inventory can hold up control as Python's backtracking would.
    constraint = StringConstraints(pattern=rf"\A(?:{regex})\z")
    return TypeAdapter(Annotated[str, constraint], config=ConfigDict(regex_engine="rust-regex"))


def matches_regex(regex: str, value: str) -> bool:
    """RE2, over the whole value."""
    try:
        _expression(regex).validate_python(value)
    except SchemaError as error:
        raise NotJudged(f"the expression {regex!r}") from error
    except ValidationError:
        return False
    return True
