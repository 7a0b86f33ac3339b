"""A client of Envoy's admin interface on its Unix socket: HTTP/1.1, one request per connection."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path

TIMEOUT_S = 2.0
_REJECTED = "cluster_manager.cds.update_rejected"


class AdminError(Exception):
    """Envoy's admin interface did not answer as expected."""


class Admin:
    """Envoy as its admin socket at `path` shows it."""

    def __init__(self, path: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s

    async def get(self, target: str) -> bytes:
        """Body of a GET. Raises AdminError when Envoy is away, too slow, or answers with another status
        than 200."""
        status, body = await self._exchange(target)
        if status != 200:
            raise AdminError(f"Envoy's admin answered {status} to {target}")
        return body

    async def post(self, target: str) -> None:
        """One of the few actions that the bootstrap allows. Raises AdminError."""
        status, _ = await self._exchange(target, "POST")
        if status != 200:
            raise AdminError(f"Envoy's admin answered {status} to {target}")

    async def state(self) -> str:
        """LIVE, PRE_INITIALIZING, INITIALIZING, DRAINING, or AWAY when nobody answers."""
        try:
            # 503 while it is anything but LIVE: the body says what.
            _, body = await self._exchange("/ready")
        except AdminError:
            return "AWAY"
        return body.decode("latin-1").strip() or "AWAY"

    async def is_live(self) -> bool:
        return await self.state() == "LIVE"

    async def version(self) -> str:
        """Version like 1.40.0. Raises AdminError."""
        try:
            said = str(json.loads(await self.get("/server_info"))["version"])
        except (ValueError, KeyError) as error:
            raise AdminError(f"Envoy's server_info is no such thing: {error}") from error
        # "<commit>/1.40.0/Clean/RELEASE/BoringSSL"
        parts = said.split("/")
        return parts[1] if len(parts) > 1 else said

    async def rejected_clusters(self) -> int:
        """How many CDS updates Envoy has refused since it started. Raises AdminError.

        The counter moves at once where the NACK itself is withheld (a bad cluster beside a good one that
        still warms).
        """
        return (await self.counters(f"^{re.escape(_REJECTED)}$")).get(_REJECTED, 0)

    async def counters(self, pattern: str) -> Mapping[str, int]:
        """Counters that ever moved and whose names match the regular expression. Raises AdminError.

        `usedonly` and `type` spare Envoy's main thread most of the names: it looks at every one otherwise.
        """
        return await self._numbers("Counters", pattern)

    async def gauges(self, pattern: str) -> Mapping[str, int]:
        """Gauges that were ever set and whose names match the regular expression. Raises AdminError."""
        return await self._numbers("Gauges", pattern)

    async def _numbers(self, kind: str, pattern: str) -> dict[str, int]:
        body = await self.get(f"/stats?usedonly&type={kind}&filter={_quoted(pattern)}")
        found = {}
        for line in body.decode("utf-8", "replace").splitlines():
            name, _, value = line.rpartition(": ")
            if name and value.isdigit():
                found[name] = int(value)
        return found

    async def prometheus(self, pattern: str) -> bytes:
        """Used statistics that match, in Prometheus' text format. Raises AdminError."""
        return await self.get(f"/stats/prometheus?usedonly&filter={_quoted(pattern)}")

    async def _exchange(self, target: str, method: str = "GET") -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=1 << 20)
                try:
                    request = f"{method} {target} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n"
                    length = "content-length: 0\r\n" if method == "POST" else ""
                    writer.write(f"{request}{length}\r\n".encode("ascii"))
                    return await _answer(reader)
                finally:
                    writer.close()
        except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError) as error:
            raise AdminError(f"Envoy's admin socket {self._path}: {error or type(error).__name__}") from error


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ", 2)[1])
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return status, await _chunks(reader)
    if "content-length" in headers:
        return status, await reader.readexactly(int(headers["content-length"]))
    return status, await reader.read()


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    return bytes(body)


def _quoted(pattern: str) -> str:
    return "".join(c if c.isalnum() or c in "^$._-|*()[]" else f"%{ord(c):02X}" for c in pattern)
