"""A host's datapath as a process of its own, so that it can stand in another network namespace.

    python -m tests.support.datapath_host RUNTIME PINS PROGRAM INTERFACE [VIP...]

Reads a command per line on stdin and answers each with one line of JSON: `apply EDGE` (an edge as JSON,
compiled for this host), `state`, `counters`, `flows`, `mtu`, `control away`, `control back`, `control lost`
(from the second question on), `control guilty` (away while the program of this very process is attached). The
environment variable DATAPATH_HOST holds more of DatapathConfig as JSON; with WITHOUT_TCX, tc is attached as
on kernels before tcx links; DIES_AT names a method of Tables, at whose next call after a file `die` is in
RUNTIME the process is killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import struct
import sys
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from tests.support.golden import words_for_keys
from xds_agent.compile import Compiler
from xds_agent.datapath.counters import Counters
from xds_agent.datapath.libbpf import library
from xds_agent.datapath.services import Tables
from xds_agent.datapath.tc import TcLink
from xds_agent.model import load_site
from xds_agent.node.config import DatapathConfig
from xds_agent.node.datapath import DatapathLink, state
from xds_agent.node.datapath.network import Network
from xds_agent.node.probing import Prober
from xds_agent.snapshot.resource import EMPTY, Snapshot

HOST = "edge1"


def compiled(edge: dict[str, Any]) -> Snapshot:
    """What a host with a datapath would be given."""
    host = {"groups": ["l4", "ingress"], "cloud": "lab", "interfaces": ["eth0"], "vip": "192.0.2.254"}
    site = load_site({"schema": 1, "edge": edge, "hosts": {HOST: host}, "origins": {}})
    return Compiler().compile(site, words_for_keys(site)).snapshots()[HOST]


class _Host:
    def __init__(self, arguments: list[str]) -> None:
        runtime, pins, program, interface, *vips = arguments
        self.folder = Path(runtime)
        config = DatapathConfig(
            vips=tuple(map(ip_address, vips)), program=Path(program), pins=Path(pins),
            **{"interfaces": [interface], "services": 64, "reals": 64, "flows": 4096, "limit_blocks": 1024,
               "confirm_s": 2.0, **json.loads(os.environ.get("DATAPATH_HOST", "{}"))},
        )  # fmt: skip
        self.interface, self.control = interface, self.folder / "control"
        self.link = DatapathLink(config, Prober(), control_answers=self._control_answers, runtime=self.folder)
        self.held = self.folder / "held.json"

    async def _control_answers(self) -> str:
        """As the file says: the test may change it at any time."""
        said = self.control.read_text() if self.control.exists() else "back"
        if said == "lost":
            self.control.write_text("away")
        if said == "away" or (said == "guilty" and await asyncio.to_thread(self._runs_here)):
            return "control is away"
        return ""

    def _runs_here(self) -> bool:
        if self.link.writer is None:
            return False
        info, length = ctypes.create_string_buffer(256), ctypes.c_uint(256)
        library().bpf_obj_get_info_by_fd(self.link.writer.generation.program_fd, info, ctypes.byref(length))
        with Network() as network:
            return network.interface(self.interface).xdp == struct.unpack_from("=II", info.raw)[1]

    async def run(self) -> None:
        """Until stdin ends."""
        held = compiled(json.loads(self.held.read_text())) if self.held.exists() else EMPTY
        await self.link.start(held)
        print(json.dumps({"problem": self.link.problem}), flush=True)
        work = [asyncio.create_task(self.link.run()), asyncio.create_task(self.link._prober.run())]
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await self._answer(line.strip())), flush=True)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await self.link.stop()

    async def _answer(self, line: str) -> Any:
        command, _, rest = line.partition(" ")
        if command == "apply":
            edge = json.loads(rest)
            refusal = await self.link.apply(compiled(edge))
            if refusal is None:
                self.held.write_text(rest)
            return {"refused": refusal.words if refusal else ""}
        if command == "control":
            self.control.write_text(rest)
            return {}
        if command == "mtu":
            assert self.link.writer is not None
            return sorted({one.mtu for one in self.link.writer.fronts.written()})
        if command == "flows":
            return await self.link.open_flows()
        if command == "counters":
            assert self.link.writer is not None
            counters = Counters(self.link.writer.generation)
            services = {"host": 0, **dict(self.link.writer.services.items())}
            return {
                name: {reason: count.packets for reason, count in counters.service(number).items()}
                for name, number in services.items()
            }
        return state.read(self.link.state_file)


def _die_at(method: str, sign: Path) -> None:
    """As by kill -9, in the middle of an edit."""
    really = getattr(Tables, method)

    def call(self: Tables, *arguments: object, **options: object) -> object:
        if sign.exists():
            sign.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return really(self, *arguments, **options)

    setattr(Tables, method, call)


if __name__ == "__main__":
    if method := os.environ.get("DIES_AT"):
        _die_at(method, Path(sys.argv[1]) / "die")
    if "WITHOUT_TCX" in os.environ:
        TcLink.attach = partial(TcLink.attach, tcx=False)  # type: ignore[method-assign]
    asyncio.run(_Host(sys.argv[1:]).run())
