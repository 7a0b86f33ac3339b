"""Network namespaces joined by veth pairs, and code that runs in one of them."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

CLONE_NEWNET = 0x40000000
Result = TypeVar("Result")


def inside(namespace: str, work: Callable[[], Result]) -> Result:
    """Runs `work` in a thread that has gone to that namespace; sockets it makes stay there."""
    done: list[Result] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            enter(namespace)
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def enter(namespace: str) -> None:
    """This thread goes there. `ip netns exec` would hide the BPF file system."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(descriptor)


def command(*words: str, namespace: str | None = None) -> None:
    """Raises RuntimeError with what it said."""
    within = ["ip", "netns", "exec", namespace] if namespace else []
    done = subprocess.run([*within, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} in {namespace}: {done.stderr.strip()}")


@dataclass
class Network:
    """Namespaces by their short names. Every end computes its own checksums: what leaves them is whole.

    `run` only notes a command; `settle` runs those of each host as one script.
    """

    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:5])
    names: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, list[str]] = field(default_factory=dict)

    def host(self, name: str) -> None:
        self.names[name] = f"mp{self.tag}{name}"
        command("ip", "netns", "add", self.names[name])
        self.run(name, "ip link set lo up")
        # Answers leave by another way than questions come (DSR), and loopbacks carry service addresses.
        rules = ("all.rp_filter=0", "default.rp_filter=0", "all.forwarding=1")
        self.run(name, "sysctl -qw " + " ".join(f"net.ipv4.conf.{rule}" for rule in rules))
        self.run(name, "sysctl -qw net.ipv6.conf.all.forwarding=1")

    def join(self, one: str, other: str) -> None:
        """A veth pair: in `one` its end is named after `other`, and the other way round."""
        ends = [(one, other), (other, one)]
        made = [word for host, peer in ends for word in ("name", peer, "netns", self.names[host])]
        command("ip", "link", "add", *made[:4], "type", "veth", "peer", *made[4:])
        for host, peer in ends:
            self.run(host, f"ethtool -K {peer} tx off >/dev/null", f"ip link set dev {peer} up")

    def address(self, host: str, device: str, *addresses: str) -> None:
        for address in addresses:
            extra = "nodad" if ":" in address else ""
            self.run(host, f"ip address add {address} dev {device} {extra}")

    def run(self, host: str, *lines: str) -> None:
        self.waiting.setdefault(host, []).extend(lines)

    def settle(self) -> None:
        for host, lines in self.waiting.items():
            command("sh", "-ec", "\n".join(lines), namespace=self.names[host])
        self.waiting.clear()

    def inside(self, host: str, work: Callable[[], Result]) -> Result:
        return inside(self.names[host], work)

    def index(self, host: str, device: str) -> int:
        return self.inside(host, lambda: socket.if_nametoindex(device))

    def mac(self, host: str, device: str) -> bytes:
        path = f"/sys/class/net/{device}/address"
        shown = subprocess.run(
            ["ip", "netns", "exec", self.names[host], "cat", path], capture_output=True, text=True, check=True
        )
        return bytes.fromhex(shown.stdout.strip().replace(":", ""))

    def close(self) -> None:
        for namespace in self.names.values():
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


@contextmanager
def network() -> Iterator[Network]:
    """Skips where namespaces cannot be made."""
    if not Path("/run/netns").exists() and os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    made = Network()
    try:
        yield made
    finally:
        made.close()
