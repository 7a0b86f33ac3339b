"""`xds-agent serve` in a process of its own, as systemd runs it, and HTTP to its sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.site_pki import TRUST_DOMAIN, SitePki, key_pem

ROOT = Path(__file__).resolve().parents[2]
_SERVE = """
import logging, sys
from pathlib import Path
from xds_agent.api.config import load_config
from xds_agent.api.serve import run
logging.basicConfig(level="DEBUG", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
run(load_config(Path(sys.argv[1])))
"""


class ServeProcess:
    """One control host: files under `folder`, its socket at `socket`."""

    def __init__(self, folder: Path, pki: SitePki, socket: Path, ports: tuple[int, int], **more: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "issuing.crt").write_bytes(pki.issuer.pem)
        (folder / "issuing.key").write_bytes(key_pem(pki.issuer.key))  # type: ignore[arg-type]
        name = more.pop("name", "control1")
        own = pki.host(name)
        self.folder = folder
        self.socket = socket
        self.grpc_port, self.http_port = ports
        self.log = folder / "serve.log"
        self.config = folder / "serve.yml"
        document = {
            "name": name,
            "trust_domain": TRUST_DOMAIN,
            "grpc": {"address": "127.0.0.1", "port": ports[0]},
            "http": {"address": "127.0.0.1", "port": ports[1]},
            "tls": {
                "certificate": str(own.certificate), "key": str(own.key),
                "ca": str(own.ca), "crl": str(own.crl),
            },
            "state_dir": str(folder / "state"),
            "issuing_ca": {
                "certificate": str(folder / "issuing.crt"), "key": str(folder / "issuing.key"),
            },
            "sockets": [{"path": str(socket), "tenants": "all"}],
            **more,
        }  # fmt: skip
        self.config.write_text(yaml.safe_dump(document, sort_keys=False))
        self.process: subprocess.Popen[bytes] | None = None
        # Where the package is that is run: another tree is another version.
        self.root = ROOT

    def keep_key(self, key: bytes) -> None:
        """The sealing key that hosts of one database share."""
        file = self.folder / "state" / "secret.key"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(key)
        file.chmod(0o600)

    def metrics(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self.http_port}/metrics", timeout=60).text

    def spawn(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, str(self.config)], cwd=self.root, stdout=output, stderr=output,
                env=os.environ | {"PYTHONPATH": f"{self.root}:{os.environ.get('PYTHONPATH', '')}"},
            )  # fmt: skip

    def start(self, patience_s: float = 150.0) -> None:
        """Until it answers on its socket."""
        self.spawn()
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            assert self.process is not None and self.process.poll() is None, self.said()
            try:
                self.get("/v1/status")
                return
            except httpx.TransportError:
                time.sleep(0.05)
        raise TimeoutError(self.said())

    def end(self, number: int = signal.SIGTERM, patience_s: float = 40.0) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def cli(self, *arguments: Any) -> subprocess.CompletedProcess[str]:
        """`xds-agent ARGUMENTS` against this control host."""
        command = [sys.executable, "-m", "xds_agent", *map(str, arguments)]
        environment = os.environ | {"XDS_AGENT_SOCKET": str(self.socket)}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    def client(self, socket: Path | None = None) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(socket or self.socket))
        return httpx.Client(transport=transport, base_url="http://control", timeout=240)

    def get(self, path: str, **query: Any) -> httpx.Response:
        with self.client() as client:
            return client.get(path, params=query)

    def post(self, path: str, body: dict[str, Any], socket: Path | None = None) -> httpx.Response:
        with self.client(socket) as client:
            return client.post(path, json=body)

    async def until_active(self, document: dict[str, Any], *names: str, patience_s: float = 60.0) -> Any:
        """Apply until these proxies, which may still be connecting, have it active; the last answer."""
        async with asyncio.timeout(patience_s):
            while True:
                response = await self.apply(document)
                answer = response.json()
                # A leader that steps down says: run it again.
                if response.status_code < 500:
                    assert "nodes" in answer, f"{response.status_code} {response.text}"
                    if all(answer["nodes"][name]["state"] == "active" for name in names):
                        return answer
                await asyncio.sleep(0.2)

    async def apply(self, document: dict[str, Any], **more: Any) -> httpx.Response:
        """POST /v1/revisions off the event loop, in which the test's nodes live."""
        body = {"document": document, "author": "ada", "timeout_s": 20, **more}
        return await asyncio.to_thread(self.post, "/v1/revisions", body)
