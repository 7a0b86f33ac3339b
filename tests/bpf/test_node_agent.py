"""The node agent's datapath in real networks: client, edge and backend on three of them.

What an inventory says is compiled, applied by a process in the edge's namespace, and met by real sockets.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
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

from tests.bpf.test_loading import changed

ROOT = Path(__file__).resolve().parents[2]
BPFFS = Path("/sys/fs/bpf")
CLONE_NEWNET = 0x40000000
PATIENCE_S = 20.0
TEN_MIB = 10 * 1024 * 1024
PLACES = {"client": 1, "edge": 2, "real": 3, "other": 4}
VIP = "10.99.2.100"
T = TypeVar("T")

pytestmark = pytest.mark.root


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
        number, near = PLACES[place], f"to-{place}"
        ip("link", "add", "eth0", "netns", self.name(place), "type", "veth", "peer", "name", near,
           "netns", self.router)  # fmt: skip
        ip("-n", self.router, "addr", "add", f"10.99.{number}.1/24", "dev", near)
        ip("-n", self.router, "link", "set", near, "up")
        ip("-n", self.name(place), "addr", "add", f"10.99.{number}.2/24", "dev", "eth0")
        ip("-n", self.name(place), "link", "set", "eth0", "up")
        ip("-n", self.name(place), "route", "add", "default", "via", f"10.99.{number}.1")
        # What XDP forwards nobody sums on its way.
        self.run(place, "ethtool", "-K", "eth0", "tx", "off")
        if place == "edge":
            pass_program = str(self._objects / "xdp_pass.bpf.o")
            ip("-n", self.router, "link", "set", "dev", near, "xdp", "obj", pass_program, "sec", "xdp")

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
        self._udp = within(name, lambda: _datagrams(("0.0.0.0", 7000)))
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


def _datagrams(address: tuple[str, int]) -> socket.socket:
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
        ready, _, _ = select.select([self._process.stdout], [], [], 60)
        assert ready, "the edge's process says nothing"
        return json.loads(self._process.stdout.readline())


@pytest.fixture
def networks(program: Path) -> Iterator[Networks]:
    if shutil.which("ethtool") is None:
        pytest.skip("needs the Debian package ethtool")
    made = Networks(program)
    try:
        made.make()
        yield made
    finally:
        made.remove()


@pytest.fixture
def bpffs() -> Iterator[Path]:
    if not os.path.ismount(BPFFS):
        mounted = subprocess.run(["mount", "-t", "bpf", "bpf", str(BPFFS)], capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip("no BPF file system can be mounted here")
    folder = BPFFS / f"mp-test-{uuid.uuid4().hex[:8]}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def edge(networks: Networks, program: Path, bpffs: Path, tmp_path: Path) -> Iterator[Edge]:
    made = Edge(networks, program, tmp_path, bpffs, VIP)
    assert made.start() == ""
    yield made
    made.kill()


@pytest.fixture
def backend(networks: Networks) -> Iterator[Callable[[str], Backend]]:
    made: list[Backend] = []

    def start(place: str) -> Backend:
        made.append(Backend(networks, place))
        return made[-1]

    yield start
    for one in made:
        one.close()


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


def test_ten_mebibytes_both_ways_across_three_networks(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend]
) -> None:
    backend("real")
    assert edge.apply(service("tcp"), service("udp")) == ""
    with networks.client((VIP, 7100)) as connection:
        stream = connection.makefile("rb")
        assert stream.readline() == b"real\n"
        sent = os.urandom(TEN_MIB)
        sender = threading.Thread(target=connection.sendall, args=(sent,))
        sender.start()
        received = stream.read(TEN_MIB)
        sender.join()
    assert received == sent
    with within(networks.name("client"), lambda: _datagrams(("10.99.1.2", 0))) as client:
        client.settimeout(PATIENCE_S)
        client.sendto(b"datagram", (VIP, 7100))
        answer, source = client.recvfrom(1 << 16)
    assert (answer, source) == (b"real\ndatagram", (VIP, 7100))
    counters = edge.ask("counters")
    assert counters["echo-tcp"]["send_nat"] > 0 and counters["echo-tcp"]["send_answer"] > 0
    assert counters["echo-udp"]["send_nat"] == 1


def test_a_dead_agent_changes_nothing_and_its_successor_takes_over(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend]
) -> None:
    backend("real")
    assert edge.apply(service("tcp")) == ""
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"
        before = edge.ask("state")["services"][0]
        edge.kill()
        connection.sendall(b"alone")
        assert connection.recv(64) == b"alone"
        with networks.client((VIP, 7100)) as another:
            assert greeting(another) == "real"
        assert edge.start() == ""
        connection.sendall(b"and with a successor")
        assert connection.recv(64) == b"and with a successor"
        after = edge.ask("state")["services"][0]
    assert (after["id"], after["reals"][0]["number"]) == (before["id"], before["reals"][0]["number"])
    assert edge.ask("counters")["echo-tcp"]["send_nat"] > 0


def test_a_release_with_another_layout_of_reals_and_services_keeps_connections(
    networks: Networks,
    program: Path,
    edge: Edge,
    backend: Callable[[str], Backend],
    bpffs: Path,
    tmp_path: Path,
) -> None:
    """Their tables start empty and are written again under the same numbers; NAT's table is shared."""
    backend("real")
    assert edge.apply(service("tcp"), service("udp")) == ""
    before = edge.ask("state")["services"]
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"
        edge.kill()
        old, new = (
            f"    __u8 {one};\n    __u8 {other};\n    __be16 port;"
            for one, other in (("version", "state"), ("state", "version"))
        )
        newer = changed(program, tmp_path / "newer", "types.h", old, new)
        edge = Edge(networks, newer, tmp_path, bpffs, VIP)
        try:
            assert edge.start() == ""
            connection.sendall(b"under another layout")
            assert connection.recv(64) == b"under another layout"
            after = edge.ask("state")["services"]
            with networks.client((VIP, 7100)) as another:
                assert greeting(another) == "real"
            assert edge.ask("counters")["echo-tcp"]["send_nat"] > 5
        finally:
            edge.kill()
    assert [one["id"] for one in after] == [one["id"] for one in before]
    assert [one["reals"][0]["number"] for one in after] == [one["reals"][0]["number"] for one in before]


