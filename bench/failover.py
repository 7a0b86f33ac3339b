"""A cloud dies, browns out or loses packets under load: how many requests fail, how soon it is found.

One real Envoy, its endpoint sets decided and compiled as in production, for each of the four algorithms in
both modes; two backends of each of two clouds, on loopback. Those of the nearer, cheaper, first cloud

- are killed (connections refused and reset),
- brown out (every request is answered 503, then only after `per_try_timeout`, the health path stays green),
- lose one answer in twenty (it comes a retransmission late, or not before the client's patience ends).

Requests are GETs with the retries the inventory permits. `detection_s` is from the kill to the moment from
which Envoy itself counts both backends as out; the control plane has no part in it. `failed_without_retries`
is what the same kill costs a service that permits none, of `requests_without_retries`.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from tests.support.control import Control
from tests.support.ports import free_port
from tests.support.processes import Node
from tests.support.real_material import real_material
from tests.support.site_pki import SitePki
from xds_agent.compile import Compiler
from xds_agent.model import load_site
from xds_agent.protocol.outcomes import Acknowledged
from xds_agent.snapshot.resource import Snapshot
from xds_agent.steering.deciding import NOTHING, UNDECIDED, decide_all
from xds_agent.steering.site import scene_of

NAME = "failover"
GOALS = {
    "failed_kill": ("==", 0.0), "failed_brownout": ("==", 0.0), "failed_loss": ("==", 0.0),
    "detection_s": ("<=", 1.5),
}  # fmt: skip

ALGORITHMS = ("weighted", "geo", "latency", "cost")
MODES = ("active-passive", "active-active")
HOST = "shop.example.com"
PLACES = {"aws": "us-east-1", "gcp": "us-central1"}
CLIENTS = 6
BETWEEN_S = 0.01
FAULT_S = 4.0
LOST = 0.05
# A retransmission, the next one, and never within anybody's patience.
LATE_S = (0.2, 0.4, 30.0)


@dataclass
class Backend:
    """HTTP/1.1 on loopback; its health path is green for as long as it lives."""

    cloud: str
    fault: str = ""
    port: int = 0
    drawn: random.Random = field(default_factory=lambda: random.Random(7))
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        # The same after a kill, which the kernel's own choice need not be.
        self.port = self.port or free_port()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def kill(self) -> None:
        """Refused from now on, and what is open is reset."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                status = b"200 OK" if head.startswith(b"GET /healthz ") else await self._met()
                body = self.cloud.encode()
                writer.write(b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))
                await writer.drain()
        except (OSError, EOFError, RuntimeError):
            # Killed, or Envoy left: uvloop answers a write after that with RuntimeError.
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _met(self) -> bytes:
        if self.fault == "slow":
            await asyncio.sleep(LATE_S[-1])
        if self.fault == "loss" and self.drawn.random() < LOST:
            await asyncio.sleep(self.drawn.choice(LATE_S))
        return b"503 Service Unavailable" if self.fault == "503" else b"200 OK"


@dataclass
class Met:
    """What clients met."""

    requests: int = 0
    failed: int = 0
    words: set[str] = field(default_factory=set)


def measure(*, quick: bool = False) -> dict[str, float]:
    """Counts over all algorithms and modes, seconds. --quick: one algorithm in both modes."""
    return uvloop.run(_measure(ALGORITHMS[:1] if quick else ALGORITHMS))


async def _measure(algorithms: tuple[str, ...]) -> dict[str, float]:
    figures = {
        f"{what}_{fault}": 0.0 for fault in ("kill", "brownout", "loss") for what in ("failed", "requests")
    }
    detections = []
    with tempfile.TemporaryDirectory(prefix="mpb-") as name:
        async with _edge(Path(name)) as edge:
            for algorithm in algorithms:
                for mode in MODES:
                    detections.append(await edge.case(figures, {"algorithm": algorithm, "mode": mode}))
            plain = await edge.kill_without_retries()
    for words in sorted(edge.words):
        print(f"failed: {words}")
    return {
        **figures,
        "detection_s": max(detections),
        "failed_without_retries": plain.failed,
        "requests_without_retries": plain.requests,
    }


