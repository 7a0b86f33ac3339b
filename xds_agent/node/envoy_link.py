"""This host's Envoy as the agent deals with it: its ADS server on a Unix socket, its admin, its state.

`apply` brings Envoy to a set and returns how that ended; everything the protocol decides is LocalCore's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from xds_agent.ads.server import SERVER_OPTIONS, GrpcTransport
from xds_agent.node.admin import Admin, AdminError
from xds_agent.protocol.boundary import Action
from xds_agent.protocol.local import (
    Active,
    Complained,
    EnvoyConnected,
    EnvoyGone,
    LocalCore,
    LocalOutcome,
    PollRejected,
    Refused,
)
from xds_agent.snapshot.resource import SHORT, Snapshot

log = logging.getLogger(__name__)

SOCKET_MODE = 0o660
# Without any progress for so long Envoy has stalled, which is a refusal.
STALL_S = 10.0
# How long clusters stay, at least, for requests that are on their way to them.
LINGER_S = 1.0
# How often Envoy is asked whether it is LIVE: quickly while it starts, seldom once it is.
_STARTING_S = 0.005
_STARTING_MOST_S = 0.05
_LIVE_S = 1.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Envoy did not take a set, and is back on the one before."""

    type_url: str
    names: tuple[str, ...]
    words: str


class EnvoyLink:
    """Serves `held` to Envoy from the start; later sets through `apply`, one at a time."""

    def __init__(
        self, held: Snapshot, *, xds_socket: Path, admin: Admin, unfinished: Iterable[str] = (),
        on_change: Callable[[], None] = lambda: None, linger_s: float = LINGER_S,
        stall_s: float = STALL_S,
    ) -> None:  # fmt: skip
        self.core = LocalCore(held, self._note, unfinished=unfinished, linger_s=linger_s, stall_s=stall_s)
        self.admin = admin
        self.state = "AWAY"
        # Whether Envoy ever opened a stream.
        self.met = False
        self._socket = xds_socket
        self._on_change = on_change
        self._transport = GrpcTransport(self.core)
        self._server: grpc.aio.Server | None = None
        self._verdict: asyncio.Future[Refusal | None] | None = None
        self._awaited = ""
        self._watch: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on the Unix socket. Raises OSError when that is not possible."""
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        server = grpc.aio.server(options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers((self._transport.handler(),))
        try:
            server.add_insecure_port(f"unix:{self._socket}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._socket}: {error}") from error
        self._socket.chmod(SOCKET_MODE)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """End Envoy's stream; it keeps serving what it has."""
        for task in (*self._tasks, *filter(None, (self._watch,))):
            task.cancel()
        self._transport.close_all("the node agent stops")
        self._transport.stop()
        if self._server is not None:
            await self._server.stop(0.5)

    async def apply(
        self, target: Snapshot, changed: Mapping[str, Iterable[str]] | None = None
    ) -> Refusal | None:
        """Bring Envoy to `target`; None once it is active and LIVE, else why not (and Envoy is back on the
        set before). Waits for an Envoy that is away or starting."""
        verdict: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        self._verdict = verdict
        self._awaited = target.revision
        self._transport.carry_out(self.core.set_target(target, changed))
        return await verdict

    def _note(self, outcome: LocalOutcome) -> None:
        """LocalCore's callback: only notes and starts tasks, since the core is still at work."""
        match outcome:
            case EnvoyConnected(stream=stream):
                self.met = True
                self._follow(stream)
            case EnvoyGone(reason=reason):
                log.info("Envoy's stream ended: %s", reason)
                if self._watch is not None:
                    self._watch.cancel()
                self._set_state("AWAY")
            case PollRejected():
                self._spawn(self._report_rejected())
            case Active(snapshot=snapshot):
                self._settle(snapshot, None)
            case Refused(snapshot=snapshot, type_url=type_url, names=names, words=words):
                self._settle(snapshot, Refusal(type_url, names, words))
            case Complained(type_url=type_url, names=names, words=words):
                log.error("Envoy: %s %s: %s", SHORT.get(type_url, type_url), ", ".join(names), words)

    def _settle(self, snapshot: Snapshot, refusal: Refusal | None) -> None:
        verdict = self._verdict
        if verdict is not None and not verdict.done() and snapshot.revision == self._awaited:
            verdict.set_result(refusal)

    def _follow(self, stream: int) -> None:
        log.info("Envoy opened stream %d", stream)
        if self._watch is not None:
            self._watch.cancel()
        self._watch = asyncio.create_task(self._watch_state(), name="envoy-state")

    async def _watch_state(self) -> None:
        """Wait until Envoy is LIVE, say so to the core, then look every second whether it still is."""
        live = False
        pause_s = _STARTING_S
        while True:
            state = await self.admin.state()
            self._set_state(state)
            if (state == "LIVE") != live:
                live = state == "LIVE"
                if live:
                    await self._report_rejected()
                self._do(self.core.ready(live))
            pause_s = _LIVE_S if live else min(pause_s * 1.5, _STARTING_MOST_S)
            await asyncio.sleep(pause_s)

    async def _report_rejected(self) -> None:
        try:
            count: int | None = await self.admin.rejected_clusters()
        except AdminError as error:
            log.info("%s", error)
            count = None
        self._do(self.core.rejected(count))

    def _do(self, actions: list[Action]) -> None:
        self._transport.carry_out(actions)

    def _set_state(self, state: str) -> None:
        if state != self.state:
            log.info("Envoy is %s", state)
            self.state = state
            self._on_change()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
