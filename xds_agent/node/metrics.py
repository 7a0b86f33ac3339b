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
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from xds_agent.node.admin import Admin, AdminError

log = logging.getLogger(__name__)

# Regular expression over Envoy's statistic names (in Envoy's own form, before tags are cut out).
ENVOY_STATS = (
    r"^(server\.(live|uptime|concurrency|memory_.*|total_connections|days_until_first_cert_expiring|hot_restart.*)"
    r"|overload\..*"
    r"|listener_manager\.(total_listeners_.*|listener_create_.*|lds\.update_.*)"
    r"|cluster_manager\.(active_clusters|warming_clusters|cluster_.*|cds\.update_.*)"
    r"|control_plane\.connected_state"
    r"|listener\..*\.(downstream_cx_(total|active|overflow|overload_reject|destroy)"
    r"|downstream_global_cx_overflow|ssl\.(handshake|connection_error|fail_verify.*|no_certificate)"
    r"|no_filter_chain_match)"
    r"|http\..*\.(downstream_rq_(total|active|time|timeout|[1-5]xx|too_many_premature_resets|overload_close)"
    r"|downstream_cx_(total|active|http1_total|http2_total))"
    r"|tcp\..*\.(downstream_cx_(total|rx_bytes_total|tx_bytes_total)|max_downstream_connection_duration)"
    r"|udp\..*"
    r"|cluster\..*\.(upstream_rq_(total|active|time|timeout|retry|[1-5]xx|pending_overflow)"
    r"|upstream_cx_(total|active|connect_fail|overflow)|membership_(total|healthy|degraded)"
    r"|health_check\.(success|failure)|outlier_detection\.ejections_active))$"
)


class Figures:
    """Our own metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.applied = Counter(
            "marchproxy_revisions",
            "Revisions that came, by what became of them",
            ["outcome"],
            registry=registry,
        )
        self.apply_seconds = Histogram(
            "marchproxy_apply_seconds", "From a whole revision to Envoy serving it", registry=registry,
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
        )  # fmt: skip
        self.control_connected = Gauge(
            "marchproxy_control_connected", "1 while a stream to a control host is open", registry=registry
        )
        self.envoy_live = Gauge("marchproxy_envoy_live", "1 while Envoy says LIVE", registry=registry)
        self.resources = Gauge("marchproxy_resources", "Resources held, by type", ["type"], registry=registry)
        self.journal_bytes = Gauge(
            "marchproxy_journal_bytes", "Size of the journal on disk", registry=registry
        )
        self.certificate_not_after = Gauge(
            "marchproxy_certificate_not_after_seconds",
            "End of this host's certificate, Unix time",
            registry=registry,
        )
        self.active = Gauge(
            "marchproxy_active_revision_number", "Number of the revision Envoy serves", registry=registry
        )
        self.sent = Counter(
            "marchproxy_resources_sent", "Resources sent to Envoy, also unchanged ones", registry=registry
        )


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
