"""A control that gives canned answers over a real Unix socket: what the client makes of each is tested.

Real control is met in tests/integration/control.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from xds_agent.cli import app


class CannedControl:
    """`answers[target] = (status, body)`; what was asked is in `asked` as (method, target, body)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, str, Any]] = []


@pytest.fixture
def control(tmp_path: Path) -> Iterator[CannedControl]:
    canned = CannedControl(tmp_path / "control.sock")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            canned.asked.append((self.command, self.path, body))
            status, answer = canned.answers[self.path.partition("?")[0]]
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def address_string(self) -> str:
            return "client"

        def log_message(self, *args: Any) -> None:
            pass

    with socketserver.ThreadingUnixStreamServer(str(canned.path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield canned
        server.shutdown()
        thread.join()


@pytest.fixture
def run(control: CannedControl) -> Callable[..., Result]:
    """Runs a command against the canned control."""

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env={"XDS_AGENT_SOCKET": str(control.path)})

    return call
