"""One mistake, one sentence: what every value that is well formed and means nothing is answered with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Put = Callable[[str, Any], dict[str, Any]]
Report = Callable[[dict[str, Any]], list[str]]

PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
S, R, D, C = "services[shop]", "routes[api]", "domains[shop~example~com]", "certificates[shop]"

MEANING = [
    (f"{S}.tenant", "retial", "services[shop].tenant: there is no tenant 'retial'; did you mean 'retail'?"),
    (
        f"{S}.domains",
        ["shop.exampel.com"],
        "services[shop].domains[0]: there is no domain 'shop.exampel.com'; did you mean 'shop.example.com'?",
    ),
    (
        f"{S}.domains",
        ["bank.example.com"],
        "services[shop].domains[0]: bank.example.com belongs to tenant bank, not retail; a domain and "
        "what it leads "
        "to belong to one tenant",
    ),
    (
        f"{D}.certificate",
        "shp",
        "domains[shop.example.com].certificate: there is no certificate 'shp'; did you mean 'shop'?",
    ),
    (
        f"{D}.client_auth",
        "required",
        "domains[shop.example.com].client_ca: is missing: client_auth is required; add client_ca: "
        "site-ca, or a name "
        "under authorities",
    ),
    (
        f"{D}.client_ca",
        "partners",
        "domains[shop.example.com].client_ca: has no meaning: client_auth is none; use client_auth: "
        "optional or "
        "required",
    ),
    (
        f"{C}.source",
        "pem",
        "certificates[shop].certificate: is missing: source is pem; add certificate, or use source: site-ca",
    ),
    (
        f"{C}.source",
        "acme",
        "certificates[shop].directory: is missing: source is acme; add directory: "
        "https://acme-v02.api.letsencrypt.org/directory",
    ),
    (
        f"{C}.certificate",
        PEM,
        "certificates[shop].certificate: has no meaning: source is site-ca; use source: pem, or remove "
        "certificate",
    ),
    (
        "authorities[partners].name",
        "site-ca",
        "authorities[site-ca].name: 'site-ca' is the site's own CA, which always exists; give the "
        "foreign authority "
        "another name",
    ),
    (
        f"{S}.endpoints[0].group",
        "backend",
        "services[shop].endpoints[0].group: there is no group with hosts 'backend'; did you mean 'backends'?",
    ),
    (
        f"{S}.endpoints[0].group",
        "unreachable",
        "services[shop].endpoints[0].group: host bare of group unreachable has no address; give host "
        "bare the "
        "variable ansible_host",
    ),
    (
        f"{S}.endpoints[0].cloud",
        "aws",
        "services[shop].endpoints[0].cloud: has no meaning with a group; remove it; each host of the "
        "group has its "
        "own cloud",
    ),
    (
        f"{S}.endpoints[0].address",
        "10.0.0.1",
        "services[shop].endpoints[0]: has both address and group; write one endpoint for each",
    ),
    (
        f"{S}.endpoints[0]",
        {"port": 1},
        "services[shop].endpoints[0]: has neither address nor group; add one of them",
    ),
    (f"{S}.endpoints", [], "services[shop].endpoints: is empty; add an address or a group"),
    (
        f"{S}.endpoints[0].weight",
        0,
        "services[shop].endpoints: every weight is 0, so nothing can be served; give one endpoint a weight",
    ),
    (
        f"{S}.steering",
        {"order": ["aws", "azure"]},
        "services[shop].steering.order[1]: service shop has no endpoint in azure; add one, or take azure "
        "out of the "
        "order (endpoints are in: aws, gcp)",
    ),
    (
        f"{S}.steering",
        {"order": ["aws", "gcp", "aws"]},
        "services[shop].steering.order[2]: 'aws' is there twice; remove one",
    ),
    (
        f"{S}.steering",
        {"mode": "active-passive"},
        "services[shop].steering.order: is missing: mode is active-passive; add order: [first, second], "
        "or use mode: "
        "active-active",
    ),
    (
        f"{S}.steering",
        {"weights": {"aws": 0, "gcp": 0}},
        "services[shop].steering.weights: every weight is 0; give one cloud a weight",
    ),
    (
        f"{S}.steering",
        {"capacity": {"azure": 5}},
        "services[shop].steering.capacity.azure: service shop has no endpoint in azure; add one, or take "
        "azure out of the capacity (endpoints are in: aws, gcp)",
    ),
    (
        f"{S}.steering",
        {"max_shift": 0},
        "services[shop].steering.max_shift: is 0, so nothing could ever move; write 25, or leave it out",
    ),
    (
        f"{S}.steering",
        {"latency_budget": "30ms"},
        "services[shop].steering.latency_budget: has no meaning: algorithm is weighted; use algorithm: cost, "
        "or remove it",
    ),
    (
        f"{S}.upstream_tls",
        {"ca": "partner", "sni": "x.example.com"},
        "services[shop].upstream_tls.ca: there is no authority 'partner'; did you mean 'partners'?",
    ),
    (
        f"{S}.upstream_tls",
        {"ca": "site-ca"},
        "services[shop].upstream_tls: says nothing about the backend's name; add sni (or names), so that "
        "not every "
        "certificate of the authority is accepted",
    ),
    (
        f"{S}.upstream_tls",
        {"sni": "x.example.com", "client_certificate": "edgy"},
        "services[shop].upstream_tls.client_certificate: there is no certificate 'edgy'; did you mean "
        "'edge'?",
    ),
    (
        f"{S}.retry_on",
        ["5xx"],
        "services[shop].retry_on: has no meaning: retries is 0; add retries: 2, or remove it",
    ),
    (
        f"{R}.per_try_timeout",
        "1s",
        "routes[api].per_try_timeout: has no meaning: retries is 0; add retries: 2, or remove it",
    ),
    (f"{S}.connect_timeout", "0s", "services[shop].connect_timeout: must be longer than 0; write 1s"),
    (
        f"{S}.health",
        {"type": "tcp", "path": "/x"},
        "services[shop].health.path: has no meaning: type is tcp; use type: http, or remove it",
    ),
    (
        f"{S}.health",
        {"type": "grpc"},
        "services[shop].health.type: a grpc check needs HTTP/2 to the backend; use protocol: grpc or "
        "upstream_http: "
        '"2", or type: http',
    ),
    (f"{S}.health", {"interval": "0s"}, "services[shop].health.interval: must be longer than 0; write 1s"),
    (
        f"{S}.auth",
        {"type": "jwt"},
        "services[shop].auth.issuer: is missing: type is jwt; add issuer: https://id.example.com",
    ),
    (
        f"{S}.auth",
        {"type": "none", "audiences": ["x"]},
        "services[shop].auth.audiences: has no meaning: type is none; use type: jwt, or remove it",
    ),
    (
        f"{S}.auth",
        {"type": "mtls"},
        "services[shop].auth.type: shop.example.com does not require a client certificate; give "
        "shop.example.com "
        "client_auth: required and a client_ca",
    ),
    (
        "services[echo].auth",
        {"type": "jwt", "issuer": "https://id.example.com"},
        "services[echo].auth.type: a tcp service has no requests that could carry a proof; use type: none",
    ),
    (
        f"{S}.listen",
        {"port": 8443},
        "services[shop].listen.port: 8443 is not a port on which http is "
        "served; remove "
        "listen, or use 443 (ports.https) or 8080 (ports.grpc)",
    ),
    (
        "services[echo].listen.port",
        443,
        "services[echo].listen.port: 443 is the proxies' own port (ports.https); choose another port, or "
        "move the "
        "proxies' own with ports.https",
    ),
    (
        "services[echo].listen.certificate",
        "shp",
        "services[echo].listen.certificate: there is no certificate 'shp'; did you mean 'shop'?",
    ),
    (
        "services[echo].listen",
        {"port": 7000, "sni": ["a.example.com"], "certificate": "shop"},
        "services[echo].listen.certificate: TLS that is passed through by sni is not opened; remove "
        "certificate, or sni",
    ),
    (
        f"{S}.listen",
        {"certificate": "shop"},
        "services[shop].listen.certificate: has no meaning: protocol is http; remove it; each domain has "
        "its own "
        "certificate",
    ),
    (
        "services[echo].domains",
        ["shop.example.com"],
        "services[echo].domains: has no meaning: protocol is tcp; use listen.sni",
    ),
    ("services[echo].retries", 1, "services[echo].retries: has no meaning: protocol is tcp; remove it"),
    (
        "ports",
        {"https": 80},
        "ports.https: 80 is also ports.http; choose another port for ports.https or ports.http",
    ),
    (
        f"{R}.split",
        {"shop": 95, "shop-v2": 4},
        "routes[api].split: adds up to 99 percent; make the shares add up to 100",
    ),
    (
        f"{R}.split",
        {"shop": 0, "shop-v2": 0},
        "routes[api].split: adds up to 0 percent; make the shares add up to 100",
    ),
    (
        f"{R}.split",
        {"shop": 95, "shop-v3": 5},
        "routes[api].split.shop-v3: there is no service 'shop-v3'; did you mean 'shop-v2'?",
    ),
    (
        f"{R}.split",
        {"shop": 95, "grpc": 5},
        "routes[api]: mixes grpc (grpc) and http (shop), served on different ports; write a route for each",
    ),
    (
        f"{R}.split",
        {"echo": 100},
        "routes[api].split.echo: service echo is tcp; a route leads to http, grpc or websocket services; "
        "reach it on "
        "its own port",
    ),
    (
        f"{R}.service",
        "shop",
        "routes[api]: has service and split; keep one of service, split, redirect, respond",
    ),
    (f"{R}.exact", "/x", "routes[api]: has prefix and exact; keep one of prefix, exact, regex"),
    (
        f"{R}.domains",
        ["shop.exampl.com"],
        "routes[api].domains[0]: there is no domain 'shop.exampl.com'; did you mean 'shop.example.com'?",
    ),
    (
        f"{R}.mirror",
        {"service": "shop-v4"},
        "routes[api].mirror.service: there is no service 'shop-v4'; did you mean 'shop-v2'?",
    ),
    (f"{R}.rewrite", {}, "routes[api].rewrite: changes nothing; add prefix, regex or host"),
    (
        f"{R}.rewrite",
        {"regex": "/a"},
        "routes[api].rewrite: regex and substitution belong together; add the other one",
    ),
    (
        f"{R}.rewrite",
        {"regex": "/(a)", "substitution": "/\\2"},
        "routes[api].rewrite.substitution: refers to group 2, but the expression has 1; add the group to the "
        "expression, with ( and )",
    ),
    (
        f"{R}.cors",
        {"origins": ["*"], "credentials": True},
        'routes[api].cors.origins: browsers refuse "*" together with credentials; name the origins',
    ),
    (
        f"{R}.client_certificate",
        "required",
        "routes[api].client_certificate: shop.example.com never asks for a client certificate; give "
        "shop.example.com "
        "client_auth: optional and a client_ca",
    ),
    (
        f"{R}.headers",
        [{"name": "x-a", "exact": "1", "prefix": "2"}],
        "routes[api].headers[x-a]: has prefix and exact; keep one of them",
    ),
    (
        f"{R}.prefix",
        "/",
        "routes[api].prefix: takes every request of shop.example.com, for which service shop answers; remove "
        "shop.example.com from the domains of service shop, or narrow the route",
    ),
    (
        "protection",
        {"deny": ["10.1.2.3/8"]},
        "protection.deny[0]: '10.1.2.3/8' has bits beyond its prefix: the network is 10.0.0.0/8; "
        "write it as 10.0.0.0/8",
    ),
    (
        "protection",
        {"deny": ["172.16.0.0/12"], "allow": ["172.16.0.0/12"]},
        "protection.deny[0]: 172.16.0.0/12 is also allowed; remove one of the two",
    ),
    (
        "mappings",
        [
            {
                "name": "m",
                "tenant": "retail",
                "sources": ["shpo"],
                "destinations": ["x.example.com"],
                "protocols": ["https"],
                "ports": [443],
            }
        ],
        "mappings[m].sources[0]: there is no service or network 'shpo'; did you mean 'shop'?",
    ),
    (
        "mappings",
        [{"name": "m", "sources": ["shop"], "destinations": ["x.example.com"], "protocols": ["tcp"]}],
        "mappings[m].ports: is missing; add the ports it may reach, for example [443]",
    ),
    (
        "maintenance",
        [{"host": "control2", "until": "2026-12-01T06:00Z", "reason": "x"}],
        "maintenance[0].host: there is no host 'control2'; did you mean 'control1'?",
    ),
    (
        "maintenance",
        [{"until": "2026-12-01T06:00Z", "reason": "x"}],
        "maintenance[0]: does not say what is out; add cloud, region, zone or host",
    ),
    (
        "rollout",
        {"waves": [1, "25%"]},
        "rollout.waves[1]: the last wave is 25%: some proxies never get the change; end the waves with "
        '"100%"',
    ),
    (
        "limits",
        {"headers_timeout": "0s"},
        "limits.headers_timeout: must be longer than 0: a silent client would hold it for ever; write 5s",
    ),
]

# These break something else too: a domain and its service apart.
_WITH_MORE = (f"{S}.tenant", f"{C}.source")


@pytest.mark.parametrize(
    ("path", "value", "expected"), MEANING, ids=[f"{p}={v!r}"[:60] for p, v, _ in MEANING]
)
def test_wrong_meaning(put: Put, report: Report, path: str, value: Any, expected: str) -> None:
    found = report(put(path, value))
    assert expected in found
    assert len(found) == 1 or path in _WITH_MORE
