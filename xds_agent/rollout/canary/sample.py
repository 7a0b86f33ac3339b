"""A harmless request that a rule takes: a path, a method and headers, or why there is none. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from xds_agent.model import HeaderMatch, Route
from xds_agent.rollout.canary.example import example_of

# An expression without any of these matches itself alone.
_SPECIAL = re.compile(r"[\\.^$|?*+()\[\]{}]")
_PATH = re.compile(r"/[^\s?#]*")
# A canary asks for one label below a wildcard, and for a gRPC method that nobody has.
LABEL = "marchproxy-canary"
METHOD = "MarchProxyCanary"
# What speaks of the connection, not of the request.
_NOT_OURS = frozenset({"host", "connection", "content-length", "transfer-encoding", "upgrade", "te"})


class Unaskable(ValueError):
    """No harmless request can be made of it; the words say why."""


class Sample(NamedTuple):
    path: str
    method: Literal["GET", "HEAD"]
    headers: tuple[tuple[str, str], ...] = ()


def of_rule(rule: Route, *, grpc: bool) -> Sample:
    """A request that the rule takes. Raises Unaskable."""
    if grpc and rule.exact is not None:
        raise Unaskable("one gRPC method, which a canary must not call")
    return Sample(_path(rule, grpc=grpc), _method(rule.methods, grpc=grpc), _headers(rule.headers))


def host_of(domain: str) -> str:
    """A name that falls under the domain."""
    return domain.replace("*", LABEL, 1) if domain.startswith("*.") else domain


def of_service(*, grpc: bool) -> Sample:
    """A request for what no rule takes."""
    return Sample(f"/marchproxy.Canary/{METHOD}" if grpc else "/", "GET")


def _path(rule: Route, *, grpc: bool) -> str:
    if rule.exact is not None:
        return rule.exact
    if rule.regex is not None:
        path = _literal(rule.regex, "paths by a regular expression")
        if not _PATH.fullmatch(path):
            raise Unaskable(
                f"paths by a regular expression of which no example can be derived ({rule.regex})"
            )
        return path
    prefix = rule.prefix or "/"
    return f"{prefix.rstrip('/')}/{METHOD}" if grpc else prefix


def _method(methods: Sequence[str], *, grpc: bool) -> Literal["GET", "HEAD"]:
    if grpc:
        if methods and "POST" not in methods:
            raise Unaskable("gRPC by another method than POST")
        return "GET"
    if not methods or "GET" in methods:
        return "GET"
    if "HEAD" in methods:
        return "HEAD"
    raise Unaskable(f"only {', '.join(sorted(methods))}, which may change something")


def _headers(conditions: Sequence[HeaderMatch]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for one in conditions:
        if one.negate:
            continue
        name = one.name.lower()
        if name in _NOT_OURS or name.startswith(":"):
            raise Unaskable(f"a condition on {name}")
        if one.regex is not None:
            value = _literal(one.regex, f"header {name} by a regular expression")
        else:
            value = one.exact if one.exact is not None else one.prefix or LABEL
        if found.setdefault(name, value) != value:
            raise Unaskable(f"several conditions on {name}")
    return tuple(sorted(found.items()))


def _literal(expression: str, what: str) -> str:
    """The expression itself where it matches that alone, else an example of what it matches."""
    if not _SPECIAL.search(expression):
        return expression
    found = example_of(expression)
    if found is None:
        raise Unaskable(f"{what} of which no example can be derived ({expression})")
    return found
