"""Envoy's matching rules, each as Envoy documents it."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.route.v3 import route_components_pb2 as routes_pb2
from envoy.config.route.v3 import route_pb2
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from xds_agent.explain.route_match import NotJudged, first_route, matches_regex, virtual_host


def _takes(match: dict[str, Any], path: str = "/", *, certificate: bool = False, **headers: str) -> bool:
    route = {"match": match, "direct_response": {"status": 200}}
    host = json_format.ParseDict({"name": "h", "domains": ["*"], "routes": [route]}, routes_pb2.VirtualHost())
    wire = {name.replace("_", "-"): value for name, value in headers.items()}
    return first_route(host, path, wire, client_certificate=certificate) is not None


@pytest.mark.parametrize(
    ("match", "path", "taken"),
    [
        ({"prefix": "/api"}, "/apix", True),
        ({"prefix": "/api"}, "/API", False),
        ({"prefix": "/api", "case_sensitive": False}, "/API", True),
        ({"path_separated_prefix": "/api"}, "/api", True),
        ({"path_separated_prefix": "/api"}, "/api/x", True),
        ({"path_separated_prefix": "/api"}, "/api?x=1", True),
        ({"path_separated_prefix": "/api"}, "/apix", False),
        ({"path": "/robots.txt"}, "/robots.txt?again", True),
        ({"path": "/robots.txt"}, "/robots.txt/", False),
        ({"safe_regex": {"regex": "/v[0-9]+"}}, "/v12", True),
        ({"safe_regex": {"regex": "/v[0-9]+"}}, "/v12/x", False),
        ({"safe_regex": {"regex": "/a|/b"}}, "/bx", False),
        ({"connect_matcher": {}}, "/", False),
    ],
)
def test_paths(match: dict[str, Any], path: str, taken: bool) -> None:
    assert _takes(match, path) is taken


@pytest.mark.parametrize(
    ("header", "value", "taken"),
    [
        ({"string_match": {"exact": "yes"}}, "yes", True),
        ({"string_match": {"exact": "yes"}}, None, False),
        ({"string_match": {"exact": "yes"}, "invert_match": True}, "no", True),
        # Envoy: a rule about a header that is not there is ignored, so it matches nothing, inverted or not.
        ({"string_match": {"exact": "yes"}, "invert_match": True}, None, False),
        (
            {
                "string_match": {"exact": "yes"},
                "invert_match": True,
                "treat_missing_header_as_empty": True,
            },
            None,
            True,
        ),
        ({"present_match": True}, "", True),
        ({"present_match": True}, None, False),
        ({"present_match": True, "invert_match": True}, None, True),
        ({"string_match": {"prefix": "V", "ignore_case": True}}, "v2", True),
        ({"string_match": {"safe_regex": {"regex": "v[0-9]"}}}, "v2x", False),
        ({"string_match": {"contains": "2"}}, "v2", True),
        ({"range_match": {"start": 1, "end": 3}}, "3", False),
    ],
)
def test_headers(header: dict[str, Any], value: str | None, taken: bool) -> None:
    headers = {} if value is None else {"x_beta": value}
    assert _takes({"prefix": "/", "headers": [{"name": "x-beta", **header}]}, **headers) is taken


def test_query_parameters_and_grpc_and_client_certificates() -> None:
    query = {"prefix": "/", "query_parameters": [{"name": "a", "string_match": {"exact": "1"}}]}
    assert _takes(query, "/?b=2&a=1")
    assert not _takes(query, "/?a=2")
    assert _takes({"prefix": "/", "grpc": {}}, content_type="application/grpc+proto")
    assert not _takes({"prefix": "/", "grpc": {}})
    assert _takes({"prefix": "/", "tls_context": {"presented": True}}, certificate=True)
    assert not _takes({"prefix": "/", "tls_context": {"presented": True}})


def test_a_random_share_is_not_guessed() -> None:
    share = {"default_value": {"numerator": 5, "denominator": "HUNDRED"}}
    with pytest.raises(NotJudged, match="random share"):
        _takes({"prefix": "/", "runtime_fraction": share})


def test_routes_are_tried_in_their_order() -> None:
    host = routes_pb2.VirtualHost(name="h")
    for name, prefix in (("first", "/a"), ("second", "/a/b")):
        host.routes.add(name=name).match.prefix = prefix
    assert first_route(host, "/a/b", {}, client_certificate=False).name == "first"


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("shop.example.com", "shop.example.com"),
        ("x.example.com", "*.example.com"),
        ("x.eu.example.com", "*.eu.example.com"),
        ("example.com", "example.*"),
        ("example.org", "example.*"),
        ("nobody.net", "*"),
    ],
)
def test_virtual_hosts_exact_before_suffix_before_prefix_before_all(host: str, domain: str) -> None:
    table = route_pb2.RouteConfiguration()
    for name in ("*", "example.*", "*.example.com", "*.eu.example.com", "shop.example.com"):
        table.virtual_hosts.add(name=name, domains=[name])
    found = virtual_host(table, host)
    assert found is not None
    assert found[1] == domain


def test_no_virtual_host_is_none() -> None:
    table = route_pb2.RouteConfiguration()
    table.virtual_hosts.add(name="a", domains=["a.example.com"])
    assert virtual_host(table, "b.example.com") is None


def test_an_expression_that_would_hold_up_python_does_not_hold_up_us() -> None:
    assert not matches_regex("(a+)+b", "a" * 5000)


@given(st.text(alphabet="ab./", max_size=12))
def test_an_expression_matches_the_whole_path_or_nothing(path: str) -> None:
    assert matches_regex("a*", path) == (path == "a" * len(path))
