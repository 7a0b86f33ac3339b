"""Which tier serves what: the table of decisions, and that each lands with Envoy or XDP "
"and never with both."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest
from pydantic import ValidationError

from tests.support import golden
from xds_agent.compile import Compiler
from xds_agent.compile.datapath import marked_resource, protection_resources
from xds_agent.model import Service, load_site
from xds_agent.model.ports import ENVOY_HTTP
from xds_agent.model.tiers import tier_of
from xds_agent.proto import datapath_pb2 as pb
from xds_agent.snapshot.resource import ACCESS_LIST, CLUSTER, DATAPATH_SERVICE, LISTENER, PROTECTION, REALS

_ENDPOINT = {"address": "10.1.0.1", "port": 5000}


def _tier(*, interfaces: Sequence[str] = ("eth0",), **more: Any) -> tuple[str, str]:
    service = {"name": "one", "protocol": "udp", "listen": {"port": 5000}, "endpoints": [_ENDPOINT], **more}
    edge = {"name": "edge1", "groups": ("ingress", "l4"), "interfaces": list(interfaces)}
    site = load_site({"schema": 1, "edge": {}, "hosts": {"edge1": edge}, "origins": {}})
    found = tier_of(site, Service.model_validate(service))
    return found.kind, found.field


@pytest.mark.parametrize(
    ("asked", "kind", "field"),
    [
        ({}, "xdp", "protocol"),
        ({"tier": "l7"}, "udp_proxy", "tier"),
        ({"interfaces": []}, "udp_proxy", "listen.address"),
        ({"interfaces": ["eth0", "eth1"]}, "udp_proxy", "listen.address"),
        ({"bandwidth": {"egress": "1mbit"}}, "udp_proxy", "bandwidth"),
        ({"endpoints": [{"address": "db.example.com", "port": 1}]}, "udp_proxy", "endpoints"),
        ({"protocol": "tcp"}, "tcp_proxy", "tier"),
        ({"protocol": "tcp", "tier": "l4"}, "xdp", "tier"),
        ({"protocol": "tcp", "listen": {"address": "vip", "port": 1}}, "xdp", "listen.address"),
        ({"protocol": "tcp", "listen": {"port": 1, "sni": ["a.example.com"]}}, "tcp_proxy", "listen.sni"),
        ({"protocol": "icmp", "listen": {"address": "vip"}}, "xdp echo", "protocol"),
        ({"protocol": "http", "listen": None}, "http", "protocol"),
    ],
)
def test_the_cheapest_tier_that_can_do_what_is_asked(asked: dict[str, Any], kind: str, field: str) -> None:
    assert _tier(**asked) == (kind, field)


def test_what_xdp_serves_has_neither_cluster_nor_listener() -> None:
    for snapshot in golden.case("datapath").compile().snapshots().values():
        services = {
            name: pb.Service.FromString(one.body.value)
            for name, one in snapshot.of_type(DATAPATH_SERVICE).items()
        }
        served = {name for name, one in services.items() if one.forward != pb.KERNEL}
        assert served == snapshot.of_type(REALS).keys()
        assert not served & snapshot.of_type(CLUSTER).keys()
        assert not {"tcp-5432", "udp-5300", "tcp-7001"} & snapshot.of_type(LISTENER).keys()


def test_what_envoy_serves_is_shaped_beside_it_where_there_is_an_envoy() -> None:
    """Port and rates are XDP's and tc's business, backends are not."""
    snapshots = golden.case("datapath").compile().snapshots()
    shaped = pb.Service.FromString(snapshots["edge1"].of_type(DATAPATH_SERVICE)["shaped"].body.value)
    assert (shaped.forward, shaped.port, shaped.egress_bits) == (pb.KERNEL, 7002, 100_000_000)
    assert "shaped" in snapshots["edge1"].of_type(CLUSTER)
    assert "shaped" not in snapshots["edge1"].of_type(REALS)
    assert "shaped" not in snapshots["l4only"].of_type(DATAPATH_SERVICE)


def test_packet_limits_hold_in_front_of_envoy_too() -> None:
    limited = Service.model_validate(
        {
            "name": "one", "protocol": "tcp", "listen": {"port": 5000}, "endpoints": [_ENDPOINT],
            "packet_limit": {"packets_per_second": 9, "syn_per_second": 3},
        }
    )  # fmt: skip
    resource = marked_resource(limited)
    assert resource is not None
    said = pb.Service.FromString(resource.body.value)
    assert (said.forward, said.packets_per_second, said.syn_per_second) == (pb.KERNEL, 9, 3)


_DOMAIN = {"name": "a.example.com", "certificate": "a", "tenant": "red"}
_HTTP: dict[str, Any] = {
    "tenants": [{"name": "red"}, {"name": "blue"}], "certificates": [{"name": "a"}], "domains": [_DOMAIN],
    "services": [{"name": "web", "tenant": "red", "domains": ["a.example.com"], "endpoints": [_ENDPOINT]}],
}  # fmt: skip
_GRPC = {"services": [{**_HTTP["services"][0], "protocol": "grpc"}]}


def _counted(edge: dict[str, Any], **host: Any) -> dict[str, int]:
    """Ports of Envoy's HTTP that XDP counts apart on a host."""
    ours = {"groups": ["ingress", "l4"], "interfaces": ["eth0"], "tenants": ["red"], **host}
    hosts = {"edge1": {"name": "edge1", **ours}}
    site = load_site({"schema": 1, "edge": {**_HTTP, **edge}, "hosts": hosts, "origins": {}})
    compiled = Compiler().compile(site, golden.words_for_keys(site))
    found = {}
    for name, one in compiled.snapshots()["edge1"].of_type(DATAPATH_SERVICE).items():
        said = pb.Service.FromString(one.body.value)
        # Nothing is limited, marked or shaped.
        assert said == pb.Service(name=name, protocol=pb.TCP, port=said.port, forward=pb.KERNEL)
        listener = name.removeprefix("envoy/")
        assert compiled.origin_of(DATAPATH_SERVICE, name) == compiled.origin_of(LISTENER, listener)
        found[name] = said.port
    return found


