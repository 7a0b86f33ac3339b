"""The words of typical edits, and whom they are said to reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from xds_agent.explain.changes import NOTHING, Changes, Line, describe
from xds_agent.snapshot.resource import Snapshot

BOTH = ("edge-aws1", "edge-aws2")
Edit = Callable[[dict[str, Any]], Any]


def _split(d: dict[str, Any]) -> None:
    d["edge"]["routes"][0] = {
        "name": "api",
        "domains": ["shop.example.com"],
        "prefix": "/api",
        "split": {"shop": 95, "shop-v2": 5},
    }


def _backend_in_gcp(d: dict[str, Any]) -> None:
    one = {"address": "10.1.0.12", "port": 8080, "cloud": "gcp", "region": "europe-west1"}
    d["edge"]["services"][0]["endpoints"].append(one)


def _new_service(d: dict[str, Any]) -> None:
    one = {"name": "echo", "protocol": "tcp", "listen": {"port": 7000}}
    d["edge"]["services"].append({**one, "endpoints": [{"group": "backends", "port": 7000}]})


def _two_domains(d: dict[str, Any]) -> None:
    d["edge"]["domains"].append({"name": "www.example.com", "certificate": "shop"})
    d["edge"]["routes"][0]["domains"].append("www.example.com")


EDITS: dict[str, tuple[Edit, list[str]]] = {
    "split": (_split, ["route /api of shop.example.com now goes 95 % shop, 5 % shop-v2 (was 100 % shop)"]),
    "endpoint": (_backend_in_gcp, ["shop gains endpoint 10.1.0.12:8080 in gcp europe-west1"]),
    "backend host": (
        lambda d: d["hosts"]["backend1"].update(address="10.0.1.2"),
        [
            "shop loses endpoint 10.0.1.1:8080 in aws us-east-1",
            "shop gains endpoint 10.0.1.2:8080 in aws us-east-1",
            "host backend1: address 10.0.1.1 -> 10.0.1.2",
        ],
    ),
    "weight": (
        lambda d: d["edge"]["services"][1]["endpoints"][0].update(weight=3),
        ["shop-v2: endpoint 10.0.1.9:8090 weight 1 -> 3"],
    ),
    "health": (
        lambda d: d["edge"]["services"][0].update(health={"path": "/healthz", "interval": "1s"}),
        ["shop is now checked for health: http /healthz every 1s"],
    ),
    "timeout": (lambda d: d["edge"]["services"][0].update(timeout="3s"), ["shop: timeout 15s -> 3s"]),
    "timeout of a route": (
        lambda d: d["edge"]["routes"][0].update(timeout="3s"),
        ["route /api of shop.example.com: timeout set to 3s"],
    ),
    "client certificate": (
        lambda d: d["edge"]["domains"][0].update(client_auth="required", client_ca="site-ca"),
        ["domain shop.example.com now requires a client certificate of site-ca (was none asked for)"],
    ),
    "tls": (
        lambda d: d["edge"]["domains"][0].update(tls_minimum="1.3"),
        ["domain shop.example.com now takes TLS 1.3 and newer (was 1.2)"],
    ),
    "tcp service": (
        _new_service,
        ["new service echo: tcp on port 7000, 1 endpoint in aws, served by Envoy's tcp_proxy"],
    ),
    "removed route": (
        lambda d: d["edge"]["routes"].clear(),
        ["route /api of shop.example.com is removed (went 100 % shop)"],
    ),
    "redirect": (
        lambda d: d["edge"]["routes"].append(
            {
                "domains": ["shop.example.com"],
                "exact": "/old",
                "redirect": {"host": "www.example.com", "status": 308},
            }
        ),
        ["route = /old of shop.example.com is new and goes to a redirect 308 (host www.example.com)"],
    ),
    "new domain": (
        _two_domains,
        [
            "route /api of www.example.com is new and goes 100 % shop",
            "new domain www.example.com: certificate shop, client certificate none asked for",
        ],
    ),
    "port": (
        lambda d: d["edge"].update(ports={"https": 8443}),
        ["the proxies' own port https 443 -> 8443"],
    ),
    "limit": (
        lambda d: d["edge"].update(limits={"buffer": "64KiB"}),
        ["each proxy's limit buffer 32KiB -> 64KiB"],
    ),
    "certificate": (
        lambda d: d["edge"]["certificates"][0].update(key_type="rsa-2048"),
        ["certificate shop: key_type ecdsa-p384 -> rsa-2048"],
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_words_of(name: str, edited: Any, snapshots: Any) -> None:
    edit, expected = EDITS[name]
    changes = describe(edited(lambda d: None), edited(edit), snapshots("1"), snapshots("2"))
    assert [line.text for line in changes.lines] == expected
    reached = {line.text: line.proxies for line in changes.lines}
    assert reached[expected[0]] == BOTH


def test_the_summary_counts_services_proxies_and_connections(edited: Any, snapshots: Any) -> None:
    changes = describe(edited(lambda d: None), edited(_split), snapshots("1"), snapshots("2"))
    assert changes.summary == "2 services, 2 proxies, 0 connections closed"


def test_nothing_is_said_when_nothing_changes(edited: Any, snapshots: Any) -> None:
    site = edited(lambda d: None)
    assert describe(site, edited(lambda d: None), snapshots("1"), snapshots("1")) == Changes((), (), NOTHING)


def test_the_first_revision_names_every_proxy_and_service(edited: Any, snapshots: Any) -> None:
    changes = describe(None, edited(lambda d: None), None, snapshots("1"))
    assert changes.lines[0] == Line(
        BOTH, "new proxy, gets 0 listeners, 0 route tables, 1 cluster and 0 secrets"
    )
    assert Line(BOTH, "new service shop: http on shop.example.com, 1 endpoint in aws") in changes.lines
    assert changes.summary == "2 services, 2 proxies, 0 connections closed"


def test_a_new_proxy_is_told_apart_from_those_that_stay(edited: Any, snapshots: Any) -> None:
    def join(d: dict[str, Any]) -> None:
        d["hosts"]["edge-gcp2"] = {"address": "10.2.0.1", "groups": ["gcp", "ingress"], "cloud": "gcp"}

    new = snapshots("1", *BOTH, "edge-gcp2")
    changes = describe(edited(lambda d: None), edited(join), snapshots("1"), new)
    assert changes.lines == (
        Line(("edge-gcp2",), "new proxy, gets 0 listeners, 0 route tables, 1 cluster and 0 secrets"),
    )
    back = describe(edited(join), edited(lambda d: None), new, snapshots("1"))
    assert [line.proxies for line in back.lines] == [("edge-gcp2",)]
    assert "leaves the site" in back.lines[0].text


def test_a_proxy_of_another_tenant_is_not_named(edited: Any, snapshots: Any) -> None:
    def tenants(d: dict[str, Any]) -> None:
        d["edge"]["tenants"] = [{"name": "retail"}, {"name": "bank"}]
        d["edge"]["services"][1]["tenant"] = "bank"
        d["hosts"]["edge-aws1"]["tenants"] = ["retail", "default"]
        d["hosts"]["edge-aws2"]["tenants"] = ["bank", "default"]

    def faster(d: dict[str, Any]) -> None:
        tenants(d)
        d["edge"]["services"][1]["timeout"] = "3s"

    # Both change bytes, as both would with a shared listener: the words still know whose service it is.
    one = [{"domains": ["shop.example.com"], "prefix": "/api", "service": "shop"}]

    def with_route(edit: Edit) -> Edit:
        return lambda d: (d["edge"].update(routes=one), edit(d))

    changes = describe(
        edited(with_route(tenants)), edited(with_route(faster)), snapshots("1"), snapshots("2")
    )
    assert Line(("edge-aws2",), "shop-v2: timeout 15s -> 3s") in changes.lines


def test_bytes_that_change_without_a_word_are_said_as_such(edited: Any, snapshots: Any) -> None:
    site = edited(lambda d: None)
    changes = describe(site, site, snapshots("1"), snapshots("2"))
    assert [line.proxies for line in changes.lines] == [BOTH]
    assert changes.lines[0].text.startswith("cluster shop: made anew by the newer compiler")
    assert changes.summary == "0 services, 2 proxies, 0 connections closed"


def test_what_this_version_does_not_act_on_reaches_no_proxy(edited: Any, snapshots: Any) -> None:
    new = edited(lambda d: d["edge"]["services"][0].update(qos="P1"))
    changes = describe(edited(lambda d: None), new, snapshots("1"), snapshots("1"))
    assert changes.lines == (Line((), "shop: qos P2 -> P1 (this version does not act on it yet)"),)
    assert changes.summary == "0 services, 0 proxies, 0 connections closed"


def test_moving_a_service_in_its_file_is_said_and_reaches_no_proxy(edited: Any, snapshots: Any) -> None:
    new = edited(lambda d: d["edge"]["services"].reverse())
    changes = describe(edited(lambda d: None), new, snapshots("1"), snapshots("1"))
    assert [line.proxies for line in changes.lines] == [()]
    assert "another order" in changes.lines[0].text


def test_a_hundred_endpoints_are_one_line(edited: Any, snapshots: Any) -> None:
    def many(d: dict[str, Any]) -> None:
        more = [{"address": f"10.9.0.{n}", "port": 80, "cloud": "aws"} for n in range(100)]
        d["edge"]["services"][0]["endpoints"] += more

    changes = describe(edited(lambda d: None), edited(many), snapshots("1"), snapshots("2"))
    assert len(changes.lines) == 1
    assert changes.lines[0].text.startswith("shop gains 100 endpoints 10.9.0.0:80, ")
    assert changes.lines[0].text.endswith("and 92 more in aws")


def test_no_secret_reaches_a_line(edited: Any, snapshots: Any) -> None:
    planted = "s3cret-in-a-header"

    def token(value: str) -> Edit:
        def edit(d: dict[str, Any]) -> None:
            d["edge"]["routes"][0]["request_headers"] = {"set": {"authorization": value}}
            auth = {"type": "token", "tokens": {"partner": value}}
            d["edge"]["services"][0]["auth"] = auth
            d["secret_paths"] = ["edge.routes[api].request_headers.set.authorization"]

        return edit

    old, new = edited(token(planted)), edited(token(planted + "-2"))
    texts = [line.text for line in describe(old, new, snapshots("1"), snapshots("2")).lines]
    assert any("authorization" in text for text in texts)
    assert any("auth.tokens.partner" in text for text in texts)
    assert not any(planted in text for text in texts)


def test_equal_snapshots_of_many_hosts_are_compared_once(edited: Any, snapshots: Any) -> None:
    hosts = tuple(f"edge{n}" for n in range(500))
    old: dict[str, Snapshot] = snapshots("1", *hosts)
    changes = describe(edited(lambda d: None), edited(_split), old, snapshots("2", *hosts))
    assert changes.summary.startswith("2 services, 500 proxies")
