# Copyright: MarchProxy contributors
# Apache License 2.0 (see LICENSE)
"""Which tunnels and routes each host of a site needs, so that its networks reach each other. Pure."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FIRST_PORT = 51820
GATEWAYS = 2
"""Gateways of a network; the second takes over when the first dies."""
MOST_NETWORKS = 32
OVERHEAD_BYTES = {4: 60, 6: 80}
"""Outer IP, UDP and WireGuard's own header, by the family of the endpoints."""
INTERNET_MTU = 1500
"""Between clouds, whatever their own networks carry."""


class InterconnectError(Exception):
    """The inventory cannot be carried out; the text names the place and the remedy, a line per mistake."""


@dataclass(frozen=True)
class Network:
    """A place with private addresses of its own."""

    name: str
    """cloud/region."""
    ranges: tuple[str, ...]
    gateways: tuple[str, ...]
    number: int
    """Its place in the inventory; ports are counted by it."""


@dataclass(frozen=True)
class Peer:
    """A gateway as the others need to know it."""

    name: str
    endpoint: str
    """Where its tunnels end: an address that other clouds reach."""
    address: str
    """Its private address."""
    public_key: str
    """Empty as long as the host has not been asked."""
    mtu: int = INTERNET_MTU


@dataclass(frozen=True)
class Host:
    """A host to be planned for."""

    name: str
    cloud: str
    region: str
    address: str
    """Private."""
    routes: bool = True
    """Whether it sets its own routes; False where the cloud's route tables do."""


@dataclass(frozen=True)
class Planned:
    """What a host gets: the program's configuration, and whose keys are wanting before it can be written."""

    config: dict[str, Any] | None
    gateway: bool
    unknown: tuple[str, ...] = field(default=())


def networks(said: Sequence[Mapping[str, Any]], edges: Mapping[str, Sequence[str]]) -> tuple[Network, ...]:
    """The networks of the inventory.

    ``edges``: cloud/region -> its ingress hosts, of which the first two are gateways where the inventory
    names none. Raises InterconnectError with every mistake.
    """
    found, problems = [], []
    for number, one in enumerate(said):
        place = f"interconnect.networks[{number}]"
        missing = [key for key in ("cloud", "region", "ranges") if not one.get(key)]
        if missing:
            problems.append(f"{place} has no {', '.join(missing)}")
            continue
        name = f"{one['cloud']}/{one['region']}"
        gateways = tuple(one.get("gateways") or sorted(edges.get(name, ()))[:GATEWAYS])
        problems += _mistakes(place, name, gateways, one["ranges"], edges)
        found.append(Network(name, tuple(one["ranges"]), gateways, number))
    problems += _between(found)
    if problems:
        raise InterconnectError("\n".join(problems))
    return tuple(found)


def _mistakes(
    place: str, name: str, gateways: Sequence[str], ranges: Sequence[str], edges: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    for range_ in ranges:
        try:
            ipaddress.IPv4Network(range_)
        except ValueError as problem:
            yield f"{place}.ranges: {range_} is no range of IPv4 ({problem})"
    if not gateways:
        yield f"{place}: {name} has no ingress host to be its gateway; add one, or leave the network out"
    if len(gateways) > GATEWAYS:
        yield f"{place}.gateways: {len(gateways)} are named, a network has at most {GATEWAYS}"
    strange = [one for one in gateways if one not in edges.get(name, ())]
    if strange:
        yield f"{place}.gateways: {', '.join(strange)} is no ingress host of {name}"


def _between(found: Sequence[Network]) -> Iterator[str]:
    if len(found) > MOST_NETWORKS:
        yield f"interconnect.networks: {len(found)} of them; a mesh takes {MOST_NETWORKS}"
    for one, other in itertools.combinations(found, 2):
        if one.name == other.name:
            yield f"interconnect.networks: {one.name} is there twice; write all its ranges in one entry"
        for mine, theirs in itertools.product(_ranges(one), _ranges(other)):
            if mine.overlaps(theirs):
                yield f"interconnect.networks: {mine} of {one.name} overlaps {theirs} of {other.name}"


def _ranges(network: Network) -> list[ipaddress.IPv4Network]:
    good = []
    for text in network.ranges:
        try:
            good.append(ipaddress.IPv4Network(text))
        except ValueError:
            continue
    return good


def port(network: Network, gateway: str) -> int:
    """The UDP port on which others listen for this gateway, and to which it is sent to by them."""
    return FIRST_PORT + GATEWAYS * network.number + network.gateways.index(gateway)


def tunnel_mtu(*ends: Peer) -> int:
    """Bytes of a packet that fits a tunnel between these ends, the same whichever of them asks."""
    overhead = max(OVERHEAD_BYTES[ipaddress.ip_address(one.endpoint).version] for one in ends)
    return min(INTERNET_MTU, *(one.mtu for one in ends)) - overhead


def plan(host: Host, all_networks: Sequence[Network], peers: Mapping[str, Peer]) -> Planned:
    """What ``host`` gets. ``peers`` knows every gateway."""
    own = next((one for one in all_networks if one.name == f"{host.cloud}/{host.region}"), None)
    gateway = own is not None and host.name in own.gateways
    if own is None or not (gateway or host.routes):
        return Planned(None, gateway=False)
    others = [one for one in all_networks if one is not own]
    config: dict[str, Any] = {"name": host.name, "address": host.address, "health_port": FIRST_PORT}
    if not gateway:
        config["gateways"] = [{"name": name, "address": peers[name].address} for name in own.gateways]
        config["networks"] = [_way(one, own.gateways) for one in others]
        return Planned(config, gateway=False)
    me = peers[host.name]
    wanting = [name for one in others for name in one.gateways if not peers[name].public_key]
    if wanting:
        return Planned(None, gateway=True, unknown=tuple(wanting))
    config["ranges"] = list(own.ranges)
    config["tunnels"] = [_tunnel(own, me, one, peers[name]) for one in others for name in one.gateways]
    config["networks"] = [_way(one, one.gateways) for one in others]
    return Planned(config, gateway=True)


def _way(network: Network, through: Sequence[str]) -> dict[str, Any]:
    return {"name": network.name, "ranges": list(network.ranges), "through": list(through)}


def _tunnel(own: Network, me: Peer, network: Network, peer: Peer) -> dict[str, Any]:
    listen = port(network, peer.name)
    family = ipaddress.ip_address(peer.endpoint).version
    host = f"[{peer.endpoint}]" if family == 6 else peer.endpoint
    return {
        "interface": f"mpwg{listen - FIRST_PORT}",
        "peer": peer.name,
        "network": network.name,
        "ranges": list(network.ranges),
        "public_key": peer.public_key,
        "endpoint": f"{host}:{port(own, me.name)}",
        "listen_port": listen,
        "probe": peer.address,
        "mtu": tunnel_mtu(me, peer),
    }
