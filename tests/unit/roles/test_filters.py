"""The filters that judge what was seen of a host."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

ROOT = Path(__file__).parents[3]


def filter_named(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(
        f"filter_{name}", ROOT / "plugins" / "filter" / f"{name}.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FilterModule().filters()[name]


HTTP = {"port": 80, "protocol": "tcp", "use": "HTTP", "variable": "edge.ports.http"}


def facts(**changes: Any) -> dict[str, Any]:
    """A host in good order."""
    return {
        "distribution": {"id": "debian", "version": "12", "name": "Debian GNU/Linux 12 (bookworm)"},
        "arch": "x86_64",
        "kernel": "6.1.0-28-amd64",
        "systemd": True,
        "disk_free_mb": 9000,
        "stamps": {},
        "listeners": [],
        "firewall": {"drops": False, "ports": []},
    } | changes


def listener(port: int, *, unit: str = "nginx.service", protocol: str = "tcp") -> dict[str, Any]:
    return {
        "protocol": protocol, "address": "0.0.0.0", "port": port,
        "process": "nginx", "pid": 812, "unit": unit,
    }  # fmt: skip


def obstacles(seen: dict[str, Any], **changes: Any) -> list[str]:
    given = {
        "host": "edge1", "ports": [HTTP], "supported": {"debian": ["12"]}, "kernel": "5.15", "disk_mb": 1500,
    } | changes  # fmt: skip
    return filter_named("preflight")(seen, **given)


def test_a_host_in_good_order_has_no_obstacle() -> None:
    assert obstacles(facts()) == []


def test_the_process_that_holds_a_port_is_named() -> None:
    (sentence,) = obstacles(facts(listeners=[listener(80)]))
    assert sentence == (
        "tcp port 80 (HTTP) is held by nginx (process 812, nginx.service) on 0.0.0.0: "
        "stop it, or give edge.ports.http another port"
    )


def test_our_own_process_may_hold_it() -> None:
    assert obstacles(facts(listeners=[listener(80, unit="envoy.service")])) == []


def test_another_protocol_is_another_port() -> None:
    assert obstacles(facts(listeners=[listener(80, protocol="udp")])) == []


def test_every_obstacle_is_said_at_once() -> None:
    seen = facts(
        listeners=[listener(80)], kernel="4.19.0", arch="riscv64", systemd=False, disk_free_mb=10,
        distribution={"id": "alpine", "version": "3", "name": "Alpine"},
        firewall={"drops": True, "ports": [22]},
    )  # fmt: skip
    assert len(obstacles(seen, host="Edge_1")) == 8


def test_a_concern_can_be_left_out() -> None:
    assert obstacles(facts(kernel="4.19.0"), ignore=["kernel"]) == []


def test_a_packet_filter_that_names_the_port_is_no_obstacle() -> None:
    assert obstacles(facts(firewall={"drops": True, "ports": [22, 80]})) == []


def test_room_is_not_asked_for_twice() -> None:
    seen = facts(disk_free_mb=10, stamps={"/opt/marchproxy/agent/installed": "key"})
    assert obstacles(seen) == []


NAMES = ["DNS:edge1", "URI:spiffe://marchproxy.internal/host/edge1"]
SECOND = "URI:spiffe://marchproxy.internal/host/edge2"


def certificate(**changes: Any) -> dict[str, Any]:
    """Valid from 1 to 31 November 2026; two thirds are over on the 21st."""
    return {
        "not_before": "2026-11-01 00:00:00Z",
        "not_after": "2026-12-01 00:00:00Z",
        "names": list(NAMES),
        "issuer_key": "AA:BB",
    } | changes


@pytest.mark.parametrize(
    ("held", "now", "reason"),
    [
        (certificate(), "2026-11-20 23:59:59Z", ""),
        (certificate(), "2026-11-21 00:00:00Z", "two thirds of its life are over (it ends on 2026-12-01)"),
        (certificate(), "2026-12-01 00:00:00Z", "it expired on 2026-12-01"),
        (None, "2026-11-02 00:00:00Z", "there is none"),
        (certificate(issuer_key="CC"), "2026-11-02 00:00:00Z", "another authority signed it"),
        (certificate(names=NAMES[:1]), "2026-11-02 00:00:00Z", f"it names DNS:edge1, not {', '.join(NAMES)}"),
        (
            certificate(names=[*NAMES, SECOND]),
            "2026-11-02 00:00:00Z",
            f"it names {', '.join([*NAMES, SECOND])}, not {', '.join(NAMES)}",
        ),
    ],
)
def test_when_a_certificate_is_issued_anew(held: Any, now: str, reason: str) -> None:
    assert filter_named("certificate_due")(held, now=now, names=NAMES, issuer_key="AA:BB") == reason


def test_what_roles_need_of_the_edge() -> None:
    edge = {
        "ports": {"http": 80, "envoy_admin": None},
        "limits": {"connections": 10_000},
        "services": [
            {"name": "shop", "protocol": "http"},
            {"name": "echo", "protocol": "tcp", "listen": {"address": "edge", "port": 7000}},
        ],
    }
    assert filter_named("edge_ports")(edge) == {
        "http": 80,
        "connections": 10_000,
        "services": [{"port": 7000, "protocol": "tcp", "use": "service echo"}],
    }


def test_an_edge_that_says_nothing_leaves_the_defaults() -> None:
    assert filter_named("edge_ports")({}) == {"services": []}


def test_edges_encapsulate_from_their_own_side_of_a_clouds_translation() -> None:
    """Backends drop what comes from elsewhere, so the public address would be none."""
    hostvars: dict[str, dict[str, str]] = {
        "in-a-cloud": {
            "address": "203.0.113.5",
            "private_address": "10.9.0.5",
            "ansible_host": "203.0.113.5",
        },
        "plain": {"address": "192.0.2.8", "address6": "2001:DB8::8", "ansible_host": "edge8"},
    }
    edges = filter_named("tunnel_edges")(["plain", "in-a-cloud"], hostvars=hostvars)
    assert edges == ["10.9.0.5", "192.0.2.8", "2001:db8::8"]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"ansible_host": "203.0.113.5"}, "host edge1 of group l4 has neither private_address nor address"),
        ({"address": "edge1.example"}, "host edge1: address 'edge1.example' is no IP address"),
        ({"private_address": "10.9.0.300"}, "host edge1: private_address '10.9.0.300' is no IP address"),
    ],
)
def test_an_edge_of_no_known_address_is_named_by_its_backends(facts: dict[str, str], words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words):
        filter_named("tunnel_edges")(["edge1"], hostvars={"edge1": facts})
    with pytest.raises(AnsibleFilterError, match="no host is in group l4"):
        filter_named("tunnel_edges")([], hostvars={})
