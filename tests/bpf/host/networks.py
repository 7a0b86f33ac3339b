"""Client, edge and backends on networks of their own, and a datapath in a process on the edge."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

ROOT = Path(__file__).resolve().parents[3]
CLONE_NEWNET = 0x40000000
PATIENCE_S = 60.0
TEN_MIB = 10 * 1024 * 1024
PLACES = {"client": 1, "edge": 2, "real": 3, "other": 4}
VIP = "10.99.2.100"
# A field of `struct real` before and after it changed places: for `test_loading.changed`.
OTHER_LAYOUT_OF_REALS = (
    "    __u8 version;\n    __u8 state;\n    __be16 port;",
    "    __u8 state;\n    __u8 version;\n    __be16 port;",
)
T = TypeVar("T")


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no network namespaces here: ip {' '.join(words)}: {done.stderr.strip()}")


def within(namespace: str, work: Callable[[], T]) -> T:
    """Do something in a namespace; sockets stay where they were made."""
    found: list[Any] = []

    def there() -> None:
        entry = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(entry, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            found.append(work())
        except BaseException as error:
            found.append(error)
        finally:
            os.close(entry)

    thread = threading.Thread(target=there)
    thread.start()
    thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    result: T = found[0]
    return result


class Networks:
    """Four namespaces around a router."""

    def __init__(self, program: Path) -> None:
        self.mark = uuid.uuid4().hex[:5]
        self.router = self.name("router")
        self._objects = program.parent

    def name(self, place: str) -> str:
        return f"mp{self.mark}-{place}"

    def make(self) -> None:
        for place in (*PLACES, "router"):
            ip("netns", "add", self.name(place))
            ip("-n", self.name(place), "link", "set", "lo", "up")
        for place in PLACES:
            self.join(place)
        self.run("router", "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def join(self, place: str) -> None:
        """To the router."""
        self.plug(place)
        self.come_up(place)

    def plug(self, place: str) -> None:
        """A card, as a host has it before its network comes up: down, without addresses and routes."""
        number, near = PLACES[place], f"to-{place}"
        ip("link", "add", "eth0", "netns", self.name(place), "type", "veth", "peer", "name", near,
           "netns", self.router)  # fmt: skip
        ip("-n", self.router, "addr", "add", f"10.99.{number}.1/24", "dev", near)
        ip("-n", self.router, "link", "set", near, "up")
        # What XDP forwards nobody sums on its way.
        self.run(place, "ethtool", "-K", "eth0", "tx", "off")
        if place == "edge":
            pass_program = str(self._objects / "xdp_pass.bpf.o")
            ip("-n", self.router, "link", "set", "dev", near, "xdp", "obj", pass_program, "sec", "xdp")

    def come_up(self, place: str) -> None:
        """Address, link, default route."""
        number = PLACES[place]
        ip("-n", self.name(place), "addr", "add", f"10.99.{number}.2/24", "dev", "eth0")
        ip("-n", self.name(place), "link", "set", "eth0", "up")
        ip("-n", self.name(place), "route", "add", "default", "via", f"10.99.{number}.1")

    def index(self, place: str) -> int:
        """Number of its interface."""
        return within(self.name(place), lambda: socket.if_nametoindex("eth0"))

    def run(self, place: str, *words: str) -> None:
        subprocess.run(["ip", "netns", "exec", self.name(place), *words], check=True, capture_output=True)

    def remove(self) -> None:
        for place in (*PLACES, "router"):
            subprocess.run(["ip", "netns", "del", self.name(place)], capture_output=True, check=False)

    def client(self, target: tuple[str, int], timeout_s: float = PATIENCE_S) -> socket.socket:
        return within(self.name("client"), lambda: socket.create_connection(target, timeout=timeout_s))


class Backend:
    """Echoes TCP and UDP on port 7000 behind a greeting that says who it is."""

    def __init__(self, networks: Networks, place: str) -> None:
        self.greeting = f"{place}\n".encode()
        name = networks.name(place)
        self._tcp = within(name, lambda: socket.create_server(("0.0.0.0", 7000)))
        self._udp = within(name, lambda: datagrams(("0.0.0.0", 7000)))
        self._open: list[socket.socket] = []
        for work in (self._accept, self._answer):
            threading.Thread(target=work, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        try:
            connection.sendall(self.greeting)
            while piece := connection.recv(1 << 16):
                connection.sendall(piece)
        except OSError:
            pass
        finally:
            connection.close()

    def _answer(self) -> None:
        while True:
            try:
                data, source = self._udp.recvfrom(1 << 16)
                if source is None:
                    return
                self._udp.sendto(self.greeting + data, source)
            except OSError:
                return

    def stop(self) -> None:
        """Listen no more; open connections go on."""
        for one in (self._tcp, self._udp):
            # A blocked accept keeps a closed socket alive: wake it first.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        self.stop()
        for one in self._open:
            one.close()


def datagrams(address: tuple[str, int]) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(address)
    return made


class Edge:
    """The datapath of the edge, in a process of its own."""

    def __init__(
        self, networks: Networks, program: Path, folder: Path, pins: Path, *vips: str,
        rights: tuple[str, ...] = (), interface: str = "eth0", environment: Mapping[str, str] | None = None,
        **config: Any,
    ) -> None:  # fmt: skip
        """`rights`: a command that takes rights away before it goes on."""
        self._command = [
            "nsenter", f"--net=/run/netns/{networks.name('edge')}", *rights, sys.executable, "-m",
            "tests.support.datapath_host", str(folder), str(pins), str(program), interface, *vips,
        ]  # fmt: skip
        self._environment = {**os.environ, **(environment or {}), "DATAPATH_HOST": json.dumps(config)}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Returns what is in the way, or ""."""
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=self._environment,
        )  # fmt: skip
        problem: str = self._line()["problem"]
        return problem

    def ask(self, command: str, rest: str = "") -> Any:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(f"{command} {rest}\n")
        self._process.stdin.flush()
        return self._line()

    def apply(self, *services: dict[str, Any], **edge: Any) -> str:
        """Returns the words of a refusal, or ""."""
        refused: str = self.ask("apply", json.dumps({"services": services, **edge}))["refused"]
        return refused

    def until(self, condition: Callable[[Any], bool]) -> Any:
        """Wait for a state."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition(found := self.ask("state")):
            assert time.monotonic() < deadline, json.dumps(found)
            time.sleep(0.05)
        return found

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """It sees what happens meanwhile all at once."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            self._process = None

    def _line(self) -> Any:
        assert self._process is not None and self._process.stdout is not None
        # An edit may wait to be confirmed while a test waits for other things, one after the other.
        ready, _, _ = select.select([self._process.stdout], [], [], 3 * PATIENCE_S)
        assert ready, "the edge's process says nothing"
        return json.loads(self._process.stdout.readline())


def service(protocol: str = "tcp", *places: str, **more: Any) -> dict[str, Any]:
    endpoints = [
        {"address": f"10.99.{PLACES[place]}.2", "port": 7000, "cloud": place} for place in places or ("real",)
    ]
    listen = {"address": "vip", "port": 7100}
    one = {"name": f"echo-{protocol}", "protocol": protocol, "listen": listen, "endpoints": endpoints}
    return {**one, **more}


HEALTH = {"type": "tcp", "interval": "100ms", "timeout": "1s", "unhealthy_after": 2, "healthy_after": 2}


def greeting(connection: socket.socket) -> str:
    return connection.makefile("rb").readline().decode().strip()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