def test_the_next_priority_takes_over_and_flows_stay(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend]
) -> None:
    first, _ = backend("real"), backend("other")
    wanted = service("tcp", "real", "other", health=HEALTH, steering={"order": ["real", "other"]})
    assert edge.apply(wanted) == ""
    edge.until(lambda found: found["services"][0]["served"])
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"
    first.stop()
    edge.until(lambda found: found["services"][0]["reals"][0]["state"] == "down")
    with networks.client((VIP, 7100)) as during:
        assert greeting(during) == "other"
        backend("real")
        edge.until(lambda found: found["services"][0]["reals"][0]["state"] == "up")
        with networks.client((VIP, 7100)) as back:
            assert greeting(back) == "real"
        during.sendall(b"still with the other")
        assert during.recv(64) == b"still with the other"


def test_no_healthy_real_is_counted_and_answered_as_the_inventory_says(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend]
) -> None:
    ping = service("icmp", health={**HEALTH, "port": 7000}, listen={"address": "vip"})
    assert edge.apply(service("tcp", health=HEALTH), ping) == ""
    edge.until(lambda found: not any(one["served"] for one in found["services"]))
    with pytest.raises(TimeoutError):
        networks.client((VIP, 7100), timeout_s=1.0)
    assert edge.ask("counters")["echo-tcp"]["drop_no_real"] > 0
    assert edge.apply(service("tcp", health=HEALTH, when_no_real="pass"), ping) == ""
    with pytest.raises(ConnectionRefusedError):
        networks.client((VIP, 7100))


def test_denied_by_prefix_and_released_again(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend]
) -> None:
    backend("real")
    assert edge.apply(service("tcp"), protection={"deny": ["10.99.1.0/24"]}) == ""
    with pytest.raises(TimeoutError):
        networks.client((VIP, 7100), timeout_s=1.0)
    assert edge.ask("counters")["echo-tcp"]["drop_denied"] > 0
    assert edge.apply(service("tcp"), protection={"deny": ["10.99.1.0/24"], "monitor": True}) == ""
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"
    assert edge.apply(service("tcp")) == ""
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"


