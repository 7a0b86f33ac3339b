"""One mistake, one sentence: what every single wrong value is answered with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Put = Callable[[str, Any], dict[str, Any]]
Report = Callable[[dict[str, Any]], list[str]]

PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
S, R, D, C = "services[shop]", "routes[api]", "domains[shop~example~com]", "certificates[shop]"

FORM = [
    (f"{S}.endpoints[0].port", 0, "services[shop].endpoints[0].port: 0 is not a port (1 to 65535)"),
    (
        f"{S}.endpoints[0].port",
        "8080",
        "services[shop].endpoints[0].port: '8080' is text, not a whole number; write it without quotes: 8080 "
        "(in a template: {{ ... | int }})",
    ),
    (
        f"{S}.endpoints[0].port",
        True,
        "services[shop].endpoints[0].port: True is true or false, not a whole number",
    ),
    (
        f"{S}.endpoints[0].port",
        80.5,
        "services[shop].endpoints[0].port: 80.5 is a number, not a whole number",
    ),
    (f"{S}.healt", {}, "services[shop].healt: unknown key 'healt'; did you mean 'health'?"),
    (
        f"{S}.endpoints[0].adress",
        "x",
        "services[shop].endpoints[0].adress: unknown key 'adress'; did you mean 'address'?",
    ),
    (
        "protection.zzz",
        1,
        "protection.zzz: unknown key 'zzz'; known keys: allow, deny, deny_anyway, flow_log, monitor, "
        "operators, per_source, ssh_packets_per_second, syn_cookies_above",
    ),
    (
        f"{S}.endpoints[0]",
        {"group": "backends"},
        "services[shop].endpoints[0].port: is missing; add it, for example port: 8080",
    ),
    (f"{S}.name", 5, "services[0].name: 5 is a number, not text; write it in quotes: '5'"),
    (
        f"{S}.domains",
        "shop.example.com",
        "services[shop].domains: 'shop.example.com' is text, not a list; write it as a list: [...]",
    ),
    (f"{S}.steering", [], "services[shop].steering: [] is a list, not a mapping"),
    (
        f"{S}.protocol",
        "htttp",
        "services[shop].protocol: 'htttp' is not one of http, grpc, websocket, "
        "tcp, udp, icmp; "
        "did you mean 'http'?",
    ),
    (
        f"{S}.upstream_http",
        2,
        "services[shop].upstream_http: 2 is not one of 1.1, 2; write it in quotes: '2'",
    ),
    (
        f"{S}.timeout",
        30,
        "services[shop].timeout: 30 is not a duration: it has no unit; write 30s for seconds or 30ms",
    ),
    (
        f"{S}.timeout",
        "soon",
        "services[shop].timeout: soon is not a duration; write a number with ms, s, m, h or d, for "
        "example 250ms, "
        "5s or 1h30m",
    ),
    (
        f"{S}.bandwidth",
        {"egress": "100"},
        "services[shop].bandwidth.egress: 100 is not a bit rate; write a number with bit, kbit, mbit or gbit "
        "(per second), for example 200mbit",
    ),
    (
        "limits.heap",
        "2GB",
        "limits.heap: 2GB is not a size; write a number with B, KiB, MiB or GiB, for example 512MiB",
    ),
    (
        f"{S}.endpoints[0]",
        {"address": "https://x.example.com", "port": 1},
        "services[shop].endpoints[0].address: 'https://x.example.com' is not an address; write an IPv4 "
        "or IPv6 address "
        "(no port, no brackets) or a DNS name",
    ),
    (
        f"{S}.endpoints[0]",
        {"address": "300.1.1.1", "port": 1},
        "services[shop].endpoints[0].address: '300.1.1.1' is not an address; write an IPv4 or IPv6 "
        "address (no port, "
        "no brackets) or a DNS name",
    ),
    (
        f"{S}.endpoints[0]",
        {"address": "10.0.0.1:80", "port": 1},
        "services[shop].endpoints[0].address: '10.0.0.1:80' is not an address; write an IPv4 or IPv6 "
        "address (no port, "
        "no brackets) or a DNS name",
    ),
    (
        f"{S}.endpoints[0]",
        {"address": "abc::1::2", "port": 1},
        "services[shop].endpoints[0].address: 'abc::1::2' is not an address; write the address alone; "
        "the port has a "
        "key of its own",
    ),
    (
        f"{S}.endpoints[0].weight",
        -1,
        "services[shop].endpoints[0].weight: -1 is out of range; use at least 0",
    ),
    (f"{S}.retries", 11, "services[shop].retries: 11 is out of range; use at most 10"),
    (
        f"{R}.prefix",
        "api",
        "routes[api].prefix: 'api' is not a path; begin with / and leave out spaces, ? and #",
    ),
    (
        "tenants[retail].name",
        "Retail Team",
        "tenants[Retail Team].name: 'Retail Team' is not a name; use lower-case letters, digits, '.', "
        "'-' and '_', "
        "at most 63, beginning and ending with a letter or digit",
    ),
    (
        f"{R}.headers",
        [{"name": "x-a", "exact": True}],
        "routes[api].headers[x-a].exact: True is true or false, not text; write it in quotes: YAML takes "
        "yes, no, on, "
        "off, true and false for truth values",
    ),
    (f"{R}.domains", [], "routes[api].domains: is empty; give at least one"),
    (
        "authorities[partners].certificate",
        "nope",
        "authorities[partners].certificate: 'nope' is not a certificate in PEM; give the text that "
        "begins with "
        "-----BEGIN CERTIFICATE-----",
    ),
    (
        "maintenance",
        [{"cloud": "aws", "until": "2026-12-01 06:00", "reason": "x"}],
        "maintenance[0].until: '2026-12-01 06:00' is not a time with a time zone; write it as "
        '"2026-12-01T06:00Z"',
    ),
    (
        "rollout.waves",
        ["half", "100%"],
        "rollout.waves[0]: half is not a wave; write how many proxies of each role and cloud (1) or a "
        "share of all of "
        'them ("25%")',
    ),
    ("services", {"shop": {}}, "services: {'shop': {}} is a mapping, not a list; write it as a list: [...]"),
]

# This breaks something else too: a tenant without its name.
_WITH_MORE = ("tenants[retail].name",)


@pytest.mark.parametrize(("path", "value", "expected"), FORM, ids=[f"{p}={v!r}"[:60] for p, v, _ in FORM])
def test_wrong_form(put: Put, report: Report, path: str, value: Any, expected: str) -> None:
    found = report(put(path, value))
    assert expected in found
    assert len(found) == 1 or path in _WITH_MORE


def test_the_site_these_tests_start_from_is_right(document: dict[str, Any], report: Report) -> None:
    assert report(document) == []
