"""Which Envoy a proxy's shadow is: the one that hosts get, or the one before while the proxy runs that."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

Identity = tuple[int, int]
Versions = Callable[[], Awaitable[Mapping[str, str]]]
_VERSION = re.compile(r"/(\d+\.\d+)\.\d+")
_ASKED_S = 10.0


async def nobody_said() -> Mapping[str, str]:
    return {}


class Envoys:
    """Binaries on this control host; the first stands for proxies of which nothing is known."""

    def __init__(self, paths: Iterable[Path], versions: Versions) -> None:
        """`versions` gives the Envoy version (1.40.0) that each proxy last said it runs."""
        self._paths = tuple(paths)
        self._versions = versions
        self._said: Mapping[str, str] = {}
        self._minors: dict[Path, tuple[Identity | None, str]] = {}

    async def look(self) -> None:
        """Ask which versions proxies run, and binaries that are new in their place for theirs."""
        self._said = await self._versions()
        for path in self._paths:
            there = identity(path)
            if self._minors.get(path, (None, ""))[0] != there or path not in self._minors:
                self._minors[path] = (there, await _minor(path) if there is not None else "")

    def of(self, proxy: str) -> Path:
        """The binary of this proxy's minor version, else the first."""
        wanted = minor(self._said.get(proxy, ""))
        return next((path for path in self._paths if wanted and self._minor(path) == wanted), self._paths[0])

    def untried(self, proxies: Iterable[str]) -> set[str]:
        """Minor versions that these proxies run and no binary here has."""
        here = {self._minor(path) for path in self._paths}
        return {found for name in proxies if (found := minor(self._said.get(name, "")))} - here

    def _minor(self, path: Path) -> str:
        return self._minors.get(path, (None, ""))[1]


def minor(version: str) -> str:
    """1.40.0 -> 1.40"""
    return ".".join(version.split(".")[:2])


def identity(envoy: Path) -> Identity | None:
    """What tells one binary from the next in its place; None where there is none."""
    try:
        found = envoy.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


async def _minor(envoy: Path) -> str:
    """What the binary says of itself; "" when it says nothing: it is tried all the same."""
    try:
        async with asyncio.timeout(_ASKED_S):
            asked = await asyncio.create_subprocess_exec(
                str(envoy), "--version", stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            said, _ = await asked.communicate()
    except (OSError, TimeoutError):
        return ""
    found = _VERSION.search(said.decode(errors="replace"))
    return found[1] if found else ""