@pytest.mark.parametrize(
    ("edge", "host", "counted"),
    [
        ({}, {}, {"envoy/http": 80, "envoy/https": 443}),
        ({"ports": {"http": 81, "https": 8443}}, {}, {"envoy/http": 81, "envoy/https": 8443}),
        (_GRPC, {}, {"envoy/http": 80, "envoy/grpc": 8080}),
        ({"domains": [], "services": [], "certificates": []}, {}, {}),
        ({}, {"tenants": ["blue"]}, {}),
        ({}, {"groups": ["l4"]}, {}),
        ({}, {"interfaces": []}, {}),
    ],
    ids=("http", "other ports", "grpc", "no domains", "another tenant's", "no Envoy", "no datapath"),
)
def test_xdp_counts_http_apart_where_envoy_listens_for_it(
    edge: dict[str, Any], host: dict[str, Any], counted: dict[str, int]
) -> None:
    assert _counted(edge, **host) == counted


@pytest.mark.parametrize("name", ENVOY_HTTP)
def test_no_service_is_named_as_what_xdp_counts_of_http(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        Service.model_validate({"name": name, "protocol": "http", "endpoints": [_ENDPOINT]})


def test_hosts_without_a_datapath_get_nothing_of_it() -> None:
    snapshots = golden.case("datapath").compile().snapshots()
    assert not any(snapshots["idle"].of_type(t) for t in (PROTECTION, ACCESS_LIST, DATAPATH_SERVICE))
    assert snapshots["l4only"].of_type(PROTECTION)
    assert not snapshots["l4only"].of_type(LISTENER)


def test_every_address_under_which_hosts_reach_each_other_is_exempt() -> None:
    """Tunnels' ends too: denying a range of strangers must not cut clouds off from each other."""
    hosts: dict[str, dict[str, Any]] = {
        "edge1": {"groups": ["l4"], "interfaces": ["eth0"], "address": "203.0.113.5"},
        "gateway": {
            "groups": ["ingress"], "address": "203.0.113.6", "private_address": "10.9.0.6",
            "interconnect_endpoint": "2001:db8::6",
        },
        "named": {"groups": ["egress"], "address": "a.example.com", "interconnect_endpoint": "b.example.com"},
    }  # fmt: skip
    site = load_site({"schema": 1, "edge": {}, "hosts": hosts, "origins": {}})
    lists = protection_resources(site)[ACCESS_LIST]
    exempt = pb.AccessList.FromString(lists["exempt"].body.value)
    for address in ("203.0.113.5", "203.0.113.6", "10.9.0.6"):
        assert ip_address(address).packed + b"\x20" in exempt.ipv4
    assert ip_address("2001:db8::6").packed + b"\x80" in exempt.ipv6
