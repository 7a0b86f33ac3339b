"""Waiting for control hosts to settle who leads."""

from __future__ import annotations

import asyncio
import re

from tests.support.serve_process import ServeProcess


def figure(host: ServeProcess, name: str) -> float:
    """One figure of a control host's /metrics."""
    return figure_of(host.metrics(), name)


def figure_of(metrics: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
    assert found is not None, f"{name} is not in:\n{metrics[:3000]}"
    return float(found[1])


async def until_leading(host: ServeProcess, patience_s: float = 60.0) -> None:
    """Until this host leads."""
    async with asyncio.timeout(patience_s):
        while await asyncio.to_thread(figure, host, "marchproxy_leading") != 1:  # noqa: ASYNC110  the host is another process
            await asyncio.sleep(0.1)
