"""The node agent: one host's revision, from control to disk and Envoy.

Boot: replay the journal, serve that set to Envoy at once, then look for control. A revision that is whole is
written to the journal, brought to Envoy while the disk syncs, committed, and only then acknowledged; whatever
stands in the way (Envoy's refusal, a full disk) refuses it in words, with the set before still served.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import uvloop

import xds_agent
from xds_agent.ads.client import DELTA_METHOD, Target, Upstream, answers
from xds_agent.ads.credentials import channel_credentials
from xds_agent.node.abilities import hello
from xds_agent.node.admin import Admin, AdminError
from xds_agent.node.bringing import Bringing, sentence
from xds_agent.node.config import NodeConfig
from xds_agent.node.envoy_link import EnvoyLink
from xds_agent.node.journal import Journal, alone
from xds_agent.node.no_envoy import STATE as NO_ENVOY
from xds_agent.node.no_envoy import NoEnvoy
from xds_agent.node.notify import notify, watchdog_interval_s
from xds_agent.node.report import GATE_PATTERN, Reporter, gate_counters
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.protocol.assembly import Assembly, Complete
from xds_agent.protocol.wire import ProtocolError
from xds_agent.snapshot.resource import SHORT, TYPES

if TYPE_CHECKING:
    from xds_agent.node.datapath import DatapathLink
    from xds_agent.node.figures import Figures
    from xds_agent.node.measuring import Measuring
    from xds_agent.node.metrics import MetricsServer
    from xds_agent.node.probing import Prober

log = logging.getLogger(__name__)

VERSION = getattr(xds_agent, "__version__", "0.1.0")
# How long SIGTERM lets an apply that is under way come to its end.
FINISH_S = 5.0
# How long control has to refuse a first request before the others follow.
LET_IN_S = 0.05
# How long Envoy and the network wait for the datapath at boot, at most.
DATAPATH_FIRST_S = 10.0


class Agent:
    """All parts of one host's agent; `run` until `stop` is called."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.figures: Figures
        self.journal = Journal(config.state_dir)
        self.last_error = self.journal.problem
        held = self.journal.snapshot
        self.assembly = Assembly(held, config.name, VERSION)
        self.reporter = Reporter(self._hello, self._heartbeat, self._answer, self._assigned)
        self.prober: Prober
        self.measuring: Measuring
        self.admin = Admin(config.envoy.admin_socket)
        self.envoy: EnvoyLink | NoEnvoy = NoEnvoy(held)
        if config.envoy.present:
            self.envoy = EnvoyLink(
                held, xds_socket=config.envoy.xds_socket, admin=self.admin,
                unfinished=self.journal.unfinished, on_change=self.reporter.changed,
            )  # fmt: skip
        self.datapath: DatapathLink | None = None
        self._bringing: Bringing
        self.upstream = Upstream(
            [Target(address, name) for address, name in config.targets()], self._credentials, self._session
        )
        self.metrics: MetricsServer | None = None
        self._host: pb.Hello | None = None
        self._call: grpc.aio.StreamStreamCall | None = None
        self._target: Target | None = None
        self._writing = asyncio.Lock()
        self._sent = 0
        self._whole: Complete | None = None
        self._came = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let `run` come to its end."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until `stop`. Raises OSError when Envoy's socket cannot be opened."""
        await self.envoy.start()
        # Imported here, as others below: at boot, Envoy waits for nothing that it does not need.
        from xds_agent.node.figures import Figures
        from xds_agent.node.measuring import Measuring
        from xds_agent.node.probing import Prober

        self.figures = Figures()
        self.prober = Prober()
        self.measuring = Measuring(self.prober, self.reporter.changed)
        log.info("serving revision %s to Envoy", self.journal.snapshot.revision or "none")
        self.datapath = self._datapath_link()
        self._bringing = Bringing(self.journal, self.envoy, self.datapath, self.config.envoy.admin_socket)
        # From READY on systemd wants it, and thousands of services take a datapath longer than its patience.
        watchdog = asyncio.create_task(self._sign_of_life(), name="watchdog")
        if self.datapath is not None:
            # At boot the network and Envoy come after us: what arrives first is filtered already. Neither
            # waits for long, whatever ails the datapath.
            starting = asyncio.create_task(self.datapath.start(self.journal.snapshot), name="datapath start")
            await asyncio.wait([starting], timeout=DATAPATH_FIRST_S)
            notify("READY=1\nSTATUS=serving Envoy")
            await starting
            self.figures.show_datapath(self.datapath)
        else:
            notify("READY=1\nSTATUS=serving Envoy")
        work = [
            asyncio.create_task(self.upstream.run(), name="upstream"),
            asyncio.create_task(self._apply_each(), name="apply"),
            watchdog,
            asyncio.create_task(self.prober.run(), name="probes"),
        ]
        if self.datapath is not None:
            work.append(asyncio.create_task(self.datapath.run(), name="datapath"))
        try:
            await self._open_metrics()
            stopping = asyncio.create_task(self._stopping.wait())
            done, _ = await asyncio.wait((*work, stopping), return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
        finally:
            await self._shut_down(work)

    def unhealthy(self) -> str:
        """Words of what keeps this host from serving, or ""; being without control is no such thing."""
        if not self.journal.snapshot.revision:
            return "no revision has come yet"
        if self.envoy.state not in ("LIVE", NO_ENVOY):
            return f"Envoy is {self.envoy.state}"
        if self.datapath is not None and self.datapath.problem:
            return f"no datapath: {self.datapath.problem}"
        return ""

    async def _shut_down(self, work: list[asyncio.Task[None]]) -> None:
        notify("STOPPING=1")
        work[0].cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_S):
                await self._idle.wait()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await self.envoy.stop()
        if self.datapath is not None:
            await self.datapath.stop()
        if self.metrics is not None:
            await self.metrics.stop()
        self.journal.close()

    # ---- control

    def _credentials(self) -> grpc.ChannelCredentials:
        tls = self.config.tls
        return channel_credentials(tls.certificate, tls.key, tls.ca)

    async def _session(self, channel: grpc.aio.Channel, target: Target) -> None:
        """One stream with control, from the first requests to its end."""
        call = channel.stream_stream(DELTA_METHOD)()
        reporting: asyncio.Task[None] | None = None
        try:
            first, *others = self.assembly.open()
            await call.write(first)
            if await _let_in(call):
                for frame in others:
                    await call.write(frame)
                self._call, self._target = call, target
                log.info("control %s answers", target.name)
                self.figures.control_connected.set(1)
                self.upstream.last_error = ""
                reporting = asyncio.create_task(self.reporter.run(channel), name="report")
            while (data := await call.read()) is not grpc.aio.EOF:
                await self._take(data)
        except ProtocolError as error:
            log.error("control %s: %s", target.name, error)
        finally:
            self._call = None
            self.figures.control_connected.set(0)
            if reporting is not None:
                reporting.cancel()
            call.cancel()

    def _datapath_link(self) -> DatapathLink | None:
        if self.config.datapath is None:
            return None
        from xds_agent.node.datapath import DatapathLink
        from xds_agent.node.memory import give_back_large

        give_back_large()
        return DatapathLink(
            self.config.datapath, self.prober, control_answers=self._control_answers,
            runtime=self.config.runtime_dir, lasting=self.config.state_dir, on_change=self.reporter.changed,
            on_late_start=self._ask_again,
        )  # fmt: skip

    async def _ask_again(self) -> None:
        """Have control offer again what was refused: it does so on a new stream."""
        if self._call is not None and self.last_error:
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._call.done_writing()

    async def _control_answers(self) -> str:
        """ "" once control answers over a new connection, else why not."""
        if self._call is None or self._target is None:
            return "control is away, and without it nobody could take the change back"
        words = await answers(self._target, self._credentials())
        return f"control {self._target.name} does not answer: {words}" if words else ""

    async def _take(self, data: bytes) -> None:
        for item in self.assembly.on_response(data):
            if isinstance(item, Complete):
                self._whole = item
                self._came.set()
            else:
                await self._send(item)

    async def _send(self, frame: bytes | None) -> None:
        """Write upstream; a stream that just ended says the same again when it is opened next."""
        if frame is None or self._call is None:
            return
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with self._writing:
                await self._call.write(frame)

    # ---- revisions

    async def _apply_each(self) -> None:
        while True:
            await self._came.wait()
            self._came.clear()
            complete, self._whole = self._whole, None
            if complete is None:
                continue
            self._idle.clear()
            try:
                await self._apply(complete)
            finally:
                self._idle.set()

    async def _apply(self, complete: Complete) -> None:
        started = time.perf_counter()
        refusal = await self._bringing.bring(complete)
        if refusal is None:
            self.figures.applied.labels("active").inc()
            self.figures.apply_seconds.observe(time.perf_counter() - started)
            frame = self.assembly.accept(complete)
            self.last_error = ""
        else:
            self.last_error = sentence(refusal)
            log.error("refused revision %s: %s", complete.snapshot.revision, self.last_error)
            self.figures.applied.labels("refused").inc()
            frame = self.assembly.refuse(complete, refusal.words, refusal.type_url, refusal.names)
        await self._send(frame)
        self.reporter.changed()

    # ---- what others are told

    async def _hello(self) -> pb.Hello:
        if self._host is None:
            self._host = await asyncio.to_thread(hello, VERSION, "")
        said = pb.Hello()
        said.CopyFrom(self._host)
        with contextlib.suppress(AdminError):
            said.envoy_version = await self.admin.version()
        return said

    async def _heartbeat(self, counters: bool) -> pb.Heartbeat:
        said = pb.Heartbeat(
            active_revision=self.envoy.core.held.revision,
            envoy_state=self.envoy.state,
            last_error=self.last_error or self.measuring.problem,
            certificate_not_after=_not_after(self.config.tls.certificate),
        )
        said.endpoints.extend(self.measuring.report(whole=counters))
        if not counters:
            return said
        said.loads.extend(await self.measuring.loads(self.admin))
        with contextlib.suppress(AdminError):
            found = await self.admin.counters(GATE_PATTERN)
            for name, value in gate_counters(found).items():
                said.counters[name] = value
        return said

    def _assigned(self, assignment: pb.ProbeAssignment) -> None:
        self.measuring.assigned(assignment)

    async def _answer(self, question: pb.Question) -> pb.Answer:
        from xds_agent.node.questions import PATIENCE_S, answer

        admin = Admin(self.config.envoy.admin_socket, timeout_s=PATIENCE_S)
        return await answer(question, admin, self.config.tls, self.datapath)

    def _refresh(self) -> None:
        held = self.envoy.core.held
        for type_url in TYPES:
            self.figures.resources.labels(SHORT[type_url]).set(len(held.of_type(type_url)))
        self.figures.sent.inc(self.envoy.core.resources_sent - self._sent)
        self._sent = self.envoy.core.resources_sent
        self.figures.envoy_live.set(self.envoy.state == "LIVE")
        self.figures.journal_bytes.set(self.journal.size_bytes)
        self.figures.active.set(held.number)
        self.figures.certificate_not_after.set(_not_after(self.config.tls.certificate))

    async def _open_metrics(self) -> None:
        from xds_agent.node.metrics import MetricsServer

        metrics = MetricsServer(
            self.figures, self.admin, self.unhealthy, refresh=self._refresh,
            address=self.config.metrics.address, port=self.config.metrics.port,
        )  # fmt: skip
        try:
            await metrics.start()
            self.metrics = metrics
        except OSError as error:
            # An edge without its metrics still serves; systemd's log and the heartbeat say what is missing.
            self.last_error = f"no metrics: {error}"
            log.error("%s", self.last_error)

    async def _sign_of_life(self) -> None:
        interval_s = watchdog_interval_s()
        while interval_s is not None:
            notify("WATCHDOG=1")
            await asyncio.sleep(interval_s)
        await asyncio.Event().wait()


def run(config: NodeConfig) -> None:
    """`xds-agent node`, until SIGTERM or SIGINT. Raises OSError for a folder or socket it cannot use."""

    async def main() -> None:
        agent = Agent(config)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, agent.stop)
        # What the journal and the imports made lives for ever: no collection needs to walk it again.
        gc.collect()
        gc.freeze()
        await agent.run()

    with alone(config.state_dir):
        uvloop.run(main())


async def _let_in(call: grpc.aio.StreamStreamCall) -> bool:
    """False when control ends the stream over its first request: whoever then still writes is told of an
    "internal error" by grpcio, and not control's words. Silence means that we are in: control may have
    nothing to say, since we hold what it wants."""
    await call.initial_metadata()
    ended = asyncio.Event()
    call.add_done_callback(lambda _: ended.set())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LET_IN_S):
            await ended.wait()
    return not call.done()


def _not_after(certificate: Path) -> int:
    from cryptography import x509

    try:
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError):
        return 0
    return int(leaf.not_valid_after_utc.timestamp())
