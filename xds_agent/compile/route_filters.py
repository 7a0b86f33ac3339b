"""What a route switches on in the HTTP filters that every chain has standing by.

The filters stand in every chain from the first day, because a filter added to a chain closes its connections;
a route configuration changes without anybody noticing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from envoy.config.rbac.v3 import rbac_pb2 as policies_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.type.v3 import percent_pb2

from xds_agent.compile.encoding import packed
from xds_agent.model import Cors, RateLimit, Service

CORS = "envoy.filters.http.cors"
RATE_LIMIT = "envoy.filters.http.local_ratelimit"
RBAC = "envoy.filters.http.rbac"
ROUTER = "envoy.filters.http.router"


@cache
def standing() -> tuple[tuple[str, Any], ...]:
    """(name, packed config) of the HTTP filters of every chain, in order; only the router acts alone."""
    return (
        (CORS, packed(cors_pb2.Cors())),
        (RATE_LIMIT, packed(local_rate_limit_pb2.LocalRateLimit(stat_prefix="rate_limit"))),
        (RBAC, packed(rbac_pb2.RBAC())),
        (ROUTER, packed(router_pb2.Router())),
    )


def of_service(route: Any, service: Service) -> None:
    """What a service asks of every route (or share of a route) that leads to it."""
    if service.rate_limit is not None:
        limit = _rate_limit(service.rate_limit)
        route.typed_per_filter_config[RATE_LIMIT].CopyFrom(limit)
    of_clients(route, [service.auth.type])


def of_clients(route: Any, kinds: Sequence[str]) -> None:
    """Who may use a route to services of these kinds of proof.

    Tokens are not read by this version: a service that asks for them answers 403 to all rather than
    serving those it should refuse.
    """
    if any(kind in ("jwt", "token") for kind in kinds):
        route.typed_per_filter_config[RBAC].CopyFrom(_nobody())
    elif "mtls" in kinds:
        client_certificate(route)


def client_certificate(route: Any) -> None:
    """Only clients with a certificate, which the handshake has verified; others get 403."""
    route.typed_per_filter_config[RBAC].CopyFrom(_authenticated())


def cors(route: Any, rules: Cors) -> None:
    """CORS of a route; the filter answers preflights itself."""
    policy = cors_pb2.CorsPolicy(
        allow_methods=",".join(rules.methods),
        allow_headers=",".join(rules.headers),
        expose_headers=",".join(rules.expose),
    )
    for origin in sorted(set(rules.origins)):
        matcher = policy.allow_origin_string_match.add()
        if origin == "*":
            matcher.safe_regex.regex = ".*"
        else:
            matcher.exact = origin
    if rules.max_age is not None:
        policy.max_age = str(int(rules.max_age.total_seconds()))
    policy.allow_credentials.value = rules.credentials
    route.typed_per_filter_config[CORS].CopyFrom(packed(policy))


@lru_cache(maxsize=1024)
def _rate_limit(limit: RateLimit) -> Any:
    config = local_rate_limit_pb2.LocalRateLimit(stat_prefix="rate_limit")
    config.token_bucket.max_tokens = limit.burst or limit.requests_per_second
    config.token_bucket.tokens_per_fill.value = limit.requests_per_second
    config.token_bucket.fill_interval.seconds = 1
    for switch in (config.filter_enabled, config.filter_enforced):
        switch.default_value.numerator = 100
        switch.default_value.denominator = percent_pb2.FractionalPercent.HUNDRED
    return packed(config)


@cache
def _authenticated() -> Any:
    policy = policies_pb2.Policy()
    policy.permissions.add(any=True)
    # Without a name `authenticated` takes every TLS client, even one without a certificate (tried with 1.40).
    policy.principals.add().authenticated.principal_name.safe_regex.regex = ".+"
    return _allow({"client-certificate": policy})


@cache
def _nobody() -> Any:
    return _allow({})


def _allow(policies: Mapping[str, Any]) -> Any:
    config = rbac_pb2.RBACPerRoute()
    config.rbac.rules.action = policies_pb2.RBAC.ALLOW
    for name, policy in policies.items():
        config.rbac.rules.policies[name].CopyFrom(policy)
    return packed(config)
