"""A loaded site: what it knows about hosts, endpoints, ports, origins, and what it does not act on."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.site_inventory import ROOT
from xds_agent.model import Edge, Service, load_site


def test_endpoints_of_groups_and_addresses(document: dict[str, Any]) -> None:
    site = load_site(document)
    by_name = site.edge.service_by_name
    assert [tuple(e) for e in site.endpoints_of(by_name["shop"])] == [
        ("10.0.1.31", 8080, "aws", "", "us-east-1a", 1, False, "backend1"),
        ("b2.example.com", 8080, "gcp", "", "", 1, True, "backend2"),
    ]
    assert [tuple(e) for e in site.endpoints_of(by_name["shop-v2"])] == [
        ("10.9.9.9", 80, "azure", "", "", 1, False, "")
    ]


def test_hosts_have_roles_and_tenants(document: dict[str, Any]) -> None:
    site = load_site(document)
    assert site.hosts["edge1"].roles == {"ingress", "l4"}
    assert [host.name for host in site.hosts_of_role("ingress")] == ["edge1", "edge2"]
    assert site.tenants_of(site.hosts["edge1"]) == {"default", "retail", "bank"}
    assert site.tenants_of(site.hosts["edge2"]) == {"retail"}


def test_ports_and_protocols(document: dict[str, Any]) -> None:
    document["edge"]["ports"] = {"https": 8443, "grpc": 9443}
    edge = load_site(document).edge
    by_name = edge.service_by_name
    assert {name: edge.listen_port(service) for name, service in by_name.items()} == {
        "shop": 8443,
        "shop-v2": 8443,
        "echo": 7000,
        "grpc": 9443,
    }
    assert [name for name, service in by_name.items() if service.is_http] == ["shop", "shop-v2", "grpc"]
    assert by_name["grpc"].upstream_http2
    assert not by_name["shop"].upstream_http2


@pytest.mark.parametrize(
    ("protocol", "given_timeout", "seconds"),
    [("http", None, 15), ("grpc", None, 0), ("websocket", None, 0), ("grpc", "7s", 7), ("http", "0s", 0)],
)
def test_long_lived_protocols_have_no_timeout_unless_asked(
    protocol: str, given_timeout: str | None, seconds: int
) -> None:
    more = {} if given_timeout is None else {"timeout": given_timeout}
    service = Service.model_validate({"name": "x", "protocol": protocol, **more})
    assert service.request_timeout == timedelta(seconds=seconds)


def test_an_order_makes_clouds_stand_in_for_each_other(document: dict[str, Any]) -> None:
    steering = {"order": ["aws", "gcp"]}
    for mode, passive in ((None, True), ("active-passive", True), ("active-active", False)):
        document["edge"]["services"][0]["steering"] = {**steering, **({"mode": mode} if mode else {})}
        assert load_site(document).edge.services[0].steering.active_passive is passive


def test_origins_fall_back_to_what_contains_them(document: dict[str, Any]) -> None:
    document["origins"] = {
        "edge.services[shop]": "a.yml:3:5",
        "edge.services[shop].endpoints[0]": "a.yml:7:5",
        "edge.domains[shop.example.com]": "b.yml:1:1",
        "hosts.edge1.cloud": "hosts.yml:4:2",
    }
    site = load_site(document)
    assert site.origin("services[shop].endpoints[0].port") == "a.yml:7:5"
    assert site.origin("services[shop].endpoints[1].port") == "a.yml:3:5"
    assert site.origin("domains[shop.example.com].certificate") == "b.yml:1:1"
    assert site.origin("hosts.edge1.cloud") == "hosts.yml:4:2"
    assert site.origin("services[other]") is None


def test_what_this_version_does_not_act_on_is_said(document: dict[str, Any]) -> None:
    edge = document["edge"]
    edge["services"][0].update(
        {"qos": "P1", "bandwidth": {"egress": "1gbit"}, "steering": {"algorithm": "latency", "hold": "1m"}}
    )
    edge["services"].append(
        {
            "name": "ping",
            "protocol": "icmp",
            "listen": {"address": "vip"},
            "endpoints": [{"group": "backends", "port": 1}],
        }
    )
    edge["services"][2]["rate_limit"] = {"requests_per_second": 5}
    document["hosts"]["edge1"] |= {"vip": "203.0.114.1", "interfaces": ["eth0"]}
    edge["clouds"] = {"aws": {}}
    edge["maintenance"] = [{"cloud": "aws", "until": "2026-12-01T06:00Z", "reason": "x"}]
    edge["rollout"] = {}
    edge["tenants"][0]["logging"] = {}
    edge["mappings"] = [
        {"name": "m", "sources": ["shop"], "destinations": ["10.0.0.0/8"], "protocols": ["tcp"], "ports": [1]}
    ]
    site = load_site(document)
    assert [note.path for note in site.not_acted_on] == [
        "tenants[retail].logging",
        "services[shop].qos",
        "services[shop].bandwidth",
        "services[echo].rate_limit",
        "mappings[m]",
    ]
    assert all("does not act on it" in note.render() for note in site.not_acted_on)


def test_what_cannot_be_checked_is_refused_and_said(document: dict[str, Any]) -> None:
    document["edge"]["services"][0]["auth"] = {"type": "jwt", "issuer": "https://id.example.com"}
    [note] = load_site(document).not_acted_on
    assert note.render() == (
        "services[shop].auth.type: this version cannot check authentication by jwt, so it answers every "
        "request of "
        "shop with 403"
    )


def test_a_site_is_frozen(document: dict[str, Any]) -> None:
    service = load_site(document).edge.services[0]
    with pytest.raises(ValueError, match="frozen"):
        service.name = "other"  # type: ignore[misc]


def _shuffled(value: Any, order: Any) -> Any:
    """The same mapping with its keys in another order."""
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: _shuffled(value[key], order) for key in keys}
    if isinstance(value, list):
        return [_shuffled(item, order) for item in value]
    return value


@given(order=st.randoms(use_true_random=False))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_the_order_of_keys_means_nothing(document: dict[str, Any], order: Any) -> None:
    before = copy.deepcopy(document)
    one, other = load_site(document), load_site(_shuffled(document, order))
    assert one.edge == other.edge
    assert one.edge.model_dump_json() == other.edge.model_dump_json()
    assert dict(one.hosts) == dict(other.hosts)
    assert document == before


def test_loading_is_the_same_under_every_hash_seed(document: dict[str, Any]) -> None:
    document["edge"]["services"][0]["tenant"] = "retial"
    document["edge"]["services"][1]["domains"] = ["shop.example.com"]
    document["edge"]["protection"] = {"deny": ["172.16.0.0/12"], "allow": ["172.16.0.0/12"]}
    program = (
        "import json, sys\nfrom xds_agent.model import ModelError, load_site\n"
        "try: load_site(json.load(sys.stdin))\nexcept ModelError as error: print(error)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(document),
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1
    assert "retial" in outputs.pop()


def test_an_empty_edge_is_right() -> None:
    site = load_site({"schema": 1, "edge": {}, "hosts": {}})
    assert site.edge == Edge()
    assert site.not_acted_on == ()
