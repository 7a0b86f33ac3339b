"""Control's gRPC server: ADS for nodes and plain xDS clients, Report and Renew, all over one mTLS port."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc

from xds_agent.ads.credentials import server_credentials
from xds_agent.ads.gate import Gate, Refusal
from xds_agent.ads.reports import OnReport, Reports
from xds_agent.ads.revocations import Revocations
from xds_agent.ads.server import SERVER_OPTIONS, GrpcTransport
from xds_agent.pki.issuer import Issuer
from xds_agent.pki.renewal import RenewalHandler
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.protocol.boundary import Action, Core

log = logging.getLogger(__name__)


class ListenError(Exception):
    """The port could not be opened; the words name it."""


@dataclass(frozen=True)
class ServerSettings:
    """Where control listens for nodes and what it proves itself with."""

    address: str
    port: int
    trust_domain: str
    certificate: Path
    key: Path
    ca: Path
    crl: Path | None = None


class ControlServer:
    """A started server; `carry_out` hands it what the core answers to publish and revoke."""

    def __init__(
        self, server: grpc.aio.Server, transport: GrpcTransport, reports: Reports, port: int,
        tasks: list[asyncio.Task[None]],
    ) -> None:  # fmt: skip
        self._server = server
        self._transport = transport
        self._reports = reports
        self._tasks = tasks
        self.port = port

    @property
    def open_streams(self) -> int:
        return self._transport.open_streams

    def carry_out(self, actions: Iterable[Action]) -> None:
        """Event-loop thread only."""
        self._transport.carry_out(actions)

    def ask(self, names: Collection[str]) -> None:
        """Let these nodes report at once, counters and all."""
        self._reports.ask(names)

    def tell(self, names: Collection[str], response: pb.ReportResponse) -> None:
        """Send this to these nodes on their Report streams."""
        self._reports.tell(names, response)

    async def stop(self, grace_s: float = 5.0) -> None:
        """GOAWAY to every node, end their streams so that they go elsewhere, wait for what is in flight."""
        for task in self._tasks:
            task.cancel()
        self._transport.close_all("control stops")
        self._transport.stop()
        await self._server.stop(grace_s)


async def serve(
    core: Core, settings: ServerSettings, *, on_report: OnReport,
    on_refused: Callable[[Refusal], None] = lambda refusal: None,
    issuer: Issuer | Callable[[], Issuer] | None = None, held: Callable[[str], bool] = lambda name: True,
    more: Callable[[Gate], grpc.GenericRpcHandler] | None = None,
    on_seen: Callable[[str, str, dt.datetime], None] = lambda name, serial, until: None,
    before_renewal: Callable[[], Awaitable[None]] | None = None,
) -> ControlServer:  # fmt: skip
    """Start serving `core` in the running loop.

    `issuer` (or what loads one, called for each request) lets nodes renew their certificates here, those
    whose names are `held`, after `before_renewal`, which brings the newest revocation list. `more` adds a
    service behind the same admission.
    Raises OSError when PKI files cannot be read and ListenError when the port cannot be opened.
    """
    gate = Gate(settings.trust_domain, Revocations(settings.crl), on_refused=on_refused, on_seen=on_seen)
    transport = GrpcTransport(core, gate=gate)
    renewal = _renewal(issuer, settings, held, on_seen)
    reports = Reports(gate, on_report, renewal=renewal, before_renewal=before_renewal)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((transport.handler(), reports.handler()))
    if more is not None:
        server.add_generic_rpc_handlers((more(gate),))
    host = f"[{settings.address}]" if ":" in settings.address else settings.address
    where = f"{host}:{settings.port}"
    try:
        port = server.add_secure_port(
            where, server_credentials(settings.certificate, settings.key, settings.ca)
        )
    except RuntimeError as error:
        raise ListenError(f"cannot listen on {where}: {error}") from error
    await server.start()
    tasks = [
        asyncio.create_task(gate.run(), name="ads-gate"),
        asyncio.create_task(reports.run(), name="ads-reports"),
    ]
    return ControlServer(server, transport, reports, port, tasks)


def _renewal(
    issuer: Issuer | Callable[[], Issuer] | None,
    settings: ServerSettings,
    held: Callable[[str], bool],
    on_seen: Callable[[str, str, dt.datetime], None],
) -> RenewalHandler | None:
    if issuer is None:
        return None
    source = issuer

    def load() -> Issuer:
        return source if isinstance(source, Issuer) else source()

    return RenewalHandler(
        load,
        trust_domain=settings.trust_domain,
        ca=settings.ca,
        crl=settings.crl,
        held=held,
        on_renewed=on_seen,
    )
