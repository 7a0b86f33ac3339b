"""The mesh between clouds: who gets which tunnels, and which way a host believes in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from modules import wireguard_key
from plugins.module_utils import interconnect as mesh
from tests.support.role_programs import program

RUNNING = program("interconnect", "interconnect.py")


def site(*counts: int) -> tuple[list[mesh.Network], dict[str, mesh.Peer]]:
    """Networks with so many edges each, and their gateways."""
    said = [
        {"cloud": "aws", "region": f"r{number}", "ranges": [f"10.{number}.0.0/16"]}
        for number in range(len(counts))
    ]
    edges = {f"aws/r{n}": [f"edge{n}-{e}" for e in range(count)] for n, count in enumerate(counts)}
    networks = list(mesh.networks(said, edges))
    peers = {
        name: mesh.Peer(name, f"198.51.100.{10 * n + e}", f"10.{n}.0.{10 + e}", f"key of {name}")
        for n, network in enumerate(networks)
        for e, name in enumerate(network.gateways)
    }
    return networks, peers


def config_of(name: str, networks: list[mesh.Network], peers: dict[str, mesh.Peer]) -> dict:
    number = next(n for n, one in enumerate(networks) if name in one.gateways)
    planned = mesh.plan(mesh.Host(name, "aws", f"r{number}", peers[name].address), networks, peers)
    assert planned.config is not None
    return planned.config


@given(st.lists(st.integers(1, 4), min_size=2, max_size=6))
def test_both_ends_of_every_tunnel_agree_and_no_port_is_taken_twice(counts: list[int]) -> None:
    networks, peers = site(*counts)
    configs = {name: config_of(name, networks, peers) for name in peers}
    for name, config in configs.items():
        ports = [one["listen_port"] for one in config["tunnels"]]
        assert len(set(ports)) == len(ports) and all(51820 <= port <= 51883 for port in ports)
        for one in config["tunnels"]:
            [back] = [other for other in configs[one["peer"]]["tunnels"] if other["peer"] == name]
            assert one["endpoint"] == f"{peers[one['peer']].endpoint}:{back['listen_port']}"
            assert one["mtu"] == back["mtu"]
            assert len(one["interface"]) <= 15


def test_a_network_more_at_the_end_moves_no_tunnel_that_is_there() -> None:
    before, peers = site(2, 1)
    after, more = site(2, 1, 2)
    kept = config_of("edge0-0", after, more)["tunnels"]
    assert all(one in kept for one in config_of("edge0-0", before, peers)["tunnels"])


def test_the_mtu_is_that_of_the_narrower_card_less_the_outer_headers_at_both_ends() -> None:
    four, six = (
        mesh.Peer("a", "198.51.100.1", "10.0.0.1", "k", 9001),
        mesh.Peer("b", "2001:db8::1", "10.1.0.1", "k", 1460),
    )
    assert mesh.tunnel_mtu(four, four) == 1440
    assert mesh.tunnel_mtu(four, six) == mesh.tunnel_mtu(six, four) == 1380


def test_without_all_keys_a_gateway_is_left_as_it_is() -> None:
    networks, peers = site(1, 1)
    peers["edge1-0"] = mesh.Peer("edge1-0", "198.51.100.9", "10.1.0.10", "")
    planned = mesh.plan(mesh.Host("edge0-0", "aws", "r0", "10.0.0.10"), networks, peers)
    assert (planned.config, planned.unknown) == (None, ("edge1-0",))


def test_other_hosts_get_routes_unless_the_cloud_has_route_tables() -> None:
    networks, peers = site(2, 1)
    host = mesh.Host("backend", "aws", "r0", "10.0.0.99")
    config = mesh.plan(host, networks, peers).config
    assert config and "tunnels" not in config
    assert [one["name"] for one in config["gateways"]] == ["edge0-0", "edge0-1"]
    by_cloud = mesh.Host("backend", "aws", "r0", "10.0.0.99", routes=False)
    assert mesh.plan(by_cloud, networks, peers).config is None
    assert mesh.plan(mesh.Host("control", "", "", "10.9.0.1"), networks, peers).config is None


def test_every_mistake_is_told_at_once() -> None:
    said = [
        {"cloud": "aws", "region": "a", "ranges": ["10.0.0.0/8"], "gateways": ["nobody"]},
        {"cloud": "gcp", "region": "b", "ranges": ["10.1.0.0/16", "ten"]},
        {"cloud": "azure"},
    ]
    with pytest.raises(mesh.InterconnectError) as told:
        mesh.networks(said, {"aws/a": ["edge"]})
    words = str(told.value)
    for part in (
        "nobody is no ingress host",
        "ten is no range",
        "has no region, ranges",
        "overlaps",
        "no ingress host to be",
    ):
        assert part in words


CONFIG = {
    "address": "10.0.0.10",
    "tunnels": [
        {"peer": "far-1", "interface": "mpwg2", "probe": "10.1.0.10", "network": "aws/r1"},
        {"peer": "far-2", "interface": "mpwg3", "probe": "10.1.0.11", "network": "aws/r1"},
    ],
    "networks": [{"name": "aws/r1", "ranges": ["10.1.0.0/16"], "through": ["far-1", "far-2"]}],
}
LEADS = frozenset({"aws/r1"})


def test_a_way_is_left_after_three_silences_and_taken_again_after_three_answers() -> None:
    ways, networks = RUNNING.ways_of(CONFIG), RUNNING.networks_of(CONFIG)

    def through() -> str | None:
        way = RUNNING.chosen(networks[0], ways)
        return way.name if way else None

    assert through() is None
    ways["far-2"].seen(LEADS)
    assert through() == "far-2", "the first answer counts: nobody waits at the start"
    ways["far-1"].seen(LEADS)
    assert through() == "far-1"
    for silences in (1, 2, 3):
        ways["far-1"].seen(None)
        assert through() == ("far-1" if silences < 3 else "far-2")
    for answers in (1, 2, 3):
        ways["far-1"].seen(LEADS)
        assert through() == ("far-2" if answers < 3 else "far-1")


def test_what_has_no_way_is_refused_and_never_goes_another_way() -> None:
    ways, networks = RUNNING.ways_of(CONFIG), RUNNING.networks_of(CONFIG)
    routes = RUNNING.wanted_routes(networks, ways)
    assert ("unreachable", "10.1.0.0/16") in routes and ("unicast", "10.1.0.0/16") not in routes
    # The peers themselves are asked through their tunnels.
    assert routes["unicast", "10.1.0.11/32"] == ("dev", "mpwg3", "src", "10.0.0.10")
    ways["far-2"].seen(LEADS)
    assert RUNNING.wanted_routes(networks, ways)["unicast", "10.1.0.0/16"][:2] == ("dev", "mpwg3")


def test_a_key_is_made_once_readable_by_nobody_else_and_as_wireguard_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "key"
    key = wireguard_key.clamped(bytes([255] * 32))
    assert key[0] & 7 == 0 and key[31] & 192 == 64
    wireguard_key.write_key(path, key)
    assert path.stat().st_mode & 0o777 == 0o400
    assert wireguard_key.private_key(path) == key
    assert wireguard_key.private_key(tmp_path / "none") is None
    path.chmod(0o600)
    path.write_text("no key\n")
    with pytest.raises(wireguard_key.KeyUnusable, match="move it away"):
        wireguard_key.private_key(path)


def test_openssl_takes_the_key_and_gives_its_public_half() -> None:
    raw = wireguard_key.clamped(bytes(range(32)))
    out = subprocess.run(
        ["openssl", "pkey", "-inform", "DER", "-pubout", "-outform", "DER"],
        input=wireguard_key.DER_HEAD + raw, capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert out[-32:] == X25519PrivateKey.from_private_bytes(raw).public_key().public_bytes_raw()


def test_a_tunnel_carries_what_is_of_its_network_and_nothing_else() -> None:
    networks, peers = site(1, 2)
    for one in config_of("edge0-0", networks, peers)["tunnels"]:
        text = RUNNING.wireguard_conf(one, "secret")
        assert f"AllowedIPs = {one['probe']}/32, 10.1.0.0/16\n" in text


def test_a_single_address_is_the_route_that_the_kernel_writes_without_its_prefix() -> None:
    assert RUNNING.normal("10.1.0.10") == RUNNING.normal("10.1.0.10/32") == "10.1.0.10/32"
    assert RUNNING.normal("default") == "0.0.0.0/0"
