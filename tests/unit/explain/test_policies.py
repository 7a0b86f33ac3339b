"""What RBAC of a route refuses, over the very filters our compiler writes."""

from __future__ import annotations

import pytest
from envoy.config.route.v3 import route_components_pb2

from xds_agent.compile import route_filters
from xds_agent.explain.policies import refusal


def test_a_route_that_requires_a_certificate_refuses_clients_without_one() -> None:
    route = route_components_pb2.Route()
    route_filters.client_certificate(route)
    assert refusal(route, certificate=False) == "it asks for a client certificate and there is none"
    assert refusal(route, certificate=True) == ""


@pytest.mark.parametrize("certificate", [False, True])
def test_a_rule_without_policies_lets_nobody_in(certificate: bool) -> None:
    route = route_components_pb2.Route()
    route.typed_per_filter_config[route_filters.RBAC].CopyFrom(route_filters._nobody())
    assert refusal(route, certificate=certificate).startswith("it lets nobody in")


def test_a_route_without_rules_takes_what_its_host_says() -> None:
    host = route_components_pb2.VirtualHost()
    route_filters.client_certificate(host)
    route = route_components_pb2.Route()
    assert refusal(route, host, certificate=False)
    assert refusal(route, certificate=False) == ""
