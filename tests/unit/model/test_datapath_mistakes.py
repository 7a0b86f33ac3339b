"""What no datapath could do, or nobody could mean: each with its place and its fix, one problem each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from xds_agent.model import load_site

Document = dict[str, Any]
Report = Callable[[Document], list[str]]
ENDPOINT = {"address": "10.0.9.1", "port": 5000, "cloud": "aws"}


def _service(**more: Any) -> dict[str, Any]:
    one = {"name": "db", "tenant": "retail", "protocol": "tcp", "listen": {"address": "vip", "port": 5000}}
    return {**one, "endpoints": [ENDPOINT], **more}


SERVICES: list[tuple[dict[str, Any], str]] = [
    (
        _service(listen={"address": "vip", "port": 22}),
        "services[db].listen.port: 22 is the way into the hosts (SSH); choose another port",
    ),
    (
        _service(listen={"address": "vip", "port": 8082}),
        "services[db].listen.port: 8082 is the proxies' own port (ports.agent_metrics); choose "
        "another port, or "
        "move the proxies' own with ports.agent_metrics",
    ),
    (
        _service(listen={"address": "vip", "port": 20000}),
        "services[db].listen.port: 20000 is among the ports of nat (20000 to 32767); choose a port "
        "below 20000",
    ),
    (
        _service(tier="l4", bandwidth={"egress": "1mbit"}),
        "services[db].bandwidth: needs a proxy (what XDP sends passes no queue that could shape "
        "it), and tier "
        "is l4; remove bandwidth, or tier",
    ),
    (
        _service(forward="gue", endpoints=[{**ENDPOINT, "port": 5001}]),
        "services[db].endpoints[0].port: gue keeps port 5000, the backend listens on 5001; use the "
        "same port, "
        "or forward: nat",
    ),
    (
        _service(forward="dsr", endpoints=[{**ENDPOINT, "cloud": "gcp"}]),
        "services[db].forward: dsr works on one link only, and 10.0.9.1 is in gcp; use forward: "
        "nat, or keep it "
        "to the backends of one link",
    ),
    (
        _service(tenant="bank"),
        "services[db].listen.address: no host with a datapath carries tenant bank; give a host of "
        "group l4 that "
        "carries its tenant the variable xdp_interfaces",
    ),
    (
        _service(protocol="icmp", listen={"address": "edge"}),
        "services[db].listen.address: icmp answers for a vip, never for the hosts themselves; write listen: "
        "{address: vip}",
    ),
    (
        _service(listen={"address": "vip", "port": 7000}, tier="l7"),
        "services[db].listen.port: service echo listens on 7000 already; choose another port, or "
        "give each of "
        "them listen.sni",
    ),
]


@pytest.fixture
def site(document: Document) -> Document:
    """edge1 has a datapath and a vip, and does not carry the tenant bank."""
    document["hosts"]["edge1"] |= {"interfaces": ["eth0"], "vip": "203.0.114.1", "tenants": ["retail"]}
    return document


@pytest.mark.parametrize(("service", "expected"), SERVICES, ids=[words[:60] for _, words in SERVICES])
def test_a_service_that_cannot_be(
    site: Document, report: Report, service: dict[str, Any], expected: str
) -> None:
    site["edge"]["services"].append(service)
    assert report(site) == [expected]


def test_a_vip_is_one_hosts_own_or_that_of_a_regions_balancer(site: Document, report: Report) -> None:
    edge1 = site["hosts"]["edge1"]
    site["hosts"]["twin"] = edge1 | {"address": "10.0.9.9", "private_address": "10.0.9.9"}
    edge1 |= {"cloud": "gcp", "region": "us-central1"}
    site["hosts"]["twin"] |= {"cloud": "gcp", "region": "us-central1"}
    assert report(site) == []
    # Without a datapath, Envoy answers for the balancer's address.
    site["hosts"]["twin"]["interfaces"] = []
    assert report(site) == []
    site["hosts"]["twin"] |= {"interfaces": ["eth0"], "region": "us-east4"}
    assert report(site) == [
        "hosts.twin.vip: 203.0.114.1 is the vip of edge1 already; each host has a vip of its own, unless it "
        "shares a load balancer with hosts of its region"
    ]


def test_what_is_balanced_has_one_interface(site: Document, report: Report) -> None:
    """XDP sends by the interface a packet came by: a backend behind another one would get nothing."""
    site["hosts"]["edge1"]["interfaces"] = ["eth0", "eth1"]
    site["edge"]["services"].append(_service())
    assert report(site) == [
        "services[db].listen: clients and backends share one interface, and xdp_interfaces of edge1 names "
        "eth0, eth1; name the one of both, or write tier: l7"
    ]
    site["edge"]["services"][-1] = _service(tier="l7")
    assert report(site) == []


def test_keys_of_xdp_without_a_part_in_what_envoy_serves_are_said(site: Document) -> None:
    site["edge"]["services"].append(
        _service(tier="l7", forward="gue", when_no_real="pass", packet_limit={"packets_per_second": 9})
    )
    notes = [f"{one.path}: {one.message}" for one in load_site(site).not_acted_on if "[db]" in one.path]
    assert notes == [
        f"services[db].{key}: {key} of a service of Envoy's tcp_proxy (tier: l7 asks for it): it is checked "
        "and kept, but this version does not act on it"
        for key in ("forward", "when_no_real")
    ]


def test_nat_has_no_choice_by_addresses(site: Document, report: Report) -> None:
    site["edge"]["services"].append(_service(hash_by="addresses"))
    assert report(site) == [
        "services[db].hash_by: nat translates ports, so it chooses by them; write forward: gue or dsr, or "
        "remove hash_by; fragments of nat services follow their first one"
    ]
    site["edge"]["services"][-1] = _service(hash_by="addresses", forward="gue")
    assert report(site) == []


def test_the_vip_is_apart_from_what_envoy_listens_on(site: Document, report: Report) -> None:
    site["edge"]["services"].append(_service(listen={"address": "vip", "port": 7000}))
    assert report(site) == []
    del site["hosts"]["edge1"]["vip"]
    assert report(site) == [
        "services[db].listen.port: service echo listens on 7000 already; choose another port, or "
        "give each of "
        "them listen.sni"
    ]


def test_one_vip_answers_pings_once(site: Document, report: Report) -> None:
    ping = _service(protocol="icmp", listen={"address": "vip"})
    site["edge"]["services"] += [{**ping, "name": "ping"}, {**ping, "name": "pong"}]
    assert report(site) == [
        "services[pong].listen: service ping answers pings of the vip already; keep one of them: pings have "
        "no ports"
    ]


def test_tenants_meet_on_hosts_without_envoy_too(site: Document, report: Report) -> None:
    """A host of group l4 alone serves what is XDP's for both of them, on one vip."""
    l4only = {"groups": ["l4"], "interfaces": ["eth0"], "vip": "203.0.114.9", "tenants": ["retail", "bank"]}
    site["hosts"]["l4only"] = l4only
    site["hosts"]["edge1"]["tenants"] = ["retail"]
    site["edge"]["services"] += [_service(), _service(name="ledger", tenant="bank")]
    for host in site["hosts"].values():
        if "ingress" in host.get("groups", []):
            host["tenants"] = ["retail"]
    assert [line for line in report(site) if "ledger" in line] == [
        "services[ledger].listen.port: service db listens on 5000 already; choose another port, or give each "
        "of them listen.sni"
    ]


