"""`xds-agent serve`: one event loop with the store, the pipeline, the ADS server and the API."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import uvicorn

from xds_agent.ads.control import ServerSettings
from xds_agent.ads.control import serve as serve_ads
from xds_agent.ads.reports import Report
from xds_agent.api.app import create_open_app
from xds_agent.api.config import ServeConfig
from xds_agent.api.hosts import Hosts
from xds_agent.api.metrics import ControlMetrics
from xds_agent.api.operations import Operations
from xds_agent.api.recorder import Recorder
from xds_agent.api.sockets import PeerProtocol, open_socket
from xds_agent.node.notify import notify, watchdog_interval_s
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.rollout.material import SiteCa
from xds_agent.rollout.orders import Orders
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.rollout.publisher import Publisher
from xds_agent.rollout.questions import ask_canary
from xds_agent.rollout.remade import Remaking
from xds_agent.rollout.shadow import Shadows
from xds_agent.rollout.steerer import Steerer
from xds_agent.store import Store, nodes

log = logging.getLogger(__name__)

# A change that is being applied when SIGTERM comes may still end.
DRAIN_S = 20


class _Api(uvicorn.Server):
    """uvicorn without its own signal handling: one handler drains everything."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(config: ServeConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises StoreError, SealError, SocketError, ListenError, OSError."""
    import uvloop

    uvloop.run(serve(config))


async def serve(config: ServeConfig, stopping: asyncio.Event | None = None) -> None:
    """Serve in the running loop until `stopping` is set (by default: by a signal)."""
    stop = stopping or _stop_on_signals()
    config.state_dir.mkdir(parents=True, exist_ok=True)
    store = await asyncio.to_thread(Store.open, config.database_url, config.key_file)
    try:
        await _serve_store(config, store, stop)
    finally:
        store.close()


async def _serve_store(config: ServeConfig, store: Store, stop: asyncio.Event) -> None:
    publisher = Publisher()
    pipeline = Pipeline(store, publisher, _site_ca(config), shadows=_shadows(config, store))
    orders = Orders(pipeline)
    steerer = Steerer(pipeline, leads=lambda: hosts.member.leading)
    recorder = Recorder(store, publisher, pipeline.vitals, pipeline.words_of, lambda: hosts.member.leading)
    metrics = ControlMetrics(pipeline, orders, lambda: hosts.member.leading, recorder.certificates)

    def reported(name: str, report: Report) -> None:
        recorder.reported(name, report)
        if isinstance(report, pb.Answer):
            pipeline.questions.heard(name, report)
        steerer.heard(name, report)

    def counted(outcome: str) -> None:
        metrics.applies.labels(outcome).inc()

    hosts = Hosts(config, store, pipeline, reported, counted, metrics.drifted)
    publisher.listeners += [recorder.heard, metrics.heard]
    # The last good revision is in the core before any port is open.
    started = time.monotonic()
    hosts.member.before_boot = steerer.load
    await hosts.member.start()
    # What imports and the first compilation made lives for ever: no collection needs to walk it again.
    gc.collect()
    gc.freeze()
    if pipeline.live is not None:
        log.info("serving revision %d after %.2f s", pipeline.live.number, time.monotonic() - started)

    def count_refused(refusal: Any) -> None:
        metrics.refused_peers.inc()
        recorder.refused(refusal)

    operations = Operations(pipeline, lambda: hosts.member.leading)
    ads = await serve_ads(
        publisher.core, _settings(config), on_report=hosts.hear, on_refused=count_refused,
        issuer=pipeline.ca.issuer if config.issuing_ca else None, held=pipeline.holds,
        more=hosts.lead.handler, on_seen=recorder.seen, before_renewal=operations.take_list,
    )  # fmt: skip
    hosts.attach(ads)
    steerer.tell = hosts.tell
    pipeline.ask_canary = functools.partial(ask_canary, pipeline.questions)
    remaking = Remaking(pipeline, counted)
    try:
        chores = [
            recorder.run, hosts.member.run, operations.run, lambda: hosts.member.while_leading(orders.run),
            lambda: hosts.member.while_leading(remaking.run),
            steerer.run, _watchdog,
        ]  # fmt: skip
        await _serve_api(config, pipeline, metrics, hosts, chores, stop, ads.port)
    finally:
        await hosts.member.stop()
        # GOAWAY: the nodes go to another control host, or keep what they have.
        await ads.stop()
        if pipeline.shadows is not None:
            await pipeline.shadows.stop()
        await recorder.flush()


