"""explain over a compiled site: what it says, which lines of the inventory it names, what it will not say."""

from __future__ import annotations

from typing import Any

import pytest

from xds_agent.compile import Compiler, KeyPair, Material
from xds_agent.explain.explanation import Explanation
from xds_agent.explain.request import BadUrl, UnknownProxy, explain
from xds_agent.model import load_site

DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "edge": {
        "tenants": [{"name": "retail"}],
        "certificates": [{"name": "shop"}],
        "domains": [{"name": "shop.example.com", "certificate": "shop", "tenant": "retail"}],
        "services": [
            {
                "name": "shop",
                "tenant": "retail",
                "domains": ["shop.example.com"],
                "endpoints": [
                    {"address": "10.2.0.1", "port": 80, "cloud": "gcp"},
                    {"address": "10.1.0.1", "port": 80, "cloud": "aws"},
                ],
                "steering": {"order": ["aws", "gcp"]},
            },
            {
                "name": "echo",
                "tenant": "retail",
                "protocol": "tcp",
                "listen": {"port": 7000},
                "endpoints": [{"address": "10.1.0.1", "port": 7000}],
            },
        ],
        "routes": [
            {
                "name": "api",
                "domains": ["shop.example.com"],
                "prefix": "/api",
                "service": "shop",
                "rewrite": {"prefix": "/v1"},
            },
            {
                "domains": ["shop.example.com"],
                "exact": "/old",
                "redirect": {"host": "s3cret.example.com"},
            },
        ],
    },
    "hosts": {
        "edge1": {"address": "10.0.0.1", "groups": ["ingress"]},
        "edge2": {"address": "10.0.0.2", "groups": ["ingress"]},
        "other": {"address": "10.0.0.3", "groups": ["ingress"], "tenants": ["default"]},
        "egress1": {"address": "10.0.0.4", "groups": ["egress"]},
    },
    "origins": {
        "edge.services[shop]": "edge/shop.yml:3:5",
        "edge.routes[api]": "edge/routes.yml:7:3",
        "edge.domains[shop.example.com]": "edge/domains.yml:2:3",
    },
    "secret_paths": ["edge.routes[1].redirect.host"],
}


@pytest.fixture(scope="module")
def ask() -> Any:
    site = load_site(DOCUMENT)
    compiled = Compiler().compile(site, Material({"shop": KeyPair(b"chain", b"key")}, {}))

    def call(url: str, **more: Any) -> list[Explanation]:
        return explain(site, compiled.snapshots(), url, origin_of=compiled.origin_of, **more)

    return call


def test_proxies_that_answer_alike_are_one_explanation(ask: Any) -> None:
    (alike,) = ask("https://shop.example.com/x")
    assert (alike.proxies, alike.verdict) == (("edge1", "edge2"), "forwarded")
    # A proxy of another tenant holds nothing of it, and so listens on nothing.
    (other,) = ask("https://shop.example.com/x", host="other")
    assert (other.proxies, other.verdict) == (("other",), "nothing")


def test_every_step_names_its_line(ask: Any) -> None:
    one = ask("https://shop.example.com/api/items", host="edge1")[0]
    steps = {step.kind: step for step in one.steps}
    assert (steps["route"].path, steps["route"].origin) == ("routes[api]", "edge/routes.yml:7:3")
    assert (steps["cluster"].path, steps["cluster"].origin) == ("services[shop]", "edge/shop.yml:3:5")
    assert steps["domain"].origin == "edge/domains.yml:2:3"
    assert one.sentence == "the request goes to shop, rewritten to path /v1/items, first to aws"


def test_endpoints_come_in_the_order_of_the_clouds(ask: Any) -> None:
    one = ask("https://shop.example.com/", host="edge1")[0]
    found = [(backend.address, backend.priority) for backend in one.backends]
    assert found == [("10.1.0.1:80", 0), ("10.2.0.1:80", 1)]


def test_a_tcp_service_is_reached_on_its_port(ask: Any) -> None:
    one = ask("tcp://edge1:7000", host="edge1")[0]
    assert (one.verdict, one.backends[0].address) == ("forwarded", "10.1.0.1:7000")
    nothing = ask("tcp://edge1:7001", host="edge1")[0]
    assert nothing.sentence == "nothing listens on TCP port 7001: the connection is refused"


@pytest.mark.parametrize(
    ("url", "more", "words"),
    [
        ("http://shop.example.com/a", {}, "301 to https://shop.example.com/a"),
        ("https://nobody.example.net/", {}, "421: nobody.example.net is no domain of the site"),
        ("https://shop.example.com/", {"sni": ""}, "421: the client asked for shop.example.com without"),
        ("https://shop.example.com/a%2fb", {}, "400: the path holds an escaped slash"),
        ("http://shop.example.com:443/", {}, "the port speaks TLS and the client does not"),
        ("https://shop.example.com:80/", {}, "the port speaks no TLS"),
    ],
)
def test_requests_that_reach_no_backend_are_told_why(ask: Any, url: str, more: Any, words: str) -> None:
    one = ask(url, host="edge1", **more)[0]
    assert one.sentence.startswith(words)
    assert one.backends == ()


def test_a_vault_value_is_not_shown(ask: Any) -> None:
    one = ask("https://shop.example.com/old", host="edge1")[0]
    assert one.verdict == "redirected"
    assert "s3cret" not in str(one.as_dict())


def test_a_proxy_that_listens_on_nothing_is_named_only_when_asked_for(ask: Any) -> None:
    everybody = ask("https://shop.example.com/")
    assert all("egress1" not in one.proxies for one in everybody)
    assert ask("https://shop.example.com/", host="egress1")[0].verdict == "nothing"


def test_strange_questions_are_refused_in_words(ask: Any) -> None:
    with pytest.raises(UnknownProxy, match="there are: edge1, edge2, egress1 and other"):
        ask("https://shop.example.com/", host="edge9")
    with pytest.raises(BadUrl, match="write one of"):
        ask("gopher://shop.example.com/")
