"""The agent's HTTP port (8082): /healthz for probes, /metrics for Prometheus.

/metrics is our own figures followed by Envoy's, filtered: Envoy has thousands of statistics per cluster, and
an operator asks a few of them. `ENVOY_STATS` names what passes; everything else stays on the admin socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from typing import Any

import uvicorn
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    generate_latest,
)

from xds_agent.node.admin import Admin, AdminError
from xds_agent.node.figures import ENVOY_STATS, Figures

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """uvicorn that leaves the process' signals to the agent."""

    @contextmanager
    def capture_signals(self) -> Any:
        with nullcontext():
            yield


class MetricsServer:
    """Serves the two paths; `healthy()` returns "" or the words of what is wrong."""

    def __init__(
        self, figures: Figures, admin: Admin, healthy: Callable[[], str], *,
        address: str, port: int, refresh: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._figures = figures
        self._admin = admin
        self._healthy = healthy
        self._refresh = refresh
        config = uvicorn.Config(
            self._app, host=address, port=port, loop="none", interface="asgi3", lifespan="off", ws="none",
            log_config=None, access_log=False, server_header=False, limit_concurrency=64,
            timeout_keep_alive=15,
        )  # fmt: skip
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Returns once the port is open. Raises OSError when it cannot be."""
        self._task = asyncio.create_task(self._run(), name="metrics")
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise OSError("the metrics port could not be opened")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            await self._server.serve()
        except SystemExit as error:
            # uvicorn ends the process where it cannot bind; the agent rather goes on without its metrics.
            config = self._server.config
            raise OSError(f"cannot listen on {config.host}:{config.port}") from error

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        status, kind, body = await self._answer(scope["method"], scope["path"])
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, method: str, path: str) -> tuple[int, str, bytes]:
        if method not in ("GET", "HEAD"):
            return 405, "text/plain", b"GET only\n"
        if path == "/healthz":
            words = self._healthy()
            return (503, "text/plain", f"{words}\n".encode()) if words else (200, "text/plain", b"ok\n")
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, await self._metrics()
        return 404, "text/plain", b"/healthz and /metrics are here\n"

    async def _metrics(self) -> bytes:
        self._refresh()
        ours = generate_latest(self._figures.registry)
        try:
            return ours + await self._admin.prometheus(ENVOY_STATS)
        except AdminError as error:
            log.info("metrics without Envoy's: %s", error)
            return ours
