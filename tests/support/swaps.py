"""One Envoy under load, led through change after change: by our node agent, or by a type-ordered push."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc

from tests.support.control import Control
from tests.support.load import Load, Tally
from tests.support.processes import Node, until
from tests.support.site_pki import SitePki
from tests.support.swapping_site import NODE, SwappingSite
from tests.support.type_ordered import TypeOrdered
from xds_agent.ads.server import SERVER_OPTIONS, GrpcTransport
from xds_agent.protocol.control import Acknowledged
from xds_agent.snapshot.resource import Snapshot

# As tests start Envoy (`--drain-time-s`); what a change closes is gone a little after it.
DRAIN_S = 1.0


class Led:
    """Control here, the node agent and Envoy in processes of their own."""

    def __init__(self, folder: Path, pki: SitePki) -> None:
        self.control = Control(pki)
        self._folder, self._pki = folder, pki

    async def __aenter__(self) -> Led:
        await self.control.start()
        self.node = Node(self._folder, self._pki, NODE, [self.control.address])
        await self.node.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.node.close()
        await self.control.stop()

    async def apply(self, snapshot: Snapshot) -> None:
        self.control.outcomes.clear()
        answer = await self.control.apply(NODE, snapshot, patience_s=60)
        assert isinstance(answer, Acknowledged), answer


class Unled:
    """The same Envoy, served by a type-ordered push on its agent's socket."""

    def __init__(self, folder: Path, pki: SitePki, first: Snapshot) -> None:
        self.core = TypeOrdered(first)
        self._node = Node(folder, pki, NODE, ["127.0.0.1:1"])
        self._transport = GrpcTransport(self.core)
        self._server = grpc.aio.server(options=SERVER_OPTIONS)

    async def __aenter__(self) -> Unled:
        self._server.add_generic_rpc_handlers((self._transport.handler(),))
        self._server.add_insecure_port(f"unix:{self._node.config.envoy.xds_socket}")
        await self._server.start()
        await self._node.envoy.start()
        await self._node.envoy.live()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._node.close()
        self._transport.close_all()
        await self._server.stop(0.2)

    async def apply(self, snapshot: Snapshot) -> None:
        self._transport.carry_out(self.core.push(snapshot))
        await until(lambda: self.core.settled, patience_s=60)


async def drive(
    edge: Led | Unled, site: SwappingSite, load: Load, *, changes: int, requests: int, pause_s: float
) -> tuple[Tally, int]:
    """At least so many changes and requests; what became of the load, and how many changes it met.

    `load` is started and warm. The end waits until what a change closes would have been closed.
    """
    started, made = time.monotonic(), 0
    while made < changes or load.tally.requests < requests:
        _, snapshot = site.change()
        await edge.apply(snapshot)
        made += 1
        await asyncio.sleep(pause_s)
    await asyncio.sleep(2 * DRAIN_S)
    assert time.monotonic() - started > 2 * DRAIN_S
    return await load.stop(), made
