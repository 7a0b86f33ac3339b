"""Who answers, on a machine that stands still now and then; with a kernel: tests/bpf/host/test_lockout.py."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from types import SimpleNamespace

import pytest

from xds_agent.node.datapath import lockout, network
from xds_agent.node.datapath.network import Network

GATEWAY = (ip_address("192.0.2.1"), 2)
MAC = bytes([2, 0, 0, 0, 0, 1])


class Clock:
    """A machine that stands still for a minute in its first look, before the answer can come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, answers: bool) -> None:
        self.now, self.looks, self.answers = 0.0, 0, answers
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=lambda seconds: None)
        for module in (lockout, network):
            monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(Network, "__enter__", lambda network: network)
        monkeypatch.setattr(Network, "__exit__", lambda *_: None)
        monkeypatch.setattr(Network, "probe", lambda *_: None)
        monkeypatch.setattr(Network, "is_reachable", lambda *_: self.look())
        found = SimpleNamespace(mac=MAC)
        monkeypatch.setattr(Network, "_neighbours", lambda _: {GATEWAY: found} if self.look() else {})
        monkeypatch.setattr(network, "_knock", lambda *_: None)

    def look(self) -> bool:
        self.now += 60.0
        self.looks += 1
        return self.answers and self.looks > 1


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize(
    "heard",
    [
        lambda: lockout._silent([GATEWAY], 2.0) == [],
        lambda: lockout._answers(Network(), GATEWAY, 2.0),
        lambda: Network().macs([GATEWAY], wait=True) == {GATEWAY: MAC},
    ],
    ids=["after", "before", "mac"],
)
def test_who_answered_while_the_agent_stood_still_is_not_called_silent(
    monkeypatch: pytest.MonkeyPatch, heard: Callable[[], bool], answers: bool
) -> None:
    """Only a look that began after the patience is held against anybody."""
    clock = Clock(monkeypatch, answers=answers)
    assert heard() is answers and clock.looks == 2