@pytest.mark.parametrize(
    ("protection", "expected"),
    [
        (
            {"deny": ["192.0.2.0/24", "10.0.0.0/8"]},
            "protection.deny[1]: 10.0.0.0/8 contains host control1 (10.0.0.10); take it out; if it is meant, "
            "name 10.0.0.0/8 under protection.deny_anyway too",
        ),
        (
            {"deny": ["10.9.0.0/16"]},
            "protection.deny[0]: 10.9.0.0/16 contains a backend of shop-v2 (10.9.9.9); take it out; if it is "
            "meant, name 10.9.0.0/16 under protection.deny_anyway too",
        ),
        (
            {"deny": ["192.0.2.0/24"], "operators": ["192.0.2.8/29"]},
            "protection.deny[0]: 192.0.2.0/24 contains operators' network 192.0.2.8/29; take it out; "
            "if it is "
            "meant, name 192.0.2.0/24 under protection.deny_anyway too",
        ),
        (
            {"deny": ["192.0.2.9/32"], "operators": ["192.0.2.8/29"]},
            "protection.deny[0]: 192.0.2.9/32 lies within operators' network 192.0.2.8/29; take it out; "
            "if it is meant, name 192.0.2.9/32 under protection.deny_anyway too",
        ),
        (
            {"operators": ["10.1.2.3/8"]},
            "protection.operators[0]: '10.1.2.3/8' has bits beyond its prefix: the network is 10.0.0.0/8; "
            "write it as 10.0.0.0/8",
        ),
        (
            {"deny": ["169.254.0.0/16", "169.254.169.254/32"]},
            "protection.deny[1]: 169.254.169.254/32 is among health probes and metadata of a cloud in use "
            "(169.254.169.254/32); take it out; if it is meant, name 169.254.169.254/32 under "
            "protection.deny_anyway too",
        ),
        (
            {"deny_anyway": ["192.0.2.0/24"]},
            "protection.deny_anyway[0]: 192.0.2.0/24 is not denied; remove it, or write it under deny too",
        ),
    ],
)
def test_nobody_is_shut_out_by_mistake(
    site: Document, report: Report, protection: dict[str, Any], expected: str
) -> None:
    site["edge"]["protection"] = protection
    assert report(site) == [expected]


@pytest.mark.parametrize(
    ("cloud", "deny", "expected"),
    [
        (
            "gcp", "35.191.7.0/24",
            "35.191.7.0/24 is among health probes and metadata of a cloud in use (35.191.0.0/16)",
        ),
        ("gcp", "35.0.0.0/8", ""),
        ("aws", "168.63.129.16/32", ""),
        ("aws", "10.77.0.9/32", "10.77.0.9/32 contains host edge1 (10.77.0.9)"),
    ],
)  # fmt: skip
def test_probes_of_the_clouds_in_use_and_private_addresses_count_too(
    site: Document, report: Report, cloud: str, deny: str, expected: str
) -> None:
    """A wider denial leaves probes exempt: the longest prefix decides."""
    site["hosts"]["edge1"] |= {"cloud": cloud, "private_address": "10.77.0.9"}
    site["edge"]["protection"] = {"deny": [deny]}
    assert [line.split(": ")[1].split(";")[0] for line in report(site)] == ([expected] if expected else [])


def test_what_is_meant_is_taken(site: Document, report: Report) -> None:
    site["edge"]["protection"] = {"deny": ["10.0.0.0/8"], "deny_anyway": ["10.0.0.0/8"]}
    assert report(site) == []


def test_protection_without_a_datapath_is_said(document: Document) -> None:
    document["edge"]["protection"] = {"deny": ["192.0.2.0/24"]}
    [note] = load_site(document).not_acted_on
    assert "no host has a datapath" in note.render()