@dataclass
class Edge:
    """One proxy and its backends."""

    control: Control
    node: Node
    backends: list[Backend]
    ports: dict[str, int]
    timeout: str = "10s"
    per_try_timeout: str = "500ms"
    patience_s: float = 15.0
    compiler: Compiler = field(default_factory=Compiler)
    words: set[str] = field(default_factory=set)

    async def case(self, figures: dict[str, float], steering: dict[str, Any]) -> float:
        """All faults under one way of steering; how long the kill took to be found."""
        await self.apply(steering, retries=3)
        found = 0.0
        for fault in ("kill", "brownout", "loss"):
            async with self.load() as met:
                if fault == "kill":
                    found = await self.kill()
                else:
                    for kind in ("503", "slow") if fault == "brownout" else ("loss",):
                        self.fault(kind)
                        await asyncio.sleep(FAULT_S)
                self.fault("")
                await self.well()
            figures[f"failed_{fault}"] += met.failed
            figures[f"requests_{fault}"] += met.requests
            label = f"{steering['algorithm']} {steering['mode']} {fault}"
            self.words |= {f"{label}: {word}" for word in met.words}
        return found

    async def kill_without_retries(self) -> Met:
        """The same kill when the inventory permits no retry."""
        await self.apply({"algorithm": "weighted", "mode": "active-passive"}, retries=0)
        async with self.load() as met:
            await self.kill()
            await self.well()
        return met

    async def apply(self, steering: dict[str, Any], *, retries: int) -> None:
        answer = await self.control.apply("edge1", self._compiled(steering, retries), patience_s=60)
        assert isinstance(answer, Acknowledged), answer
        await self.node.envoy.live()
        await self.well()

    def _compiled(self, steering: dict[str, Any], retries: int) -> Snapshot:
        places = [{"cloud": one.cloud, "region": PLACES[one.cloud]} for one in self.backends]
        edge = {
            "ports": self.ports,
            "certificates": [{"name": "shop"}],
            "domains": [{"name": HOST, "certificate": "shop"}],
            "clouds": {"aws": {"egress_usd_per_gb": 0.05}, "gcp": {"egress_usd_per_gb": 0.12}},
            "services": [
                {
                    "name": "shop", "domains": [HOST], "timeout": self.timeout, "retries": retries,
                    **({"per_try_timeout": self.per_try_timeout} if retries else {}),
                    "endpoints": [
                        {"address": "127.0.0.1", "port": one.port, **place}
                        for one, place in zip(self.backends, places, strict=True)
                    ],
                    "health": {"path": "/healthz", "interval": "500ms", "timeout": "500ms"},
                    "steering": {**steering, "order": list(PLACES)},
                }
            ],
        }  # fmt: skip
        hosts = {"edge1": {"address": "127.0.0.1", "groups": ["ingress"], **places[0]}}
        site = load_site({"schema": 1, "edge": edge, "hosts": hosts, "origins": {}})
        decisions = decide_all(scene_of(site), UNDECIDED, NOTHING, 0.0)
        material, _ = real_material(site)
        return self.compiler.compile(site, material, decisions=decisions).snapshots()["edge1"]

    @asynccontextmanager
    async def load(self) -> AsyncIterator[Met]:
        """Requests by some clients, one after another on kept connections, while the block runs."""
        met, over = Met(), asyncio.Event()
        clients = [asyncio.create_task(self._ask(met, over)) for _ in range(CLIENTS)]
        try:
            await asyncio.sleep(1.0)
            yield met
            await asyncio.sleep(1.0)
        finally:
            over.set()
            await asyncio.gather(*clients)

    async def _ask(self, met: Met, over: asyncio.Event) -> None:
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not over.is_set():
            met.requests += 1
            try:
                async with asyncio.timeout(self.patience_s):
                    if streams is None:
                        streams = await asyncio.open_connection(
                            "127.0.0.1", self.ports["https"], ssl=trust, server_hostname=HOST
                        )
                    reader, writer = streams
                    writer.write(f"GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
                    head = (await reader.readuntil(b"\r\n\r\n")).lower()
                    size = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
                    body = await reader.readexactly(size)
                status = head.split()[1].decode()
                words = "" if status == "200" else f"{status} {body.decode()[:120]}"
            except (OSError, EOFError, TimeoutError) as error:
                words, streams = type(error).__name__, None
            if words:
                met.failed += 1
                met.words.add(words)
            await asyncio.sleep(BETWEEN_S)
        if streams is not None:
            streams[1].close()

    def fault(self, kind: str) -> None:
        for one in self._first():
            one.fault = kind

    async def kill(self) -> float:
        """Seconds until Envoy itself counts every killed backend as out; they live again after a while."""
        began = time.perf_counter()
        for one in self._first():
            await one.kill()
        await self._until(lambda out: out == {one.port for one in self._first()})
        found = time.perf_counter() - began
        await asyncio.sleep(FAULT_S / 2)
        for one in self._first():
            await one.start()
        return found

    async def well(self) -> None:
        """Until Envoy counts no backend as out."""
        await self._until(lambda out: not out)

    async def _until(self, enough: Any) -> None:
        async with asyncio.timeout(120):
            # Envoy is asked: it has no event to wait for.
            while not enough(await self._out()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def _out(self) -> set[int]:
        said = json.loads(await self.node.envoy.admin.get("/clusters?format=json"))
        hosts = [
            host
            for one in said["cluster_statuses"]
            if one["name"] == "shop"
            for host in one.get("host_statuses", ())
        ]
        if len(hosts) < len(self.backends):
            return {0}
        return {
            host["address"]["socket_address"]["port_value"] for host in hosts
            if {"failed_active_health_check", "failed_outlier_check"} & host["health_status"].keys()
        }  # fmt: skip

    def _first(self) -> list[Backend]:
        return [one for one in self.backends if one.cloud == "aws"]


@asynccontextmanager
async def _edge(folder: Path) -> AsyncIterator[Edge]:
    pki = SitePki(folder / "pki")
    control = Control(pki)
    backends = [
        Backend(cloud, drawn=random.Random(at)) for at, cloud in enumerate(("aws", "aws", "gcp", "gcp"))
    ]
    await control.start()
    node = Node(folder / "edge1", pki, "edge1", [control.address])
    try:
        for one in backends:
            await one.start()
        await node.start()
        yield Edge(control, node, backends, {name: free_port() for name in ("http", "https", "grpc")})
    finally:
        await node.close()
        await control.stop()
        for one in backends:
            await one.kill()


if __name__ == "__main__":
    import sys

    for key, value in measure(quick="--quick" in sys.argv).items():
        print(f"{key:26} {value:10.2f}  {' '.join(map(str, GOALS.get(key, ())))}")
