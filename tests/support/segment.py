"""Hosts of their own on this machine: network namespaces on a bridge, each with all its ports to itself."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO

# Set aside for benchmarks by RFC 2544: nobody routes it.
_NETWORK = "198.18"


def may_make_namespaces() -> str:
    """Why not, or ""."""
    if os.geteuid() != 0:
        return "only root makes network namespaces with addresses"
    return "" if shutil.which("ip") else "iproute2 is not installed"


class Segment:
    """`address` is this side's; `hosts[name]` that of a namespace, entered by `within(name)`."""

    def __init__(self, names: list[str]) -> None:
        self._third, self._lock = _free_network()
        self._label = f"mps{self._third}"
        self.address = f"{_NETWORK}.{self._third}.1"
        self.hosts = {name: f"{_NETWORK}.{self._third}.{10 + n}" for n, name in enumerate(names)}

    def open(self) -> None:
        self._remove()
        _ip("link", "add", self._label, "type", "bridge")
        _ip("addr", "add", f"{self.address}/24", "dev", self._label)
        _ip("link", "set", self._label, "up")
        for number, (name, address) in enumerate(self.hosts.items()):
            space, outer, inner = self._space(name), f"{self._label}o{number}", f"{self._label}i{number}"
            _ip("netns", "add", space)
            _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", space)
            _ip("link", "set", outer, "master", self._label, "up")
            _ip("-n", space, "addr", "add", f"{address}/24", "dev", inner)
            _ip("-n", space, "link", "set", inner, "up")
            _ip("-n", space, "link", "set", "lo", "up")

    def close(self) -> None:
        self._remove()
        self._lock.close()

    def _remove(self) -> None:
        """Also what a killed run left behind."""
        for number, name in enumerate(self.hosts):
            # A namespace ends in its own time; its link would be in the way until then.
            _ip("link", "del", f"{self._label}o{number}", check=False)
            _ip("netns", "del", self._space(name), check=False)
        _ip("link", "del", self._label, check=False)

    def within(self, name: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self._space(name))

    def _space(self, name: str) -> str:
        return f"{self._label}-{name}"


def _free_network() -> tuple[int, IO[str]]:
    """A third number of which no other run on this machine has the lock; the lock ends with the process."""
    for third in range(1, 255):
        lock = (Path(tempfile.gettempdir()) / f"marchproxy-segment-{third}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return third, lock
    raise RuntimeError(f"all of {_NETWORK}.0.0 is in use on this machine")


def _ip(*words: str, check: bool = True) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
