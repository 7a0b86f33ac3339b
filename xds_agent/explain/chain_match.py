"""Which listener and filter chain a connection meets: by port, then by the name the client asks for (SNI)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from envoy.config.core.v3 import address_pb2
from envoy.config.listener.v3 import listener_pb2
from google.protobuf import wrappers_pb2

from xds_agent.explain.route_match import NotJudged
from xds_agent.snapshot.resource import Resource

_UDP = address_pb2.SocketAddress.UDP
_SERVER_NAME = "ServerNameInput"


def listener_on(listeners: Mapping[str, Resource], port: int, *, udp: bool) -> Any:
    """The decoded listener on a port, or None."""
    for name in sorted(listeners):
        listener = listener_pb2.Listener.FromString(listeners[name].body.value)
        addresses = [listener.address, *(one.address for one in listener.additional_addresses)]
        for address in addresses:
            socket = address.socket_address
            if socket.port_value == port and (socket.protocol == _UDP) == udp:
                return listener
    return None


def chain_for(listener: Any, *, sni: str | None, tls: bool) -> Any:
    """The filter chain a connection gets, or None: Envoy then closes it. `sni` is lower case or None."""
    if listener.HasField("filter_chain_matcher"):
        name = _matched(listener.filter_chain_matcher, sni)
        found = next((one for one in listener.filter_chains if one.name == name), None) if name else None
    else:
        found = _by_match(listener.filter_chains, sni=sni, tls=tls)
    if found is None and listener.HasField("default_filter_chain"):
        return listener.default_filter_chain
    return found


def _matched(matcher: Any, sni: str | None) -> str | None:
    """Name of the chain that xds.type.matcher.v3.Matcher chooses, None where it chooses none."""
    kind = matcher.WhichOneof("matcher_type")
    on_match = None
    if kind == "matcher_tree":
        on_match = _in_tree(matcher.matcher_tree, sni)
    elif kind is not None:
        raise NotJudged(f"filter chains by {kind}")
    if on_match is None and matcher.HasField("on_no_match"):
        on_match = matcher.on_no_match
    return _action(on_match, sni) if on_match is not None else None


def _in_tree(tree: Any, sni: str | None) -> Any:
    if not tree.input.typed_config.type_url.endswith(_SERVER_NAME):
        raise NotJudged(f"filter chains by {tree.input.name or tree.input.typed_config.type_url}")
    kind = tree.WhichOneof("tree_type")
    if sni is None:
        return None
    if kind == "exact_match_map":
        return tree.exact_match_map.map.get(sni)
    if kind == "prefix_match_map":
        fitting = [key for key in tree.prefix_match_map.map if sni.startswith(key)]
        return tree.prefix_match_map.map[max(fitting, key=len)] if fitting else None
    if kind == "custom_match":
        return _custom(tree.custom_match, sni)
    raise NotJudged(f"filter chains by {kind}")


def _custom(extension: Any, sni: str) -> Any:
    """xds.type.matcher.v3.ServerNameMatcher: exact first, then '*.x' with the longest x, then '*'."""
    from xds.type.matcher.v3 import domain_pb2

    config = extension.typed_config
    if not config.type_url.endswith("ServerNameMatcher"):
        raise NotJudged(f"filter chains by {config.type_url}")
    found: dict[str, Any] = {}
    for one in domain_pb2.ServerNameMatcher.FromString(config.value).domain_matchers:
        for domain in one.domains:
            found[domain.lower()] = one.on_match
    return next((found[name] for name in names_for(sni) if name in found), None)


def names_for(host: str) -> Iterable[str]:
    """What may match a name, most specific first: the name, '*.' and each parent, '*'."""
    yield host
    labels = host.split(".")
    for index in range(1, len(labels)):
        yield "*." + ".".join(labels[index:])
    yield "*"


def _action(on_match: Any, sni: str | None) -> str | None:
    if on_match.WhichOneof("on_match") == "matcher":
        return _matched(on_match.matcher, sni)
    config = on_match.action.typed_config
    if config.type_url.endswith("google.protobuf.StringValue"):
        return str(wrappers_pb2.StringValue.FromString(config.value).value)
    raise NotJudged(f"the action {config.type_url}")


def _by_match(chains: Any, *, sni: str | None, tls: bool) -> Any:
    """filter_chain_match with server names and transport only, as TCP services with passthrough use it."""
    transport = "tls" if tls else "raw_buffer"
    fitting = []
    for chain in chains:
        match = chain.filter_chain_match
        other = {field.name for field, _ in match.ListFields()} - {"server_names", "transport_protocol"}
        if other:
            raise NotJudged(f"filter chains by {', '.join(sorted(other))}")
        if match.transport_protocol in ("", transport):
            fitting.append(chain)
    for name in names_for(sni.lower()) if sni else ():
        for chain in fitting:
            if name in (one.lower() for one in chain.filter_chain_match.server_names):
                return chain
    return next((chain for chain in fitting if not chain.filter_chain_match.server_names), None)
