"""The agent of bench/maps.py, in namespaces of its own: python -m bench.maps_host FOLDER SERVICES PREFIXES.

Prints figures as JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import xds_agent.node.agent  # noqa: F401  what a real agent has loaded too
from bench.xdp_objects import BUILD
from xds_agent.node.config import DatapathConfig
from xds_agent.node.datapath import DatapathLink
from xds_agent.node.memory import give_back_large
from xds_agent.node.probing import Prober
from xds_agent.proto import datapath_pb2 as pb
from xds_agent.snapshot.resource import (
    ACCESS_LIST,
    DATAPATH_SERVICE,
    PROTECTION,
    REALS,
    Resource,
    Snapshot,
)

CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000
EDGE, VIP, PEER = "edge", "10.99.0.200", "peer"
BACKENDS = [str(IPv4Address("10.99.1.0") + number) for number in range(1, 65)]
SETS, OWN_SETS = 200, 300
EDITS = 15
CHECKED_PORT = 9


class Net:
    """A veth pair in namespaces of this process, whose other end has the backends."""

    def __init__(self, folder: Path) -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET | CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "unshare: needs root")
        self.pins = folder / "bpf"
        self.pins.mkdir()
        _run("mount", "--make-rprivate", "/")
        _run("mount", "-t", "bpf", "bpf", str(self.pins))
        self._far = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec sleep 900"], stdout=subprocess.PIPE
        )
        assert self._far.stdout is not None
        self._far.stdout.readline()
        self._there = ["nsenter", "-t", str(self._far.pid), "-n"]
        self._children = [self._far]
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", EDGE, "type", "veth", "peer", "name", PEER, "netns", str(self._far.pid))
        _run("ip", "addr", "add", "10.99.0.1/16", "dev", EDGE)
        _run("ip", "link", "set", EDGE, "up")
        for words in (
            ["link", "set", "lo", "up"],
            ["addr", "add", "10.99.0.2/16", "dev", PEER],
            ["link", "set", PEER, "up"],
            ["route", "add", "local", "10.99.1.0/24", "dev", "lo"],
        ):
            _run(*self._there, "ip", *words)

    def backend(self, address: str) -> subprocess.Popen[bytes]:
        """Accepts connections until it is killed."""
        listens = (
            "import socket; s = socket.create_server(('%s', %d)); print(flush=True)\nwhile True: s.accept()"
        )
        words = [*self._there, sys.executable, "-c", listens % (address, CHECKED_PORT)]
        child = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        self._children.append(child)
        return child

    def close(self) -> None:
        for child in self._children:
            child.kill()
            child.wait()
        _run("umount", str(self.pins))


def _run(*words: str) -> None:
    subprocess.run(words, check=True, stdout=sys.stderr)


def service(number: int, *, limit: int = 0, first: int = 0) -> list[Resource]:
    """Of the revision: its backends are `OWN_SETS` by nat alone, or one of `SETS` sets shared by gue."""
    name, own = f"service-{number:05}", number < OWN_SETS
    made = pb.Service(
        name=name, protocol=pb.TCP, port=10_000 + number, vip=True, packets_per_second=limit,
        forward=pb.NAT if own else pb.GUE,
    )  # fmt: skip
    reals = pb.Reals(service=name)
    for place in range(4):
        # Steps that differ from set to set.
        at = (number % SETS + place * (1 + number % SETS // 16) + first) % len(BACKENDS)
        reals.reals.add(address=IPv4Address(BACKENDS[at]).packed, port=10_000 + number, weight=1)
    return [Resource.of(DATAPATH_SERVICE, name, made), Resource.of(REALS, name, reals)]


def checked() -> list[Resource]:
    """The service whose backend dies."""
    health = pb.HealthCheck(
        type="tcp", port=CHECKED_PORT, interval_ms=500, timeout_ms=500, unhealthy_after=2, healthy_after=1
    )
    made = pb.Service(name="checked", protocol=pb.TCP, port=9_999, vip=True, forward=pb.NAT, health=health)
    reals = pb.Reals(service="checked")
    for address in BACKENDS[:2]:
        reals.reals.add(address=IPv4Address(address).packed, port=CHECKED_PORT, weight=1)
    return [Resource.of(DATAPATH_SERVICE, "checked", made), Resource.of(REALS, "checked", reals)]


def deny(prefixes: int) -> Resource:
    packed = b"".join(struct.pack(">IB", 0x0B000000 + number * 256, 24) for number in range(prefixes))
    return Resource.of(ACCESS_LIST, "deny", pb.AccessList(name="deny", ipv4=packed))


@dataclass
class Timed:
    """When the last write of the thread of the maps ended, and what that thread took for it."""

    ended: float = 0.0
    cpu_s: float = 0.0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.thread_time()
            result = call(*arguments, **named)
            self.ended, self.cpu_s = time.monotonic(), time.thread_time() - began
            return result

        return timed


class Host:
    """The agent."""

    def __init__(self, folder: Path, net: Net) -> None:
        config = DatapathConfig(
            interfaces=[EDGE], vips=(IPv4Address(VIP),), program=BUILD / "xdp_main.bpf.o",
            pins=net.pins / "dp", services=16_384, reals=4096,
        )  # fmt: skip
        self.prober = Prober()
        self.link = DatapathLink(config, self.prober, control_answers=_answers, runtime=folder)
        self.flip, self.follow = Timed(), Timed()
        self.link.running.flip = self.flip.around(self.link.running.flip)  # type: ignore[method-assign]
        self.link.running._write = self.follow.around(self.link.running._write)  # type: ignore[method-assign]
        self.resources: dict[tuple[str, str], Resource] = {}
        self.snapshot = Snapshot.of(())

    async def apply(self, changed: list[Resource]) -> tuple[float, float]:
        """Milliseconds to the last write, and of them of the thread that writes."""
        self.resources |= {(one.type_url, one.name): one for one in changed}
        named: dict[str, dict[str, Resource]] = {}
        for (kind, name), one in self.resources.items():
            named.setdefault(kind, {})[name] = one
        self.snapshot = Snapshot.after(self.snapshot, named)
        began = time.monotonic()
        refusal = await self.link.apply(self.snapshot)
        if refusal is not None:
            raise RuntimeError(refusal.words)
        return (self.flip.ended - began) * 1000, self.flip.cpu_s * 1000


async def _answers() -> str:
    return ""


def rss_mb() -> float:
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


async def measure(folder: Path, net: Net, services: int, prefixes: int) -> dict[str, float]:
    """Figures of bench/maps.py."""
    figures = {"services": float(services), "prefixes": float(prefixes)}
    backends = [net.backend(address) for address in BACKENDS[:2]]
    host, before_mb = Host(folder, net), rss_mb()
    await host.link.start(host.snapshot)
    if host.link.problem:
        raise RuntimeError(host.link.problem)
    work = [asyncio.create_task(host.link.run()), asyncio.create_task(host.prober.run())]
    try:
        everything = [one for number in range(services) for one in service(number)]
        everything += [*checked(), Resource.of(PROTECTION, "protection", pb.Protection())]
        cold_ms, cold_cpu_ms = await host.apply(everything)
        figures |= {"cold_s": cold_ms / 1000, "cold_cpu_s": cold_cpu_ms / 1000}
        writer = host.link.writer
        assert writer is not None
        figures["rings"] = float(len(writer.rings))
        figures["ring_tables"] = float(len({one.reals for one in writer.rings.placed.values()}))
        edits = [await host.apply(service(400 + number, limit=5000)) for number in range(EDITS)]
        figures |= _middle("edit", edits)
        moves = [await host.apply(service(number, first=1)) for number in range(EDITS)]
        figures |= _middle("ring_edit", moves)
        leaving = [await host.apply(service(500 + number, first=2)) for number in range(EDITS)]
        figures |= _middle("shared_ring_edit", leaving)
        added = [await host.apply(service(services + number)) for number in range(EDITS)]
        figures |= _middle("added", added)
        figures |= {"rss_mb": rss_mb(), "ours_mb": rss_mb() - before_mb}
        deny_ms, deny_cpu_ms = await host.apply([deny(prefixes)])
        figures |= {"deny_s": deny_ms / 1000, "deny_cpu_s": deny_cpu_ms / 1000, "rss_listed_mb": rss_mb()}
        figures |= await _kill(host, backends[0])
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await host.link.stop()
    return figures


def _middle(name: str, taken: list[tuple[float, float]]) -> dict[str, float]:
    wall, cpu = zip(*taken, strict=True)
    return {f"{name}_ms": statistics.median(wall), f"{name}_cpu_ms": statistics.median(cpu)}


async def _kill(host: Host, backend: subprocess.Popen[bytes]) -> dict[str, float]:
    """A backend dies; until the ring of its service leads to the other one."""
    writer = host.link.writer
    assert writer is not None
    left = next(n for key, n in writer.reals.items() if str(key) == f"{BACKENDS[1]}:{CHECKED_PORT}")
    began = time.monotonic()
    backend.kill()
    async with asyncio.timeout(60):
        # What it waits for is another thread's.
        while writer.rings.placed["checked", 4].moved == 0 or host.follow.ended < began:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    if set(writer.rings["checked", 4].current) != {left}:
        raise RuntimeError("the ring leads elsewhere than to the backend that lives")
    return {"kill_ms": (host.follow.ended - began) * 1000, "health_cpu_ms": host.follow.cpu_s * 1000}


def main() -> None:
    folder, services, prefixes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    # As the agent does.
    give_back_large()
    net = Net(folder)
    try:
        print(json.dumps(asyncio.run(measure(folder, net, services, prefixes))))
    finally:
        net.close()


if __name__ == "__main__":
    main()
