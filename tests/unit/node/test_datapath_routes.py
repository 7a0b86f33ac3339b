"""Next hops are asked for once, until the kernel says that something of routes changed."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from xds_agent.node.datapath.network import Address, Hop, Network
from xds_agent.node.datapath.routes import NetlinkEvents, Routes
from xds_agent.node.datapath.wanted import RealKey, Wanted, WantedReal, WantedService

A, B = ip_address("10.1.0.1"), ip_address("10.1.0.2")
MAC, OTHER = bytes([2, 0, 0, 0, 0, 1]), bytes([2, 0, 0, 0, 0, 2])


class Kernel:
    """What would answer; `asked` counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hops: list[Address] = []
        self.neighbours = 0
        self.mac = MAC
        self.events = 0
        monkeypatch.setattr(Network, "__enter__", lambda network: network)
        monkeypatch.setattr(Network, "__exit__", lambda *_: None)
        monkeypatch.setattr(Network, "hop", lambda _, address: self._hop(address))
        monkeypatch.setattr(Network, "macs", lambda _, hops, wait: self._macs(set(hops)))
        monkeypatch.setattr(NetlinkEvents, "count", lambda _: self.events)

    def _hop(self, address: Address) -> Hop:
        self.hops.append(address)
        return Hop(7, None)

    def _macs(self, hops: set[tuple[Address, int]]) -> dict[tuple[Address, int], bytes]:
        self.neighbours += bool(hops)
        return dict.fromkeys(hops, self.mac)


def wanted(**reals: Address) -> Wanted:
    return Wanted(
        {
            name: WantedService(name, "gue", (), (WantedReal(RealKey(address, 0), 1, 0),))
            for name, address in reals.items()
        }
    )


def test_a_change_asks_only_about_reals_that_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, routes = Kernel(monkeypatch), Routes(NetlinkEvents())
    first = routes.ways(wanted(a=A), [7], known={}, wait=True)
    assert (kernel.hops, first.macs, first.astray(wanted(a=A))) == ([A], {A: MAC}, {})
    same = routes.ways(wanted(a=A, b=A), [7], known=first.macs, wait=True)
    assert (kernel.hops, kernel.neighbours, same.macs) == ([A], 1, {A: MAC})
    more = routes.ways(wanted(a=A, b=B), [7], known=first.macs, wait=True)
    assert (kernel.hops, more.macs, more.wanted) == ([A, B], {A: MAC, B: MAC}, {A, B})
    fewer = routes.ways(wanted(b=B), [7], known=more.macs, wait=True)
    assert (fewer.macs, fewer.hops.keys()) == ({B: MAC}, {B})


def test_after_a_word_of_the_kernel_everything_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """MACs too: behind another gateway the one that was known is somebody else's."""
    kernel, routes = Kernel(monkeypatch), Routes(NetlinkEvents())
    before = routes.ways(wanted(a=A), [7], known={}, wait=True)
    kernel.events, kernel.mac = 1, OTHER
    assert routes.ways(wanted(a=A), [7], known=before.macs, wait=True).macs == {A: OTHER}
    assert kernel.hops == [A, A]


def test_every_look_asks_about_a_few_that_nothing_was_said_about(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, routes = Kernel(monkeypatch), Routes(NetlinkEvents())
    for _ in range(2):
        routes.ways(wanted(a=A), [7], known={}, wait=False)
    assert kernel.hops == [A, A] and kernel.neighbours == 2


def test_who_hears_nothing_of_the_kernel_takes_all_for_changed() -> None:
    """By the real socket. That addresses are followed, tests/bpf/host/test_lockout.py shows on a host."""
    events = NetlinkEvents()
    first = events.count()
    assert events.count() >= first
    events.close()
    assert events.count() != first
    events.close()
