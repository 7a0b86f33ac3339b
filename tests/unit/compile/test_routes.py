"""Order of rules, and what a rule says to Envoy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from envoy.config.route.v3 import route_pb2
from hypothesis import given
from hypothesis import strategies as st

from xds_agent.compile import Compiled, CompileError
from xds_agent.compile.routes import ordered, rule_route
from xds_agent.model import Route, Service
from xds_agent.snapshot.resource import ROUTES, Resource

RULES: list[dict[str, Any]] = [
    {"prefix": "/late", "priority": 1},
    {"exact": "/api/items"},
    {"exact": "/api"},
    {"regex": "/api/.*"},
    {"prefix": "/api/items"},
    {"prefix": "/api", "methods": ["GET"], "headers": [{"name": "x", "exact": "1"}]},
    {"prefix": "/api", "methods": ["GET"]},
    {"prefix": "/api"},
    {"prefix": "/"},
]


def _rule(**fields: Any) -> Route:
    return Route.model_validate({"domains": ["a.example.com"], "respond": {"status": 200}, **fields})


def _route(rule: Route, *services: dict[str, Any]) -> Any:
    made = [Service.model_validate(one) for one in services]
    return rule_route(rule, {one.name: one for one in made})


@given(st.permutations(RULES))
def test_rules_have_one_order_whatever_the_order_of_files(rules: Sequence[dict[str, Any]]) -> None:
    expected = [_rule(**one) for one in RULES]
    assert ordered([_rule(**one) for one in rules]) == expected


def test_a_prefix_ends_at_a_slash() -> None:
    assert _route(_rule(prefix="/api")).match.path_separated_prefix == "/api"
    assert _route(_rule(prefix="/api/")).match.prefix == "/api/"
    assert _route(_rule(prefix="/")).match.prefix == "/"


@pytest.mark.parametrize(
    ("path", "to", "pattern", "prefix"),
    [
        ("/api", "/", "^/api/?", ""),
        ("/api", "/v2", "", "/v2"),
        ("/api/", "/", "", "/"),
        ("/a.b", "/x/", r"^/a\.b/?", ""),
    ],
)
def test_replacing_a_prefix_never_doubles_a_slash(path: str, to: str, pattern: str, prefix: str) -> None:
    action = _route(
        _rule(prefix=path, respond=None, service="s", rewrite={"prefix": to}), {"name": "s"}
    ).route
    assert action.regex_rewrite.pattern.regex == pattern
    assert action.prefix_rewrite == prefix


def test_a_rule_lends_what_it_does_not_say_from_the_larger_share() -> None:
    rule = _rule(prefix="/", respond=None, split={"big": 90, "small": 10}, retries=5)
    big = {"name": "big", "timeout": "7s", "idle_timeout": "9s", "retries": 1, "per_try_timeout": "2s"}
    action = _route(rule, big, {"name": "small", "timeout": "1s"}).route
    assert {one.name: one.weight.value for one in action.weighted_clusters.clusters} == {
        "big": 90,
        "small": 10,
    }
    assert action.timeout.seconds == 7
    assert action.idle_timeout.seconds == 9
    assert action.retry_policy.num_retries.value == 5
    assert action.retry_policy.per_try_timeout.seconds == 2


def test_headers_mean_what_the_inventory_says() -> None:
    route = _route(_rule(prefix="/", request_headers={"set": {"x-share": "100%"}, "add": {"via": "edge"}}))
    found = [(o.header.key, o.header.value, o.append_action) for o in route.request_headers_to_add]
    assert found == [("x-share", "100%%", 2), ("via", "edge", 0)]


def test_a_route_may_not_lead_past_a_service_that_wants_certificates(
    edge: dict[str, Any], compiled: Callable[..., Compiled]
) -> None:
    edge["services"][1]["auth"] = {"type": "mtls"}
    edge["domains"][1].update(client_auth="required", client_ca="site-ca")
    edge["routes"] = [{"domains": ["a.example.com"], "prefix": "/b", "service": "b"}]
    with pytest.raises(CompileError) as caught:
        compiled(edge)
    assert [one.path for one in caught.value.problems] == ["services[b].auth"]
    assert "a.example.com, which leads to it, asks for none" in str(caught.value)


def test_no_other_host_is_served_under_a_policy(
    edge: dict[str, Any], compiled: Callable[..., Compiled]
) -> None:
    edge["domains"][1].update(client_auth="required", client_ca="site-ca")
    routes = compiled(edge).snapshots()["red1"].of_type(ROUTES)
    assert _hosts(routes["https/web/none"]) == {"a.example.com": 0, "*": 421}
    assert _hosts(routes["https/web/required/site-ca"]) == {"b.example.com": 0, "*": 421}
    assert _hosts(routes["https/default"]) == {"*": 421}


def _hosts(resource: Resource) -> dict[str, int]:
    """Domain -> status of its fixed answer; 0 where it leads to a service."""
    message = route_pb2.RouteConfiguration.FromString(resource.body.value)
    assert message.validate_clusters.value
    assert message.name == resource.name
    return {d: host.routes[0].direct_response.status for host in message.virtual_hosts for d in host.domains}
