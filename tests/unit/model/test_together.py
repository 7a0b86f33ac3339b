"""Mistakes that take two: shared ports, shared domains, overlapping names, and everything at once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from xds_agent.model import ModelError, load_site

Report = Callable[[dict[str, Any]], list[str]]


def _tcp(name: str, port: int, tenant: str = "retail", **more: Any) -> dict[str, Any]:
    listen = {"port": port, **more.pop("listen", {})}
    return {
        "name": name,
        "tenant": tenant,
        "protocol": "tcp",
        "listen": listen,
        "endpoints": [{"group": "backends", "port": 1}],
        **more,
    }


def test_two_services_on_one_port_clash(document: dict[str, Any], report: Report) -> None:
    document["edge"]["services"].append(_tcp("other", 7000))
    assert report(document) == [
        "services[other].listen.port: service echo listens on 7000 already; choose another port, or give "
        "each of "
        "them listen.sni"
    ]


def test_tls_names_tell_services_on_one_port_apart(document: dict[str, Any], report: Report) -> None:
    services = document["edge"]["services"]
    services.append(_tcp("a", 7443, listen={"sni": ["a.example.com"]}))
    services.append(_tcp("b", 7443, listen={"sni": ["b.example.com"]}))
    assert report(document) == []
    services.append(_tcp("c", 7443, listen={"sni": ["c.example.com", "b.example.com"]}))
    assert report(document) == [
        "services[c].listen.sni: service b has b.example.com on this port already; use each name once"
    ]


def test_tcp_and_udp_ports_are_not_the_same(document: dict[str, Any], report: Report) -> None:
    document["edge"]["services"].append(_tcp("dns", 7000, protocol="udp"))
    document["edge"]["services"].append(_tcp("quic", 443, protocol="udp"))
    assert report(document) == []


def test_tenants_that_never_meet_may_use_one_port(document: dict[str, Any], report: Report) -> None:
    document["edge"]["services"].append(_tcp("other", 7000, tenant="bank"))
    assert len(report(document)) == 1
    document["hosts"]["edge1"]["tenants"] = ["bank"]
    assert report(document) == []


def test_moving_the_proxies_own_port_frees_it(document: dict[str, Any], report: Report) -> None:
    document["edge"]["services"].append(_tcp("web", 8080))
    assert len(report(document)) == 1
    document["edge"]["ports"] = {"grpc": 8081}
    assert report(document) == []


def test_one_domain_two_services(document: dict[str, Any], report: Report) -> None:
    document["edge"]["services"][1]["domains"] = ["shop.example.com"]
    assert report(document) == [
        "services[shop-v2].domains[0]: service shop answers for shop.example.com on port 443 already; "
        "leave it with "
        "one of them and send paths to the other by a route"
    ]
    # gRPC is on a port of its own.
    document["edge"]["services"][1]["domains"] = []
    document["edge"]["services"][3]["domains"] = ["shop.example.com"]
    assert report(document) == []


def test_a_wildcard_of_another_tenant(document: dict[str, Any], report: Report) -> None:
    domains = document["edge"]["domains"]
    domains.append({"name": "*.example.com", "tenant": "retail", "certificate": "shop"})
    assert report(document) == [
        "domains[bank.example.com]: lies within *.example.com of tenant retail, but belongs to tenant "
        "bank; give both "
        "the same tenant, or use another name"
    ]
    domains[1]["tenant"] = "retail"
    assert report(document) == []


def test_case_of_names_is_shown_but_not_compared(document: dict[str, Any], report: Report) -> None:
    document["edge"]["services"][0]["domains"] = ["Shop.Example.COM"]
    document["edge"]["domains"][0].update({"name": "SHOP.example.com"})
    assert report(document) == []
    document["edge"]["domains"][0]["certificate"] = "shp"
    document["origins"] = {"edge.domains[SHOP.example.com]": "a.yml:3:1"}
    assert report(document) == [
        "domains[SHOP.example.com].certificate: there is no certificate 'shp'; did you mean 'shop'?; a.yml:3"
    ]


@pytest.mark.parametrize(
    "section", ["tenants", "certificates", "authorities", "domains", "services", "routes"]
)
def test_duplicates(document: dict[str, Any], report: Report, section: str) -> None:
    item = document["edge"][section][0]
    document["edge"][section].append(copy.deepcopy(item))
    expected = f"{section}[{item['name']}]: '{item['name']}' is there twice; rename or remove one"
    assert expected in report(document)


def test_two_routes_for_the_same_requests(document: dict[str, Any], report: Report) -> None:
    routes = document["edge"]["routes"]
    routes.append({"domains": ["shop.example.com"], "prefix": "/api", "service": "shop"})
    assert report(document) == [
        "routes[1].domains[0]: routes[api] takes the same requests of shop.example.com; remove one, or "
        "tell them apart "
        "by methods, headers or priority"
    ]
    for difference in ({"methods": ["GET"]}, {"headers": [{"name": "x-a"}]}, {"priority": 5}):
        routes[1] = {"domains": ["shop.example.com"], "prefix": "/api", "service": "shop", **difference}
        assert report(document) == []


def test_one_wrong_value_does_not_hide_the_others(document: dict[str, Any], report: Report) -> None:
    shop = document["edge"]["services"][0]
    shop.update({"tenant": "retial", "timeout": 5, "healt": {}, "retry_on": ["5xx"]})
    shop["endpoints"] = [{"address": "10.0.0.1", "port": 99999}, {"group": "nowhere", "port": 1}]
    document["edge"]["zones"] = []
    document["hosts"]["edge1"]["address"] = "x y"
    lines = report(document)
    for part in (
        "hosts.edge1.address: 'x y'",
        "zones: unknown key 'zones'",
        "services[shop].tenant: there is no tenant 'retial'",
        "services[shop].timeout: 5 is not a duration",
        "services[shop].healt: unknown key",
        "services[shop].endpoints[0].port: 99999",
        "services[shop].endpoints[1].group: there is no group with hosts 'nowhere'",
    ):
        assert sum(part in line for line in lines) == 1, (part, lines)


def test_what_only_lacks_because_something_is_wrong_is_not_reported(
    document: dict[str, Any], report: Report
) -> None:
    """The only endpoint of aws has a wrong port: the order still names aws, and that is no second mistake."""
    shop = document["edge"]["services"][0]
    shop["endpoints"] = [
        {"address": "10.0.0.1", "port": 99999, "cloud": "aws"},
        {"address": "10.0.0.2", "port": 80, "cloud": "gcp"},
    ]
    shop["steering"] = {"order": ["aws", "gcp"]}
    assert report(document) == ["services[shop].endpoints[0].port: 99999 is not a port (1 to 65535)"]


def test_problems_come_in_the_order_of_files(document: dict[str, Any]) -> None:
    document["edge"]["services"][0]["timeout"] = 5
    document["edge"]["services"][1]["timeout"] = 6
    document["edge"]["routes"][0]["timeout"] = 7
    document["origins"] = {
        "edge.services[shop]": "b.yml:9:1",
        "edge.services[shop-v2].timeout": "b.yml:5:1",
        "edge.routes[api]": "a.yml:100:1",
    }
    with pytest.raises(ModelError) as caught:
        load_site(document)
    assert [problem.origin for problem in caught.value.problems] == ["a.yml:100:1", "b.yml:5:1", "b.yml:9:1"]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([], "the site document is not a mapping"),
        ({}, "the site document has schema None, this version reads 1; install the same version on both "
        "sides"),
        (
            {"schema": 1},
            "the inventory says nothing about the edge; write edge.yml with `plugin: "
            "marchproxy.edge.edge` beside the "
            "hosts, and services below edge/",
        ),
        ({"schema": 1, "edge": {}, "hosts": []}, "hosts: is not a mapping of hosts; make the document "
        "with the "
         "inventory plugin"),
    ],
)  # fmt: skip
def test_a_document_that_is_none(report: Report, document: Any, expected: str) -> None:
    assert expected in report(document)


def test_thousands_of_mistakes_are_all_reported(document: dict[str, Any], report: Report) -> None:
    document["edge"]["services"] = [
        {"name": f"s{n}", "tenant": f"t{n}", "endpoints": [{"address": "10.0.0.1", "port": 0}]}
        for n in range(2000)
    ]
    document["edge"]["routes"] = []
    assert len(report(document)) == 4000


OFF = {"max_percent": 0}
CHECK = {"type": "tcp", "port": 9000}


@pytest.mark.parametrize(
    ("service", "steering", "more", "told"),
    [
        (0, {"order": ["aws", "gcp"]}, {}, False),
        (0, {"order": ["aws", "gcp"]}, {"ejection": OFF}, True),
        (0, {"order": ["aws", "gcp"]}, {"ejection": OFF, "health": {}}, False),
        (0, {"mode": "active-active", "order": ["aws", "gcp"]}, {"ejection": OFF}, False),
        (2, {"order": ["aws", "gcp"]}, {"ejection": OFF}, True),
        (2, {"order": ["aws", "gcp"]}, {"protocol": "udp"}, True),
        (2, {"order": ["aws", "gcp"]}, {"protocol": "udp", "health": CHECK}, False),
    ],
)
def test_failover_needs_something_that_tells_a_cloud_has_failed(
    document: dict[str, Any],
    report: Report,
    service: int,
    steering: dict[str, Any],
    more: dict[str, Any],
    told: bool,
) -> None:
    document["edge"]["services"][service].update(steering=steering, **more)
    found = [line for line in report(document) if "nothing would tell that a cloud has failed" in line]
    assert len(found) == told


def _made_by_a_stack(document: dict[str, Any], *opened: str, **ports: int) -> None:
    document["hosts"]["edge1"]["cloud_rules"] = {
        "site": "prod", "ports": {"https": 443, "xds": 18000, **ports}, "opened": list(opened)
    }  # fmt: skip


def test_own_ports_are_those_that_the_clouds_rules_are_made_for(
    document: dict[str, Any], report: Report
) -> None:
    """What is typed in the site file and in the inventory is compared: nobody would reach the proxies."""
    _made_by_a_stack(document, "tcp 443", "tcp 7000")
    assert report(document) == []
    document["edge"]["ports"] = {"https": 8443}
    assert report(document) == [
        "ports.https: is 8443, and pulumi/sites/prod.yaml makes the clouds' rules for 443; write "
        "ports: {https: 8443} in pulumi/sites/prod.yaml and run `pulumi up`, or https: 443 here"
    ]
    _made_by_a_stack(document, "tcp 8443", "tcp 7000", https=8443)
    assert report(document) == []


def test_a_port_that_no_rule_of_the_cloud_lets_in_is_said(document: dict[str, Any]) -> None:
    document["edge"]["services"].append(_tcp("dns", 9005, protocol="udp"))

    def notes() -> list[str]:
        return [note.message for note in load_site(document).not_acted_on if "lets nobody" in note.message]

    assert notes() == [], "hosts that no stack made may be behind anything"
    _made_by_a_stack(document, "tcp 443", "tcp 7000", "udp 9000-9010")
    assert notes() == []
    _made_by_a_stack(document, "tcp 443", "udp 7000", "tcp 9000-9010")
    assert [note.partition(":")[0] for note in notes()] == [
        "its cloud lets nobody reach tcp 7000, where service echo listens",
        "its cloud lets nobody reach udp 9005, where service dns listens",
    ]
    assert all("pulumi/sites/prod.yaml" in note for note in notes())
