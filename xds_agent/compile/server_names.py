"""Which filter chain a TLS server name gets: names change in place, without closing a connection."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.matching.common_inputs.network.v3 import network_inputs_pb2
from google.protobuf import wrappers_pb2
from xds.type.matcher.v3 import domain_pb2, matcher_pb2

from xds_agent.compile.encoding import packed

_INPUT = "envoy.matching.inputs.server_name"
_BY_SUFFIX = "envoy.matching.custom_matchers.domain_matcher"
_INSPECTOR = "envoy.filters.listener.tls_inspector"


def server_name_matcher(chains: Mapping[str, str]) -> Any:
    """Matcher from names (exact, or `*.` wildcards) to chain names; others match nothing.

    Exact names are asked first, then the longest wildcard.
    """
    exact = {name: chain for name, chain in chains.items() if not name.startswith("*.")}
    wild = {name: chain for name, chain in chains.items() if name.startswith("*.")}
    actions = {chain: _action(chain) for chain in set(chains.values())}
    suffixes = _suffix_tree(wild, actions) if wild else None
    if not exact and suffixes is not None:
        return suffixes
    matcher = matcher_pb2.Matcher()
    _input(matcher.matcher_tree.input)
    entries = matcher.matcher_tree.exact_match_map.map
    for name in sorted(exact):
        entries[name].CopyFrom(actions[exact[name]])
    if suffixes is not None:
        matcher.on_no_match.matcher.CopyFrom(suffixes)
    return matcher


def tls_inspector() -> Any:
    """Listener filter that reads the server name of the ClientHello."""
    config = packed(tls_inspector_pb2.TlsInspector())
    return listener_components_pb2.ListenerFilter(name=_INSPECTOR, typed_config=config)


def _suffix_tree(wild: Mapping[str, str], actions: Mapping[str, Any]) -> Any:
    matcher = matcher_pb2.Matcher()
    _input(matcher.matcher_tree.input)
    domains = domain_pb2.ServerNameMatcher()
    by_chain: dict[str, list[str]] = {}
    for name in sorted(wild):
        by_chain.setdefault(wild[name], []).append(name)
    for chain in sorted(by_chain):
        entry = domains.domain_matchers.add(domains=by_chain[chain])
        entry.on_match.CopyFrom(actions[chain])
    matcher.matcher_tree.custom_match.name = _BY_SUFFIX
    matcher.matcher_tree.custom_match.typed_config.CopyFrom(packed(domains))
    return matcher


def _action(chain: str) -> Any:
    found = matcher_pb2.Matcher.OnMatch()
    found.action.name = chain
    found.action.typed_config.CopyFrom(packed(wrappers_pb2.StringValue(value=chain)))
    return found


@cache
def _server_name() -> Any:
    return packed(network_inputs_pb2.ServerNameInput())


def _input(target: Any) -> None:
    target.name = _INPUT
    target.typed_config.CopyFrom(_server_name())