def test_without_control_no_change_is_taken(networks: Networks, edge: Edge) -> None:
    assert edge.apply(service("tcp")) == ""
    edge.ask("control", "away")
    assert "control is away" in edge.apply(service("udp"))
    edge.ask("control", "back")
    assert [one["name"] for one in edge.ask("state")["services"]] == ["echo-tcp"]
    assert edge.apply(service("udp")) == ""


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (service("tcp", forward="dsr", listen={"address": "vip", "port": 7000},
                 endpoints=[{"address": "10.99.3.2", "port": 7000, "cloud": "lab"}]),
         "service echo-tcp: dsr needs real 10.99.3.2 on the link, and it is behind 10.99.2.1"),
        (service("tcp", endpoints=[{"address": f"10.99.3.{n}", "port": 7000} for n in range(2, 72)]),
         "70 reals are wanted, the maps hold 63; raise xdp_reals"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_the_set_before_forwards(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend], wanted: dict[str, Any], words: str
) -> None:
    backend("real")
    assert edge.apply(service("tcp")) == ""
    assert words in edge.apply(wanted)
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"


def test_a_route_that_turns_elsewhere_costs_that_real_alone(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend]
) -> None:
    """The agent goes on following all the others, and says what it found."""
    first, _ = backend("real"), backend("other")
    wanted = service("tcp", "real", "other", health=HEALTH)
    assert edge.apply(wanted) == ""
    networks.run("edge", "ip", "link", "add", "elsewhere", "type", "veth", "peer", "name", "nowhere")
    for end in ("nowhere", "elsewhere"):
        networks.run("edge", "ip", "link", "set", end, "up")
    networks.run("edge", "ip", "route", "add", "10.99.4.2/32", "dev", "elsewhere")
    found = edge.until(lambda found: "another interface" in found["services"][0]["reals"][0]["why"])
    assert [real["state"] for real in found["services"][0]["reals"]] == ["down", "up"]
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"
    first.stop()
    edge.until(lambda found: found["services"][0]["reals"][1]["state"] == "down")


def test_a_card_that_went_and_came_back_has_the_datapath_again(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend]
) -> None:
    backend("real")
    assert edge.apply(service("tcp")) == ""
    ip("-n", networks.name("edge"), "link", "del", "eth0")
    networks.join("edge")
    edge.until(lambda found: found["interfaces"][0]["index"] == networks.index("edge"))
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"


def test_a_vip_that_is_anothers_now_is_taken_away(
    networks: Networks, program: Path, edge: Edge, bpffs: Path, tmp_path: Path
) -> None:
    """What the operator set by hand stays."""
    networks.run("edge", "ip", "addr", "add", "10.99.2.50/32", "dev", "eth0")
    edge.kill()
    successor = Edge(networks, program, tmp_path, bpffs, "10.99.2.101")
    try:
        assert successor.start() == ""
        shown = subprocess.run(
            ["ip", "-n", networks.name("edge"), "-o", "-4", "addr", "show", "dev", "eth0"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    finally:
        successor.kill()
    addresses = {line.split()[3] for line in shown.splitlines()}
    assert addresses == {"10.99.2.2/24", "10.99.2.50/32", "10.99.2.101/32"}


def test_another_program_on_the_card_is_named(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path
) -> None:
    pass_program = str(program.parent / "xdp_pass.bpf.o")
    ip("-n", networks.name("edge"), "link", "set", "dev", "eth0", "xdpdrv", "obj", pass_program, "sec", "xdp")
    edge = Edge(networks, program, tmp_path, bpffs)
    try:
        problem = edge.start()
        assert "eth0 carries another XDP program already (xdp_pass" in problem
        assert "does not run" in edge.apply(service("tcp"))
    finally:
        edge.kill()


def test_pins_need_a_bpf_file_system(networks: Networks, program: Path, tmp_path: Path) -> None:
    edge = Edge(networks, program, tmp_path, tmp_path / "pins")
    try:
        assert f"is not on a BPF file system: mount -t bpf bpf {tmp_path}" in edge.start()
    finally:
        edge.kill()
