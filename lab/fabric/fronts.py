"""Balancers with public addresses as rules of nftables. Pure: what the clouds hold and who is well goes in.

Where a target sees its own address as destination, the kernel translates; where it sees the balancer's, the
packet is marked, and a route of the mark leads to the target. Either way a flow stays where its first packet
went, and nobody translates the client's address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from lab.fabric.routes import Asked, Probe

# A target's mark: this, and below it what tells addresses 10.x.x.x apart. Its table of routes has its number.
_MARKS, _OWN = 0x4D000000, 0x00FFFFFF
# The same everywhere, so that rules made anew send a flow where they sent it before.
_SEED = 0x6D70


@dataclass(frozen=True)
class Target:
    """A machine behind a balancer."""

    address: str
    port: int


@dataclass(frozen=True)
class Front:
    """A port of a balancer's public address."""

    address: str
    protocol: str
    """tcp or udp."""
    port: int
    sources: tuple[str, ...]
    targets: tuple[Target, ...]
    probe: Probe | None
    keeps_destination: bool
    hash_by: str
    """flow or client."""
    last_resort: bool
    """Whether all targets are taken where none is well."""
    breaks_flows: bool
    """Whether flows end, or move, whose target ceased to be well."""


def asked(fronts: Iterable[Front]) -> set[Asked]:
    """Every health check that is made."""
    return {(one.probe, target.address) for one in fronts if one.probe for target in one.targets}


def taken(front: Front, well: Collection[Asked]) -> tuple[Target, ...]:
    """Targets that new flows go to."""
    if not front.sources:
        return ()
    good = tuple(one for one in front.targets if front.probe is None or (front.probe, one.address) in well)
    return good or (front.targets if front.last_resort else ())


def broken(fronts: Iterable[Front], well: Collection[Asked]) -> Iterator[tuple[Front, Target]]:
    """Targets whose flows end."""
    for one in fronts:
        if one.breaks_flows and not one.keeps_destination:
            yield from ((one, target) for target in one.targets if target not in taken(one, well))


def marks(fronts: Iterable[Front]) -> dict[int, str]:
    """Mark, and number of a table of routes -> the target that it leads to."""
    return {
        mark_of(target.address): target.address
        for one in fronts
        if one.keeps_destination
        for target in one.targets
    }


def tables(octet: int) -> range:
    """Numbers of all such tables of a lab."""
    first = mark_of(f"10.{octet}.0.0")
    return range(first, first + 0x10000)


def mark_of(address: str) -> int:
    return _MARKS | int(ipaddress.IPv4Address(address)) & _OWN


def marked(fronts: Collection[Front], *, arrives: str, well: Collection[Asked]) -> Iterator[str]:
    """Rules for what keeps its destination; ``arrives`` matches packets that come from a host or a client."""
    for one in fronts:
        choice = taken(one, well)
        if not one.keeps_destination or not choice:
            continue
        known = "{ " + ", ".join(f"{mark_of(target.address):#x}" for target in choice) + " }"
        fresh = f"ct mark != {known}" if one.breaks_flows else "ct mark == 0 ct state new"
        chosen = _choice(one, [f"{mark_of(target.address):#x}" for target in choice])
        yield f"{arrives} {_matches(one)} {fresh} ct mark set {chosen}"
    yield from (f"{arrives} {kept} meta mark set ct mark" for kept in unchanged(fronts))


def translated(fronts: Collection[Front], *, arrives: str, well: Collection[Asked]) -> Iterator[str]:
    """Rules for what gets its target's address as destination."""
    for one in fronts:
        choice = taken(one, well)
        if not one.keeps_destination and choice:
            to = _choice(one, [f"{target.address} . {target.port}" for target in choice])
            yield f"{arrives} {_matches(one)} dnat ip to {to}"


def unchanged(fronts: Iterable[Front]) -> Iterator[str]:
    """What matches packets on their way to targets that see the balancer's address."""
    kept = sorted({one.address for one in fronts if one.keeps_destination})
    if kept:
        yield f"ip daddr {{ {', '.join(kept)} }}"


def lost(public: str, *, arrives: str) -> Iterator[str]:
    """Rules behind those: a public address that leads nowhere, or a port that nobody takes."""
    yield f"{arrives} meta mark & {~_OWN & 0xFFFFFFFF:#x} == {_MARKS:#x} accept"
    yield f"{arrives} ip daddr {public} counter drop"


def _matches(front: Front) -> str:
    sources = ", ".join(map(str, ipaddress.collapse_addresses(map(ipaddress.IPv4Network, front.sources))))
    comes = "" if sources == "0.0.0.0/0" else f"ip saddr {{ {sources} }} "
    return f"{comes}ip daddr {front.address} {front.protocol} dport {front.port}"


def _choice(front: Front, values: list[str]) -> str:
    flow = f"ip saddr . {front.protocol} sport . ip daddr . {front.protocol} dport"
    key = flow if front.hash_by == "flow" else "ip saddr . ip daddr"
    numbered = ", ".join(f"{number} : {value}" for number, value in enumerate(values))
    return f"jhash {key} mod {len(values)} seed {_SEED:#x} map {{ {numbered} }}"
