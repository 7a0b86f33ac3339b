"""The module `host_facts`: what it makes of what a host says."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules import host_facts

SS = """\
udp   UNCONN 0      0            127.0.0.1:323        0.0.0.0:*    users:(("chronyd",pid=300,fd=5))
tcp   LISTEN 0      511            0.0.0.0:80         0.0.0.0:*    users:(("nginx",pid=812,fd=6))
tcp   LISTEN 0      128               [::]:22            [::]:*
"""


def test_who_holds_which_port() -> None:
    found = host_facts.listeners(SS, {300: "chrony.service", 812: "nginx.service"}.__getitem__)
    assert [(one["protocol"], one["address"], one["port"], one["process"], one["unit"]) for one in found] == [
        ("udp", "127.0.0.1", 323, "chronyd", "chrony.service"),
        ("tcp", "0.0.0.0", 80, "nginx", "nginx.service"),
        ("tcp", "[::]", 22, "", ""),
    ]


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("12:pids:/x/system.slice/envoy.service\n0::/\n", "envoy.service"),
        ("0::/user.slice/user-0.slice/session-1.scope\n", ""),
        ("0::/system.slice/docker.service/haproxy.service\n", "haproxy.service"),
    ],
)
def test_the_unit_of_a_process(text: str, unit: str) -> None:
    assert host_facts.unit_from_cgroup(text) == unit


def test_distribution() -> None:
    text = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'
    assert host_facts.os_release(text) == {
        "id": "debian", "version": "12", "name": "Debian GNU/Linux 12 (bookworm)",
    }  # fmt: skip


def test_removed_packages_are_not_installed() -> None:
    status = (
        "Package: nginx\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        "Package: openssl\nStatus: install ok installed\nVersion: 3\n"
    )
    assert host_facts.installed_packages(status) == ["openssl"]


@pytest.mark.parametrize(
    ("nft", "iptables", "drops", "ports"),
    [
        ("", "-P INPUT ACCEPT\n", False, []),
        ("", "-P INPUT DROP\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n", True, [22]),
        ("", "-P INPUT DROP\n-A INPUT -p tcp -m multiport --dports 80,443 -j ACCEPT\n", True, [80, 443]),
        (
            "table inet filter {\n chain input {\n  type filter hook input priority filter; policy drop;\n"
            "  tcp dport { 80, 8080-8082 } accept\n }\n}\n",
            "", True, [80, 8080, 8081, 8082],
        ),
        ("chain y {\n type filter hook input priority 0; policy accept;\n }\n", "", False, []),
    ],
)  # fmt: skip
def test_what_the_packet_filter_lets_in(nft: str, iptables: str, drops: bool, ports: list[int]) -> None:
    assert host_facts.input_rules(nft, iptables) == {"drops": drops, "ports": ports}


def test_a_certificate() -> None:
    text = (
        "notBefore=2026-11-25 03:15:42Z\nnotAfter=2026-12-25 03:20:42Z\nissuer=CN = issuing CA\n"
        "subject=CN = edge1\nserial=60D4\nX509v3 Subject Alternative Name: \n"
        "    DNS:edge1, URI:spiffe://marchproxy.internal/host/edge1\n"
        "X509v3 Subject Key Identifier: \n    15:46\nX509v3 Authority Key Identifier: \n    BF:F2\n"
    )
    assert host_facts.certificate(text) == {
        "not_before": "2026-11-25 03:15:42Z",
        "not_after": "2026-12-25 03:20:42Z",
        "issuer": "CN = issuing CA",
        "subject": "CN = edge1",
        "serial": "60D4",
        "names": ["DNS:edge1", "URI:spiffe://marchproxy.internal/host/edge1"],
        "key": "15:46",
        "issuer_key": "BF:F2",
    }


def test_parameters_that_may_not_be_set_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "net" / "core"
    folder.mkdir(parents=True)
    (folder / "somaxconn").write_text("4096\n")
    (folder / "rmem_max").write_text("212992\n")
    (folder / "rmem_max").chmod(0o444)
    keys = ["net.core.somaxconn", "net.core.rmem_max", "net.core.absent"]
    assert host_facts.kernel_parameters(keys, str(tmp_path)) == {"net.core.somaxconn": "4096"}
