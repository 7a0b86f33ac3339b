"""Rules of machines as a table of nftables. Pure: what the clouds hold goes in, text comes out."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from lab.fabric import fronts
from lab.fabric.fronts import Front
from lab.fabric.routes import Asked

# Before connections are known (conntrack is at -200), and before any rule of podman's; translation before the
# kernel's own places for it (-100, 100), and what decides the way after that.
BEFORE_CONNECTIONS, BEFORE_OTHERS = -310, -10
BALANCED = -150
# Addresses that the simulated clouds hand out, and nobody else.
PUBLIC = "198.18.0.0/15"
ARRIVING, ROUTED, LEAVING = -110, -90, 90


@dataclass(frozen=True)
class Guard:
    """One rule for packets that open a connection."""

    lets: bool
    sources: tuple[str, ...]
    protocol: str
    """tcp, udp, icmp or all."""
    ports: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Machine:
    """A machine as its cloud's network sees it; the first guard that matches decides, and at the end none."""

    name: str
    address: str
    forwards: bool
    guards: tuple[Guard, ...]
    cloud: str = ""
    region: str = ""


@dataclass(frozen=True)
class Ways:
    """What is translated, and what goes by route tables."""

    public: Mapping[str, str]
    """Private address of a machine -> its public one, which leads to it."""
    outbound: Mapping[str, str]
    """Private address of a machine -> public source of what it sends; others reach nothing outside."""
    services: Mapping[tuple[str, int], tuple[str, int]]
    """Address and TCP port of a cloud's service -> where it is served."""
    outside: str
    """Device to whoever is in no cloud."""
    ranges: tuple[str, ...]
    """What goes by route tables and is not outside: the clouds' private ranges."""
    mark: int
    probes: tuple[str, ...] = ()
    """Sources of health checks from outside, which the route tables lead answers to."""
    wan: str = ""
    """Device that packets between clouds far apart (`script/lab wan`) come out of."""
    fronts: tuple[Front, ...] = ()
    well: Collection[Asked] = ()
    """Health checks whose answer is good."""


def card_of(address: str) -> str:
    """The hardware address of the card that has an address."""
    return "02:6d:" + ":".join(f"{octet:02x}" for octet in ipaddress.IPv4Address(address).packed)


