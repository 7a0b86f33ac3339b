"""`datapath capture` without a kernel; with one: tests/bpf/host/test_sampled_host.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from xds_agent.cli import capture as module
from xds_agent.cli.capture import _Run


@pytest.mark.parametrize("by_signal", [True, False])
def test_what_came_just_before_the_end_is_captured(monkeypatch: pytest.MonkeyPatch, by_signal: bool) -> None:
    """The ring is read every now and then: what came after such a read waits in it."""
    now, came = 0.0, [["first"], ["last"], ["too late"]]
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    ask: Any = None
    run = _Run({"services": []}, ask, seconds=10.0, sockets=False)

    def read() -> list[Any]:
        nonlocal now
        if by_signal:
            run._stop()
        else:
            now = 10.0
        return [SimpleNamespace(name=name, leaving=False) for name in came.pop(0)]

    tap: Any = SimpleNamespace(read=read)
    run.tap = tap
    found: list[Any] = list(run.samples())
    assert [one.name for one in found] == ["first", "last"] and run.captured == 2
