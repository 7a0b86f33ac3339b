"""Which connections a change closes: the rules that were tried with Envoy, one test each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from envoy.config.core.v3 import address_pb2
from envoy.config.listener.v3 import listener_pb2

from xds_agent.explain.closings import closings
from xds_agent.snapshot.resource import LISTENER, Resource, Snapshot


def _listener(name: str = "https") -> Any:
    listener = listener_pb2.Listener(name=name, traffic_direction="INBOUND")
    listener.address.socket_address.port_value = 443
    listener.filter_chain_matcher.matcher_tree.exact_match_map.map["a.example.com"].action.name = "a"
    for chain in ("a", "b"):
        made = listener.filter_chains.add(name=chain)
        made.filters.add(name=f"cluster of {chain}")
    listener.default_filter_chain.filters.add(name="421")
    return listener


def _snapshots(*listeners: Any) -> dict[str, Snapshot]:
    return {"edge1": Snapshot.of([Resource.of(LISTENER, one.name, one) for one in listeners])}


def _reasons(change: Callable[[Any], None]) -> list[str]:
    new = _listener()
    change(new)
    return [one.reason for one in closings(_snapshots(_listener()), _snapshots(new))]


def _add_chain(listener: Any) -> None:
    listener.filter_chains.add(name="c")


def _add_name(listener: Any) -> None:
    matches = listener.filter_chain_matcher.matcher_tree.exact_match_map.map
    matches["new.example.com"].action.name = "a"


def test_the_same_listener_closes_nothing() -> None:
    assert _reasons(lambda listener: None) == []


@pytest.mark.parametrize("change", [_add_chain, _add_name])
def test_adding_a_chain_or_a_name_in_the_matcher_closes_nothing(change: Callable[[Any], None]) -> None:
    assert _reasons(change) == []


def test_a_chain_with_another_cluster_closes_its_own_connections() -> None:
    def other_cluster(listener: Any) -> None:
        listener.filter_chains[1].filters[0].name = "another cluster"

    assert _reasons(other_cluster) == ["filter chain b changes"]


def test_a_name_in_server_names_of_a_chain_closes_that_chain() -> None:
    def server_name(listener: Any) -> None:
        listener.filter_chains[0].filter_chain_match.server_names.append("x.example.com")

    assert _reasons(server_name) == ["filter chain a changes"]


def test_a_chain_that_goes_closes_its_connections() -> None:
    def drop(listener: Any) -> None:
        del listener.filter_chains[0]

    assert _reasons(drop) == ["filter chain a goes"]


def test_the_default_chain_counts_as_a_chain() -> None:
    def change(listener: Any) -> None:
        listener.default_filter_chain.filters[0].name = "other"

    assert _reasons(change) == ["filter chain default changes"]


def test_any_other_field_closes_all_connections_of_the_listener() -> None:
    def buffer(listener: Any) -> None:
        listener.per_connection_buffer_limit_bytes.value = 65536

    assert _reasons(buffer) == ["settings of the listener itself change"]


def test_a_listener_that_goes_closes_its_connections_and_a_new_one_none() -> None:
    old, new = _snapshots(_listener(), _listener("tcp")), _snapshots(_listener(), _listener("udp"))
    assert [(one.listener, one.reason) for one in closings(old, new)] == [("tcp", "the listener goes")]


def test_a_udp_listener_starts_anew() -> None:
    old, new = _listener(), _listener()
    for one in (old, new):
        one.address.socket_address.protocol = address_pb2.SocketAddress.UDP
    _add_chain(new)
    assert len(closings(_snapshots(old), _snapshots(new))) == 1


def test_a_proxy_that_comes_or_leaves_is_not_a_closing() -> None:
    assert closings({}, _snapshots(_listener())) == ()
    assert closings(_snapshots(_listener()), {}) == ()
