"""Two networks with a router between them, in namespaces of their own, and the lab's WAN on the router."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lab.place import Place, digest_of
from lab.wan import running
from lab.wan.running import Side
from lab.wan.table import Met, Way
from tests.bpf.support.network import Network

T = TypeVar("T")
LEFT, RIGHT = "192.0.2.2", "198.51.100.2"
SIDES = {
    "left": Side("left", ("left",), ("192.0.2.0/24",)),
    "right": Side("right", ("right",), ("198.51.100.0/24",)),
}
THERE, BACK = ("left", "right"), ("right", "left")


@dataclass(frozen=True)
class FarNetworks:
    """`left` and `right`, as far apart as `set` says."""

    network: Network
    place: Place

    def set(self, there: Way, back: Way) -> None:
        ways = {at: way for at, way in ((THERE, there), (BACK, back)) if not way.is_short}
        self.on_router(lambda: running.apply(self.place, ways, SIDES))

    def met(self) -> dict[tuple[str, str], tuple[Way, Met]]:
        return self.on_router(lambda: running.state(self.place, SIDES))

    def on_router(self, work: Callable[[], T]) -> T:
        return self.network.inside("router", work)

    def bound(self, host: str, kind: socket.SocketKind, *, timeout_s: float = 60.0) -> socket.socket:
        """A socket of a host, bound to its address and a free port."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET, kind)
            made.bind((LEFT if host == "left" else RIGHT, 0))
            made.settimeout(timeout_s)
            return made

        return self.network.inside(host, make)


@contextmanager
def far_networks(folder: Path) -> Iterator[FarNetworks]:
    """Needs root. Nothing of it stays."""
    place = Place(folder, "lab", f"mp{digest_of(folder)}-lab", 128, (), (), folder)
    network = Network()
    made = FarNetworks(network, place)
    try:
        for name in ("left", "router", "right"):
            network.host(name)
        for name, address in (("left", LEFT), ("right", RIGHT)):
            gateway = f"{address.rpartition('.')[0]}.1"
            network.join(name, "router")
            network.address(name, "router", f"{address}/24")
            network.address("router", name, f"{gateway}/24")
            network.run(name, f"ip route add default via {gateway}")
        network.settle()
        yield made
    finally:
        if "router" in network.names:
            made.on_router(lambda: running.stop(place))
        network.close()
