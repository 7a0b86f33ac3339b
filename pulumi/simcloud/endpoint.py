"""The simulated AWS and Google Cloud as machines reach them: python -m simcloud endpoint ADDRESS."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from simcloud.aws.api import Api
from simcloud.gcp.metadata import PREFIX, Metadata
from simcloud.service import Answer, Asked
from simcloud.world import Store

PORT = 80


def handler(answer: Callable[[Asked], Answer]) -> type[BaseHTTPRequestHandler]:
    """What gives each request to ``answer``."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            headers = {key.lower(): value for key, value in self.headers.items()}
            body = self.rfile.read(length)
            said = answer(Asked(self.command, self.path, headers, body, self.client_address[0]))
            data = said.body.encode()
            self.send_response(said.status)
            self.send_header("content-type", said.kind)
            self.send_header("content-length", str(len(data)))
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = handle_any

    return Handler


def seed(folder: Path) -> bytes:
    """What the keys of this cloud come from, made once."""
    kept = folder / "aws.seed"
    if not kept.exists():
        fresh = folder / "aws.seed.new"
        fresh.touch(mode=0o600)
        fresh.write_bytes(secrets.token_bytes(32))
        fresh.replace(kept)
    return kept.read_bytes()


def serve(folder: Path, address: str) -> None:
    """Answer until the process ends."""
    aws, gcp = Api(Store(folder, "aws"), seed(folder)), Metadata(Store(folder, "gcp"))

    def answer(asked: Asked) -> Answer:
        return gcp.answer(asked) if asked.path.startswith(PREFIX) else aws.answer(asked)

    with ThreadingHTTPServer((address, PORT), handler(answer)) as server:
        server.serve_forever()
