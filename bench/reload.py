"""What a reload costs traffic: generations exchanged on a pinned link under a flood over a veth pair.

`unfiltered` are packets of a denied source that reached the kernel, `lost` those that no counter of ours saw;
`reloads` are updates of the link between two loaded generations that share their maps.
"""

from __future__ import annotations

import subprocess
import time
from ipaddress import IPv4Network

from bench.wires import NEAR, Flood, Wire, settled
from bench.xdp_objects import BUILD
from tests.bpf.support.packets import UDP, Packet
from xds_agent.datapath.acl import AccessLists
from xds_agent.datapath.counters import Counters
from xds_agent.datapath.link import Link
from xds_agent.datapath.program import Features, Generation, Sizes, load

NAME = "reload"
GOALS = {"lost": ("==", 0.0), "unfiltered": ("==", 0.0), "reloads": (">=", 50.0)}
_PROGRAM = BUILD / "xdp_main.bpf.o"
_SIZES, _FEATURES = Sizes(services=64, reals=64), Features(limit_seed=1, balance_seed=2)
DENIED = IPv4Network("198.51.100.0/24")


def measure(*, quick: bool = False) -> dict[str, float]:
    """Packets sent, lost, unfiltered; the reloads meanwhile; and how fast the flood was."""
    subprocess.run(["make", "-s", "-C", str(BUILD.parent)], check=True)
    packets = 2_000_000 if quick else 20_000_000
    first = load(_PROGRAM, sizes=_SIZES, features=_FEATURES)
    second = load(_PROGRAM, sizes=_SIZES, features=_FEATURES, predecessor=first)
    lists = AccessLists(first)
    lists.replace([(DENIED, lists.classes["deny"])])
    with Wire() as wire:
        link = wire.attach(first)
        try:
            return _exchange(link, (second, first), wire, packets)
        finally:
            link.close()
            second.close()
            first.close()


def denied_frame(wire: Wire) -> bytes:
    """A datagram for the near end from a source on the deny list."""
    return Packet(
        source=str(DENIED[7]),
        destination=NEAR,
        protocol=UDP,
        dport=9,
        source_mac=wire.far_mac,
        destination_mac=wire.near_mac,
        payload=bytes(18),
    ).bytes()


def dropped(generation: Generation) -> int:
    """Packets denied so far."""
    found = Counters(generation).service(0).get("drop_denied")
    return found.packets if found else 0


def _exchange(
    link: Link, generations: tuple[Generation, Generation], wire: Wire, packets: int
) -> dict[str, float]:
    before, updates, started = wire.udp_arrivals(), 0, time.monotonic()
    with Flood(wire, denied_frame(wire), packets) as flood:
        while flood.is_alive():
            link.update(generations[updates % 2])
            updates += 1
    took_s = time.monotonic() - started
    seen = settled(lambda: dropped(generations[0]), packets)
    return {
        "packets": float(packets),
        "lost": float(packets - seen),
        "unfiltered": float(wire.udp_arrivals() - before),
        "reloads": float(updates),
        "flood_mpps": packets / took_s / 1e6,
    }
