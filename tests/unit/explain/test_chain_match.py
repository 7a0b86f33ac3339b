"""Filter chains by server name, over the matcher that our compiler makes and over plain server_names."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.listener.v3 import listener_pb2

from xds_agent.compile.server_names import server_name_matcher
from xds_agent.explain.chain_match import chain_for, listener_on
from xds_agent.snapshot.resource import LISTENER, Resource


def _listener(names: dict[str, str], *, default: bool = True) -> Any:
    listener = listener_pb2.Listener(name="https")
    for chain in sorted(set(names.values())):
        listener.filter_chains.add(name=chain)
    listener.filter_chain_matcher.CopyFrom(server_name_matcher(names))
    if default:
        listener.default_filter_chain.name = "default"
    return listener


NAMES = {"shop.example.com": "shop", "*.example.com": "wild", "*.eu.example.com": "eu"}


@pytest.mark.parametrize(
    ("sni", "chain"),
    [
        ("shop.example.com", "shop"),
        ("x.example.com", "wild"),
        ("x.eu.example.com", "eu"),
        ("example.com", "default"),
        ("elsewhere.net", "default"),
        (None, "default"),
    ],
)
def test_exact_names_beat_wildcards_and_longer_ones_shorter(sni: str | None, chain: str) -> None:
    assert chain_for(_listener(NAMES), sni=sni, tls=True).name == chain


def test_without_a_default_chain_an_unknown_name_meets_nothing() -> None:
    assert chain_for(_listener(NAMES, default=False), sni="elsewhere.net", tls=True) is None


def test_only_wildcards() -> None:
    listener = _listener({"*.example.com": "wild"})
    assert chain_for(listener, sni="a.example.com", tls=True).name == "wild"


def test_plain_server_names_and_transport() -> None:
    listener = listener_pb2.Listener(name="tcp")
    listener.filter_chains.add(name="any")
    named = listener.filter_chains.add(name="db")
    named.filter_chain_match.server_names.append("*.db.example.com")
    named.filter_chain_match.transport_protocol = "tls"
    assert chain_for(listener, sni="a.db.example.com", tls=True).name == "db"
    assert chain_for(listener, sni=None, tls=False).name == "any"


def test_listeners_are_found_by_port_and_transport() -> None:
    listeners = {}
    for name, port, udp in (("https", 443, False), ("dns", 53, True)):
        one = listener_pb2.Listener(name=name)
        one.address.socket_address.port_value = port
        one.address.socket_address.protocol = int(udp)
        listeners[name] = Resource.of(LISTENER, name, one)
    assert listener_on(listeners, 443, udp=False).name == "https"
    assert listener_on(listeners, 53, udp=True).name == "dns"
    assert listener_on(listeners, 53, udp=False) is None