async def _serve_api(
    config: ServeConfig, pipeline: Pipeline, metrics: ControlMetrics, hosts: Hosts,
    chores: Sequence[Callable[[], Coroutine[Any, Any, None]]], stop: asyncio.Event, port: int,
) -> None:  # fmt: skip
    apis = _apis(config, pipeline, metrics, hosts)
    serving = [asyncio.create_task(api.serve(sockets=[listener])) for api, listener in apis]
    tasks = [asyncio.create_task(chore()) for chore in chores]
    await _until_started(apis, serving)
    notify("READY=1")
    log.info("control %s: nodes on %s:%d", config.name, config.grpc.address, port)
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait([waiting, *serving, *tasks], return_when=asyncio.FIRST_COMPLETED)
    broken = [task for task in (*serving, *tasks) if task.done()]
    notify("STOPPING=1")
    # No new request; a change that is being applied may end.
    for api, _listener in apis:
        api.should_exit = True
    await asyncio.wait(serving, timeout=DRAIN_S + 5)
    for task in (waiting, *serving, *tasks):
        task.cancel()
    await asyncio.gather(waiting, *serving, *tasks, return_exceptions=True)
    for entry in config.sockets:
        entry.path.unlink(missing_ok=True)
    for task in broken:
        task.result()


def _apis(
    config: ServeConfig, pipeline: Pipeline, metrics: ControlMetrics, hosts: Hosts
) -> list[tuple[_Api, socket.socket]]:
    apis = []
    for entry in config.sockets:
        tenants = None if entry.tenants == "all" else frozenset(entry.tenants)
        apis.append((_api(hosts.api(tenants)), open_socket(entry)))
    listener = socket.create_server(
        (config.http.address, config.http.port), family=_family(config.http.address), backlog=128
    )
    listener.setblocking(False)
    # Open to the network: idle or many connections must not use up what serve needs.
    open_app = create_open_app(pipeline, metrics.text)
    apis.append((_api(open_app, limit_concurrency=64, timeout_keep_alive_s=5), listener))
    return apis


def _api(app: Any, *, limit_concurrency: int | None = None, timeout_keep_alive_s: int = 60) -> _Api:
    return _Api(
        uvicorn.Config(
            app,
            http=PeerProtocol,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=DRAIN_S,
            limit_concurrency=limit_concurrency,
            timeout_keep_alive=timeout_keep_alive_s,
        )
    )


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


async def _until_started(apis: list[tuple[_Api, socket.socket]], tasks: list[asyncio.Task[None]]) -> None:
    while not all(api.started for api, _ in apis):
        if any(task.done() for task in tasks):
            return
        await asyncio.sleep(0.01)


async def _watchdog() -> None:
    interval = watchdog_interval_s()
    while True:
        await asyncio.sleep(interval or 3600.0)
        if interval:
            notify("WATCHDOG=1")


def _site_ca(config: ServeConfig) -> SiteCa:
    issuing = config.issuing_ca
    return SiteCa(
        ca=config.tls.ca,
        crl=config.tls.crl,
        issuing_certificate=issuing.certificate if issuing else None,
        issuing_key=issuing.key if issuing else None,
    )


def _shadows(config: ServeConfig, store: Store) -> Shadows | None:
    if config.shadow is None:
        return None

    def read() -> dict[str, str]:
        with store.read() as session:
            return {name: row["facts"].get("envoy", "") for name, row in nodes.all_nodes(session).items()}

    async def versions() -> dict[str, str]:
        return await asyncio.to_thread(read)

    return Shadows(
        config.shadow.envoy, config.shadow.directory, before=config.shadow.before, versions=versions
    )


def _settings(config: ServeConfig) -> ServerSettings:
    return ServerSettings(
        address=config.grpc.address, port=config.grpc.port, trust_domain=config.trust_domain,
        certificate=config.tls.certificate, key=config.tls.key, ca=config.tls.ca, crl=config.tls.crl,
    )  # fmt: skip


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
