"""Virtual hosts and the route configurations made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from envoy.config.route.v3 import route_components_pb2, route_pb2

from xds_agent.compile.encoding import length_delimited
from xds_agent.compile.routes import catch_all, ordered, rule_route
from xds_agent.model import Route, Service

MISDIRECTED = "misdirected"
"""Last virtual host of every chain: a Host that belongs to another TLS policy, or to nobody."""

_MISDIRECTED_STATUS = 421
_NOT_FOUND = 404
_ACME_PATH = "/.well-known/acme-challenge/"
_VIRTUAL_HOSTS = route_pb2.RouteConfiguration.DESCRIPTOR.fields_by_name["virtual_hosts"].number
_HTTPS = 443


def virtual_host(
    domain: str, owner: Service | None, rules: Sequence[Route], services: Mapping[str, Service]
) -> bytes:
    """A domain's virtual host as it stands inside a route configuration."""
    message = route_components_pb2.VirtualHost(name=domain, domains=[domain])
    for rule in ordered(rules):
        message.routes.add().CopyFrom(rule_route(rule, services))
    if owner is not None:
        message.routes.add().CopyFrom(catch_all(owner))
    return _frame(message)


def route_configuration(name: str, hosts: Iterable[bytes], *, misdirected: Iterable[str] = ()) -> bytes:
    """Encoded RouteConfiguration of a TLS chain, ending in 421 for every other Host.

    `hosts` are frames of `virtual_host`; joining them keeps an edit of one among 10,000 cheap. `misdirected`
    are names that a wildcard of this chain would take although they are declared for themselves.
    """
    last = route_components_pb2.VirtualHost(name=MISDIRECTED, domains=[*sorted(misdirected), "*"])
    route = last.routes.add(name=MISDIRECTED)
    route.match.prefix = "/"
    route.direct_response.status = _MISDIRECTED_STATUS
    return _configuration(name, [*hosts, _frame(last)])


def plain_configuration(
    name: str,
    domains: Iterable[str],
    challenges: Mapping[str, bytes],
    https_port: int,
    *,
    closed: Iterable[str] = (),
) -> bytes:
    """Encoded RouteConfiguration of plain HTTP: ACME answers first, then a redirect of `domains`, else 404.

    `closed` are names that a wildcard among `domains` would take although they are not to be redirected.
    """
    answers = [_challenge(token, challenges[token]) for token in sorted(challenges)]
    frames = []
    names = sorted(domains)
    if names:
        host = route_components_pb2.VirtualHost(name="redirect", domains=names, routes=answers)
        route = host.routes.add(name="redirect")
        route.match.prefix = "/"
        route.redirect.https_redirect = True
        if https_port != _HTTPS:
            route.redirect.port_redirect = https_port
        frames.append(_frame(host))
    host = route_components_pb2.VirtualHost(name="unknown", domains=[*sorted(closed), "*"], routes=answers)
    route = host.routes.add(name="unknown")
    route.match.prefix = "/"
    route.direct_response.status = _NOT_FOUND
    return _configuration(name, [*frames, _frame(host)])


def _challenge(token: str, answer: bytes) -> Any:
    route = route_components_pb2.Route(name=f"acme {token}")
    route.match.path = _ACME_PATH + token
    route.direct_response.status = 200
    route.direct_response.body.inline_bytes = answer
    header = route.response_headers_to_add.add(append_action="OVERWRITE_IF_EXISTS_OR_ADD").header
    header.key, header.value = "content-type", "text/plain"
    return route


def _frame(host: Any) -> bytes:
    return length_delimited(_VIRTUAL_HOSTS, host.SerializeToString(deterministic=True))


def _configuration(name: str, frames: Sequence[bytes]) -> bytes:
    """Fields in the order of their numbers, as a serializer would write them."""
    head = route_pb2.RouteConfiguration(name=name).SerializeToString(deterministic=True)
    tail = route_pb2.RouteConfiguration()
    # A route to a cluster that is not there would be acknowledged, and answer 503.
    tail.validate_clusters.value = True
    return b"".join((head, *frames, tail.SerializeToString(deterministic=True)))
