"""A whole site to break or to time: control with a shadow in its own process, proxies on hosts of their own.

    async with FaultSite(folder, pki) as site:
        async with site.load():                       # nothing may be lost meanwhile
            applying = site.change()                  # a task; every service is swapped for a new one
            await site.phase(1, "soaking", applying)
            await site.control_dies()
            await site.control_returns()
            assert await site.settled() == site.before

By default three proxies: one canary (edge1), then the other two. A change can be held where canaries are
asked, before and after, by `held()`: one of the changed routes leads to a backend that then waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.echoes import Echoes
from tests.support.load import PATIENT, Doors, Load
from tests.support.ports import free_port
from tests.support.processes import Node, envoy_binary
from tests.support.segment import Segment
from tests.support.serve_process import ServeProcess
from tests.support.site_pki import SitePki

NAMES = ["edge1", "edge2", "edge3"]
CANARY = "edge1"
WEB, RPC, TCP_PORT = "web.example.com", "rpc.example.com", 7000
SOAK_S = 2.0


class Missed(Exception):
    """A phase was over before anybody saw it."""


class FaultSite:
    """`number` counts changes; revision `r` serves web-`r`, rpc-`r` and slow-`r`."""

    def __init__(
        self,
        folder: Path,
        pki: SitePki,
        *,
        names: Sequence[str] = NAMES,
        database: str = "",
        shadow: bool = True,
    ) -> None:
        self.segment = Segment(list(names))
        self.echoes = Echoes(self.segment.address)
        self._short = Path(tempfile.mkdtemp(prefix="mpf-"))
        self._pki = pki
        more: dict[str, Any] = {}
        if shadow:
            more["shadow"] = {"envoy": str(envoy_binary()), "directory": str(self._short / "s")}
        if database:
            more["database"] = database
        ports = (free_port(), free_port())
        grpc = {"address": self.segment.address, "port": ports[0]}
        self.serve = ServeProcess(
            folder / "control", pki, self._short / "control.sock", ports, grpc=grpc, **more
        )
        self.nodes = {
            name: Node(
                folder / name, pki, name, [f"{self.segment.address}:{ports[0]}"],
                within=self.segment.within(name),
            )
            for name in names
        }  # fmt: skip
        self.rollout: dict[str, Any] = {"waves": [1, "100%"], "soak": f"{SOAK_S:g}s"}
        self._client = self._connected()
        self.number = 0
        # Counts edits of one service alone.
        self.edits = 0
        # Revision ids: what was live before the last change was begun, and what that leads to.
        self.before = ""

    async def __aenter__(self) -> FaultSite:
        self.segment.open()
        await self.echoes.__aenter__()
        await asyncio.to_thread(self.serve.start)
        for node in self.nodes.values():
            await node.start()
        for node in self.nodes.values():
            await node.envoy.live(patience_s=120)
        answer = await self.change()
        assert answer.json().get("outcome") == "live", answer.text
        self.before = await self.settled()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()
        for node in self.nodes.values():
            with contextlib.suppress(ProcessLookupError):
                node.agent.signal(signal.SIGCONT)
                node.envoy.signal(signal.SIGCONT)
            await node.close()
        if self.serve.process is not None and self.serve.process.poll() is None:
            await asyncio.to_thread(self.serve.kill)
        await self.echoes.__aexit__()
        self.segment.close()
        shutil.rmtree(self._short, ignore_errors=True)

    # --- changes

    def document(self, number: int) -> dict[str, Any]:
        side = number % 2
        ports = self.echoes.ports

        def service(name: str, protocol: str, port: int, **more: Any) -> dict[str, Any]:
            endpoint = {"address": self.segment.address, "port": port}
            return {"name": name, "protocol": protocol, "endpoints": [endpoint], **more}

        return {
            "schema": 1,
            "edge": {
                "certificates": [{"name": "web"}],
                "domains": [{"name": WEB, "certificate": "web"}, {"name": RPC, "certificate": "web"}],
                "services": [
                    service(
                        f"web-{number}",
                        "http",
                        ports["http"][side],
                        domains=[WEB],
                        timeout=f"{20 + self.edits}s",
                    ),
                    service(f"rpc-{number}", "grpc", ports["grpc"][side], domains=[RPC]),
                    service(f"slow-{number}", "http", ports["slow"][0]),
                    service("raw", "tcp", ports["tcp"][side], listen={"port": TCP_PORT}),
                ],
                "routes": [{"domains": [WEB], "prefix": "/slow", "service": f"slow-{number}"}],
                "rollout": self.rollout,
                "limits": PATIENT,
            },
            "hosts": {
                "control1": {"address": self.segment.address, "groups": ["control"]},
                **{
                    name: {"address": address, "groups": ["ingress"], "cloud": "aws", "region": "us-east-1"}
                    for name, address in self.segment.hosts.items()
                },
            },
            "origins": {},
        }

    def change(self, timeout_s: float = 20.0) -> asyncio.Task[httpx.Response]:
        """Swap every service for a new one of another name, with other endpoints."""
        gone = ["web", "rpc", "slow"]
        allowed = [f"{name}-{number}" for name in gone for number in range(self.number + 1)]
        self.number += 1
        return asyncio.create_task(
            self.serve.apply(
                self.document(self.number), timeout_s=timeout_s, allow_removal=allowed, force=True
            )
        )

    def edit(self, timeout_s: float = 20.0) -> asyncio.Task[httpx.Response]:
        """Change one service in place."""
        self.edits += 1
        return asyncio.create_task(self.serve.apply(self.document(self.number), timeout_s=timeout_s))

    # --- what is seen of it

    async def status(self) -> dict[str, Any]:
        """By one connection that stays: a phase may be short."""
        try:
            answer = await self._client.get("/v1/status")
        except httpx.TransportError:
            # Control was another process then.
            await self._client.aclose()
            self._client = self._connected()
            answer = await self._client.get("/v1/status")
        found: dict[str, Any] = answer.json()
        return found

    def _connected(self) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(uds=str(self.serve.socket))
        return httpx.AsyncClient(transport=transport, base_url="http://control", timeout=240)

    async def phase(
        self, wave: int, name: str, applying: asyncio.Task[httpx.Response], patience_s: float = 60.0
    ) -> None:
        """Until the change is there. Raises Missed when it has come to its end unseen."""
        async with asyncio.timeout(patience_s):
            while True:
                ended = applying.done()
                rollout = (await self.status())["rollout"]
                if rollout and (rollout["wave"], rollout["phase"]) == (wave, name):
                    return
                if ended:
                    raise Missed(f"{name} of wave {wave}: {applying.result().text}")
                await asyncio.sleep(0.01)

    async def soaking(self) -> asyncio.Task[httpx.Response]:
        """A change whose first wave soaks."""
        return await self.caught("soaking")

    async def caught(
        self, phase: str, *, timeout_s: float = 20.0, changes_at_most: int = 5
    ) -> asyncio.Task[httpx.Response]:
        """A change whose first wave is there; another where that went by unseen. Raises Missed in the end."""
        for _ in range(changes_at_most):
            applying = self.change(timeout_s)
            with contextlib.suppress(Missed):
                await self.phase(1, phase, applying)
                return applying
            self.before = await self.settled()
        raise Missed(f"{phase} in the first waves of {changes_at_most} changes")

    async def newest(self) -> dict[str, Any]:
        """The newest row of the history."""
        found = (await asyncio.to_thread(self.serve.get, "/v1/history")).json()["revisions"]
        row: dict[str, Any] = found[0]
        return row

    async def settled(self, names: Collection[str] = (), patience_s: float = 60.0) -> str:
        """The revision that is live, once `names` (or all there are) have active what they are to hold."""
        async with asyncio.timeout(patience_s):
            while True:
                status = await self.status()
                nodes = status["nodes"]
                wanted = names or self.nodes
                if status["revision"] and all(nodes[name]["state"] == "active" for name in wanted):
                    return str(status["revision"]["revision"])
                await asyncio.sleep(0.05)

    # --- load

    @contextlib.asynccontextmanager
    async def load(self, names: Collection[str] = NAMES) -> AsyncIterator[None]:
        """Requests through each proxy of `names`; nothing may be lost in it."""
        ca = (self._pki.folder / "ca.crt").read_bytes()
        loads = [Load(Doors(443, WEB, 8080, RPC, TCP_PORT, ca, self.segment.hosts[name])) for name in names]
        for load in loads:
            load.start(keep_alive=1, fresh=1, http2=1, streams=1, tcp=1, held=4, pause_s=0.02)
        try:
            for load in loads:
                await load.warm()
            yield
        finally:
            tallies = [await load.stop() for load in loads]
        for name, tally in zip(names, tallies, strict=True):
            assert not tally.lost, (name, tally.words)

    # --- faults

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Canaries that are asked the changed routes wait for an answer (for the 5 s that an agent gives)."""
        self.echoes.slow.answers.clear()
        try:
            yield
        finally:
            self.echoes.slow.answers.set()

    async def control_dies(self) -> None:
        await asyncio.to_thread(self.serve.kill)

    async def control_returns(self) -> None:
        await asyncio.to_thread(self.serve.start)

    async def without_shadow(self) -> None:
        """Control restarts and has none from now on."""
        await self.control_dies()
        document = yaml.safe_load(self.serve.config.read_text())
        del document["shadow"]
        self.serve.config.write_text(yaml.safe_dump(document))
        await self.control_returns()
        await self.settled()

    def shadow_pids(self) -> list[int]:
        """The shadows' Envoys."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if words[0] == str(envoy_binary()).encode() and any(
                    str(self._short / "s").encode() in word for word in words
                ):
                    found.append(int(folder.name))
        return found