def filter_of(
    name: str, *, machines: Iterable[Machine], bridges: Iterable[str], ranges: tuple[str, str], ways: Ways
) -> str:
    """What `nft -f` makes of it at once: the tables called ``name``, whatever they held before.

    ``bridges`` are the clouds' own; ``ranges`` is the first and the last address that they hand out.
    """
    known = list(machines)
    ours = ", ".join(f'"{bridge}"' for bridge in sorted(bridges))
    cards = f"{card_of(ranges[0])}-{card_of(ranges[1])}"
    lines = [
        *_anew("ip", name),
        f"table ip {name} {{",
        # A packet has the address of the card it comes from, unless its machine forwards.
        "  chain sent {",
        f"    type filter hook prerouting priority {BEFORE_CONNECTIONS}; policy accept;",
        f"    iifname != {{ {ours} }} accept",
        *_set("ether saddr", [card_of(one.address) for one in known if one.forwards]),
        *_set(
            "ether saddr . ip saddr",
            [f"{card_of(one.address)} . {one.address}" for one in known if not one.forwards],
        ),
        "    counter drop",
        "  }",
        # Whoever is the next to get a packet decides: its target, or a machine on the way there.
        "  chain delivered {",
        f"    oifname != {{ {ours} }} accept",
        "    icmp type redirect drop",
        *_next(known),
        "    counter drop",
        "  }",
        *(line for hook in ("forward", "output") for line in _hook(hook)),
        *_translated(ours, ways),
        *(line for machine in known for line in _machine(machine)),
        "}",
        # Machines of a subnet meet through the cloud's router too.
        *_anew("bridge", name),
        f"table bridge {name} {{",
        "  chain switched {",
        "    type filter hook forward priority -300; policy accept;",
        f"    ether saddr {cards} drop",
        f"    ether daddr {cards} drop",
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _anew(family: str, name: str) -> tuple[str, str]:
    """What was there goes, in the same transaction; deleting needs something that is there."""
    return f"table {family} {name} {{ }}", f"delete table {family} {name}"


def nothing_of(name: str) -> str:
    """What takes the tables away, whether they are there or not."""
    return "\n".join(line for family in ("ip", "bridge") for line in _anew(family, name)) + "\n"


def _hook(hook: str) -> Iterator[str]:
    yield f"  chain {hook} {{"
    yield f"    type filter hook {hook} priority {BEFORE_OTHERS}; policy accept;"
    yield "    jump delivered"
    yield "  }"


def _translated(ours: str, ways: Ways) -> Iterator[str]:
    """Public addresses are the clouds': a host never sees its own. Private ones go by the route tables."""
    others = ", ".join(f'"{one}"' for one in (ways.outside, ways.wan) if one)
    arrives = f"iifname {{ {ours}, {others} }}"
    arriving = ", ".join(f"{public} : {private}" for private, public in ways.public.items())
    services = sorted({address for address, _ in ways.services})
    inside = ", ".join([*ways.ranges, *ways.probes, *services])
    unnamed = f"ip saddr != {{ {', '.join(ways.outbound)} }} " if ways.outbound else ""
    yield "  chain balanced {"
    yield f"    type filter hook prerouting priority {BALANCED}; policy accept;"
    yield f"    iifname {{ {ours} }} ct state new {unnamed}ip daddr != {{ {inside} }} counter drop"
    yield from _indented(fronts.marked(ways.fronts, arrives=arrives, well=ways.well))
    yield "  }"
    yield "  chain arriving {"
    yield f"    type nat hook prerouting priority {ARRIVING}; policy accept;"
    yield from _indented(fronts.translated(ways.fronts, arrives=arrives, well=ways.well))
    if arriving:
        yield f"    {arrives} dnat to ip daddr map {{ {arriving} }}"
    for (address, port), (target, served) in ways.services.items():
        yield f"    iifname {{ {ours} }} ip daddr {address} tcp dport {port} dnat to {target}:{served}"
    yield "  }"
    yield "  chain routed {"
    yield f"    type filter hook prerouting priority {ROUTED}; policy accept;"
    yield from _indented(fronts.lost(PUBLIC, arrives=arrives))
    yield (
        f"    iifname {{ {ours} }} ip daddr {{ {', '.join(ways.ranges)} }} ct status & dnat == 0 "
        f"meta mark set {ways.mark:#x}"
    )
    if ways.probes:
        yield f"    iifname {{ {ours} }} ip daddr {{ {', '.join(ways.probes)} }} meta mark set {ways.mark:#x}"
    yield "  }"
    yield "  chain leaving {"
    yield f"    type nat hook postrouting priority {LEAVING}; policy accept;"
    yield from _indented(_sources(ours, ways))
    yield "  }"


def _sources(ours: str, ways: Ways) -> Iterator[str]:
    """Outside of its network a machine is known by its public address, or by that of a NAT gateway."""
    if not ways.outbound:
        return
    leaving = ", ".join(f"{private} : {public}" for private, public in ways.outbound.items())
    for which in ("ct status & dnat != 0", *fronts.unchanged(ways.fronts)):
        yield f"oifname {{ {ours} }} {which} snat to ip saddr map {{ {leaving} }}"
    # The clouds' own services know machines by their private addresses.
    served = sorted({target for target, _ in ways.services.values()})
    others = f"ip daddr != {{ {', '.join(served)} }} " if served else ""
    yield f'oifname "{ways.outside}" {others}snat to ip saddr map {{ {leaving} }}'


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"    {line}" for line in lines)


def _set(key: str, elements: list[str]) -> Iterator[str]:
    if elements:
        yield f"    {key} {{ {', '.join(elements)} }} accept"


def _next(machines: list[Machine]) -> Iterator[str]:
    if machines:
        ways = ", ".join(f"{one.address} : goto {_chain(one)}" for one in machines)
        yield f"    rt ip nexthop vmap {{ {ways} }}"


def _chain(machine: Machine) -> str:
    return f"to-{machine.name}"


def _machine(machine: Machine) -> Iterator[str]:
    yield f"  chain {_chain(machine)} {{"
    if not machine.forwards:
        yield f"    ip daddr != {machine.address} counter drop"
    yield "    ct state established,related accept"
    for guard in machine.guards:
        yield f"    {_rule(guard)}"
    yield "    counter drop"
    yield "  }"


def _rule(guard: Guard) -> str:
    words = [f"ip saddr {{ {', '.join(_apart(guard.sources))} }}"]
    if guard.protocol in ("tcp", "udp") and guard.ports:
        spans = [f"{low}-{high}" if low != high else str(low) for low, high in guard.ports]
        words.append(f"{guard.protocol} dport {{ {', '.join(spans)} }}")
    elif guard.protocol != "all":
        words.append(f"meta l4proto {guard.protocol}")
    return " ".join([*words, "accept" if guard.lets else "counter drop"])


def _apart(ranges: Iterable[str]) -> list[str]:
    """Without overlaps, which a set refuses."""
    return [str(one) for one in ipaddress.collapse_addresses(map(ipaddress.IPv4Network, ranges))]
