"""A cloud that is merely slow, connections opening and the health path green, is left by real Envoy."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import failover

pytestmark = pytest.mark.timeout(240)


async def test_backends_that_are_slow_to_a_lone_client_are_ejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two of its timeouts a connection opens each time: that must not count as a success."""
    monkeypatch.setattr(failover, "CLIENTS", 1)
    async with failover._edge(tmp_path) as edge:
        # Backends, client and control are of this process: no pause of it may spend all tries of a request.
        edge.per_try_timeout, edge.timeout, edge.patience_s = "2s", "20s", 60.0
        await edge.apply({"algorithm": "weighted", "mode": "active-passive"}, retries=3)
        slow = {one.port for one in edge._first()}
        async with edge.load() as met:
            edge.fault("slow")
            await edge._until(lambda out: out == slow)
            edge.fault("")
            await edge.well()
    assert met.requests and not met.failed, met.words
