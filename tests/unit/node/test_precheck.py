"""What a host cannot serve is refused before Envoy sees it, in words that name who is in the way."""

from __future__ import annotations

import ipaddress
import os
import socket

import pytest
from envoy.config.core.v3 import address_pb2
from envoy.config.listener.v3 import listener_pb2

from xds_agent.node import precheck, sockets
from xds_agent.node.precheck import Host, check
from xds_agent.node.sockets import Listening
from xds_agent.snapshot.resource import EMPTY, LISTENER, Resource, Snapshot

ENVOY = (900, 106)
ELSEWHERE = "192.0.2.7"


def listeners(*bound):
    """(name, address, port, udp) of each."""
    made = []
    for name, address, port, udp in bound:
        message = listener_pb2.Listener(name=name)
        at = message.address.socket_address
        at.address, at.port_value = address, port
        at.protocol = address_pb2.SocketAddress.UDP if udp else address_pb2.SocketAddress.TCP
        made.append(Resource.of(LISTENER, name, message))
    return Snapshot.of(made)


def tcp(port, address="0.0.0.0", name="echo"):
    return listeners((name, address, port, False))


def host(*there, owners=None, envoy=ENVOY):
    """A host with these (address, port, uid, inode) listening on TCP; `owners` of those that may be seen."""
    table = [
        Listening(False, ipaddress.ip_address(address), port, uid, inode)
        for address, port, uid, inode in there
    ]
    return Host(envoy, lambda: table, (owners or {}).get, {900: "envoy"}.get)


def words(target, on, held=EMPTY):
    refusal = check(held, target, on)
    return "" if refusal is None else refusal.words


def test_a_free_port_is_no_obstacle():
    assert check(EMPTY, tcp(7000), host(("0.0.0.0", 7001, 0, 1))) is None


def test_a_process_in_the_way_is_named():
    refusal = check(EMPTY, tcp(7000), host(("0.0.0.0", 7000, 0, 5), owners={5: (812, "nginx")}))
    assert refusal.type_url == LISTENER and refusal.names == ("echo",)
    assert refusal.words == (
        "listener echo wants TCP port 7000, on which nginx (pid 812, user root) listens already; "
        "stop it, or choose another port"
    )


def test_where_it_may_not_be_seen_its_user_is_named():
    assert "on which a process of user root listens" in words(tcp(7000), host(("0.0.0.0", 7000, 0, 5)))
    assert "on which a process of user 54321 listens" in words(tcp(7000), host(("0.0.0.0", 7000, 54321, 5)))


@pytest.mark.parametrize(
    ("owners", "taken"),
    [
        ({5: (900, "envoy")}, False),
        # An epoch before, which drains.
        ({5: (880, "envoy")}, False),
        ({5: (812, "nginx")}, True),
        (None, False),
    ],
)
def test_envoys_own_sockets_are_no_strangers(owners, taken):
    assert bool(words(tcp(7000), host(("0.0.0.0", 7000, ENVOY[1], 5), owners=owners))) is taken


def test_what_envoy_listens_on_already_is_not_asked_again():
    assert words(tcp(7000), host(("0.0.0.0", 7000, 0, 5)), held=tcp(7000, name="before")) == ""


@pytest.mark.parametrize(
    ("ours", "theirs", "meet"),
    [
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("::", "::1", True),
    ],
)
def test_addresses_decide_who_meets(ours, theirs, meet):
    assert bool(words(tcp(7000, ours), host((theirs, 7000, 0, 5)))) is meet


def test_udp_and_tcp_do_not_meet():
    assert words(listeners(("dns", "0.0.0.0", 7000, True)), host(("0.0.0.0", 7000, 0, 5))) == ""


def test_an_address_that_is_not_here_is_named():
    assert words(tcp(7000, ELSEWHERE), host()) == (
        f"listener echo wants address {ELSEWHERE}, which this host does not have; "
        "give it to a network card, or correct it"
    )
    assert words(tcp(7000, "127.0.0.1"), host()) == ""


def test_while_envoy_is_away_ports_are_left_to_it():
    assert words(tcp(7000), host(("0.0.0.0", 7000, 0, 5), envoy=None)) == ""


@pytest.mark.parametrize(("family", "any_address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_kernels_tables_are_read_as_they_are(family, any_address):
    with socket.socket(family, socket.SOCK_STREAM) as server:
        try:
            server.bind((any_address, 0))
        except OSError:
            pytest.skip("no IPv6 on this machine")
        server.listen()
        port = server.getsockname()[1]
        # Somebody else may have the same port on another address.
        there = ipaddress.ip_address(any_address), port, False
        [found] = [one for one in sockets.listening() if (one.address, one.port, one.udp) == there]
        assert found.uid == os.getuid()
        assert sockets.owner(found.inode) == (os.getpid(), sockets.command_of(os.getpid()))


def test_who_answers_on_a_unix_socket_is_known(tmp_path):
    path = str(tmp_path / "admin.sock")
    assert precheck.peer_of(path) is None
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert precheck.peer_of(path) == (os.getpid(), os.getuid())
