"""Whole transfers, not headers: client, edge and reals on three L3 networks with a router between them.

10 MiB both ways over TCP and UDP, IPv4 and IPv6, by nat and by gue with decap at the backend; and connections
that live through fail, failback and finalise of their reals.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import pytest

from tests.bpf.conftest import SMALL, Loader
from tests.bpf.support.network import Network, network
from xds_agent.datapath.counters import Counters
from xds_agent.datapath.decap import Decap, load_decap
from xds_agent.datapath.drain import pinned_reals, pinned_slots
from xds_agent.datapath.libbpf import Unavailable
from xds_agent.datapath.link import Link
from xds_agent.datapath.maglev import SLOTS, Ring
from xds_agent.datapath.program import Generation
from xds_agent.datapath.services import TCP, UDP, Forward, Real, Service, Settings, Tables

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

MIB = 1 << 20
SIZE = 10 * MIB
DATAGRAM, WINDOW = 1200, 32
LARGEST = 65_507  # bytes of a datagram over IPv4
VIP = {4: "203.0.113.1", 6: "2001:db8:ffff::1"}
EDGE = {4: "10.82.0.2", 6: "fd00:82::2"}
GATEWAY = {4: "10.82.0.1", 6: "fd00:82::1"}
REALS = {"a": {4: "10.83.0.2", 6: "fd00:83::2"}, "b": {4: "10.84.0.2", 6: "fd00:84::2"}}
NUMBERS = {("a", 4): 1, ("b", 4): 2, ("a", 6): 3, ("b", 6): 4}
PORT, REAL_PORT = 80, 8080
RANDOM = random.Random(5)
DATA = RANDOM.randbytes(SIZE)


@dataclass
class Site:
    """A running edge; rings 4 and 6 are those of the IP versions."""

    network: Network
    generation: Generation
    tables: Tables
    counters: Counters
    rings: dict[int, Ring]
    stack: contextlib.ExitStack
    link: Link | None = None

    def serve(self, forward: Forward, protocol: int, version: int, *, mtu: int = 0) -> None:
        vip = ip_address(VIP[version])
        self.tables.put_service(Service(version, vip, PORT, protocol, forward, version, mtu=mtu))

    def step(self, version: int, real: str) -> None:
        """Every slot to that real."""
        self.rings[version].step([NUMBERS[real, version]] * SLOTS)
        self.tables.put_ring(version, self.rings[version])


def build(made: Network) -> None:
    """client -- router -- edge; router -- a; router -- b."""
    for name in ("client", "router", "edge", "a", "b"):
        made.host(name)
    nets = {"client": 81, "edge": 82, "a": 83, "b": 84}
    for name, number in nets.items():
        made.join(name, "router")
        made.address(name, "router", f"10.{number}.0.2/24", f"fd00:{number}::2/64")
        made.address("router", name, f"10.{number}.0.1/24", f"fd00:{number}::1/64")
        made.run(name, f"ip route add default via 10.{number}.0.1")
        made.run(name, f"ip -6 route add default via fd00:{number}::1")
    made.run("router", f"ip route add {VIP[4]} via {EDGE[4]}", f"ip -6 route add {VIP[6]} via {EDGE[6]}")
    made.settle()
    # Known from the start: neither test nor edge waits for resolution.
    for here, there, addresses in (("router", "edge", EDGE.values()), ("edge", "router", GATEWAY.values())):
        mac = made.mac(there, here).hex(":")
        for address in addresses:
            made.run(here, f"ip neigh replace {address} lladdr {mac} dev {there}")
    made.settle()


@pytest.fixture
def decap(program: Path) -> Iterator[Decap]:
    edges = [ip_network(address) for address in EDGE.values()]
    try:
        loaded = load_decap(program.parent / "decap.bpf.o", accept=edges)
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield loaded
    loaded.close()


@pytest.fixture
def site(loaded: Loader, decap: Decap) -> Iterator[Site]:
    with network() as made, contextlib.ExitStack() as stack:
        build(made)
        generation = loaded()
        site = Site(made, generation, Tables(generation), Counters(generation), {}, stack)
        site.tables.configure(
            Settings(
                nat_source4=IPv4Address(EDGE[4]),
                nat_source6=IPv6Address(EDGE[6]),
                tunnel_source4=IPv4Address(EDGE[4]),
                tunnel_source6=IPv6Address(EDGE[6]),
            )
        )
        gateway = made.mac("router", "edge")
        for (name, version), number in NUMBERS.items():
            address = ip_address(REALS[name][version])
            site.tables.put_real(number, Real(address, gateway, port=REAL_PORT))
        for version in (4, 6):
            site.rings[version] = Ring([NUMBERS["a", version]] * SLOTS)
            site.tables.put_ring(version, site.rings[version])
        site.link = attach(site, "edge", "router", generation)
        # Without a program on the peer, frames that XDP sends back vanish, and no counter says so.
        peer = made.index("router", "edge")
        stack.callback(made.inside("router", lambda: Link.attach(Passing(decap.pass_fd), peer)).close)
        yield site


@dataclass
class Passing:
    program_fd: int


def attach(site: Site, host: str, device: str, program: Generation | Decap) -> Link:
    index = site.network.index(host, device)
    link = site.network.inside(host, lambda: Link.attach(program, index))
    site.stack.callback(link.close)
    return link


def backend_of_gue(site: Site, decap: Decap) -> None:
    """Backends have the service's addresses on their loopbacks and answer clients themselves."""
    for name in REALS:
        site.network.address(name, "lo", f"{VIP[4]}/32", f"{VIP[6]}/128")
        attach(site, name, "router", decap)
    site.network.settle()


FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
KIND = {TCP: socket.SOCK_STREAM, UDP: socket.SOCK_DGRAM}


class Server(threading.Thread):
    """Gives back what it gets: per connection, or per datagram. Says which host answered (first byte)."""

    def __init__(self, site: Site, name: str, version: int, protocol: int, forward: Forward) -> None:
        super().__init__(daemon=True)
        self.name_of_host, self.protocol = name.encode(), protocol
        # Behind a tunnel the service's own address answers, behind nat the real's.
        place = (VIP[version], PORT) if forward == "gue" else (REALS[name][version], REAL_PORT)
        self.socket = site.network.inside(name, lambda: self._open(version, place))
        self.connections: list[socket.socket] = []
        site.stack.callback(self.stop)
        self.start()

    def _open(self, version: int, place: tuple[str, int]) -> socket.socket:
        made = socket.socket(FAMILY[version], KIND[self.protocol])
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MIB)
        made.bind(place)
        if self.protocol == TCP:
            made.listen(32)
        return made

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                if self.protocol == UDP:
                    data, sender = self.socket.recvfrom(LARGEST)
                    if sender is None:
                        return  # shut down
                    self.socket.sendto(self.name_of_host + data[1:], sender)
                    continue
                connection, _ = self.socket.accept()
                self.connections.append(connection)
                threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.sendall(self.name_of_host)
            while data := connection.recv(MIB):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.close()


def client(site: Site, version: int, protocol: int) -> socket.socket:
    def open_it() -> socket.socket:
        made = socket.socket(FAMILY[version], KIND[protocol])
        made.settimeout(30)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MIB)
        made.connect((VIP[version], PORT))
        return made

    made = site.network.inside("client", open_it)
    site.stack.callback(made.close)
    return made


def read(connection: socket.socket, size: int) -> bytes:
    parts, left = [], size
    while left and (part := connection.recv(min(left, MIB))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def exchange(connection: socket.socket, data: bytes) -> None:
    """Sends it and gets it back, both ways at once."""
    sender = threading.Thread(target=connection.sendall, args=(data,))
    sender.start()
    got = read(connection, len(data))
    sender.join(30)
    assert len(got) == len(data)
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


def exchange_datagrams(connection: socket.socket, data: bytes, host: str) -> int:
    """The same by datagrams, some of which may get lost: a window at a time, until each came back."""
    resent = 0
    chunks = [data[at : at + DATAGRAM] for at in range(0, len(data), DATAGRAM)]
    for first in range(0, len(chunks), WINDOW):
        wanted = {n: chunks[n] for n in range(first, min(first + WINDOW, len(chunks)))}
        deadline = time.monotonic() + 60
        while wanted:
            assert time.monotonic() < deadline, f"datagrams {sorted(wanted)} never came back"
            for number, chunk in wanted.items():
                connection.send(b"?" + number.to_bytes(4, "big") + chunk)
            connection.settimeout(2)
            with contextlib.suppress(TimeoutError):
                while wanted:
                    got = connection.recv(2048)
                    number = int.from_bytes(got[1:5], "big")
                    if number in wanted:
                        assert got[:1] == host.encode() and got[5:] == wanted.pop(number)
            resent += len(wanted)
    return resent


VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])


def transfer(site: Site, version: int, protocol: int) -> None:
    connection = client(site, version, protocol)
    if protocol == UDP:
        exchange_datagrams(connection, DATA, "a")
        return
    assert read(connection, 1) == b"a"
    exchange(connection, DATA)
    connection.shutdown(socket.SHUT_WR)
    assert read(connection, 1) == b"", "the connection ends in order"


@VERSIONS
@pytest.mark.parametrize("protocol", [TCP, UDP], ids=["TCP", "UDP"])
def test_10_mib_both_ways_by_nat(site: Site, version: int, protocol: int) -> None:
    Server(site, "a", version, protocol, "nat")
    site.serve("nat", protocol, version)
    transfer(site, version, protocol)
    counts = site.counters.service(version)
    assert counts["send_nat"].bytes > SIZE and counts["send_answer"].bytes > SIZE
    assert counts["note_nat_new"].packets == counts["note_nat_open"].packets == 1
    assert not {name for name in counts if name.startswith("drop_")}


@VERSIONS
def test_datagrams_larger_than_any_link_go_both_ways_by_nat(site: Site, version: int) -> None:
    """Of 6 and of 41 or 42 fragments, there and back, each whole; a late one would be named."""
    Server(site, "a", version, UDP, "nat")
    site.serve("nat", UDP, version)
    connection, rounds = client(site, version, UDP), 20
    connection.send(b"?")  # who is where is known then
    assert connection.recv(LARGEST) == b"a"
    for number in range(rounds):
        size = (8_000, 60_000)[number % 2]
        data = b"?" + DATA[number * size : (number + 1) * size - 1]
        connection.send(data)
        assert connection.recv(LARGEST) == b"a" + data[1:]
    counts, cuts = site.counters.service(version), {4: 41, 6: 42}[version]
    assert counts["send_nat"].packets == counts["send_answer"].packets == 1 + rounds // 2 * (6 + cuts)
    assert not {name for name in counts if name.startswith("drop_")}


@VERSIONS
@pytest.mark.parametrize("protocol", [TCP, UDP], ids=["TCP", "UDP"])
def test_10_mib_both_ways_by_gue_and_decap(site: Site, decap: Decap, version: int, protocol: int) -> None:
    """The tunnel takes room: the client learns the size that fits from the edge, not from silence."""
    backend_of_gue(site, decap)
    Server(site, "a", version, protocol, "gue")
    site.serve("gue", protocol, version, mtu=1500 - (28 if version == 4 else 48))
    before = decap.counts().get("pass_decapsulated")
    transfer(site, version, protocol)
    counts = site.counters.service(version)
    assert counts["send_gue"].bytes > SIZE
    assert decap.counts()["pass_decapsulated"].packets - (before.packets if before else 0) > SIZE // 1500
    if protocol == TCP:
        assert counts["send_too_big"].packets > 0


def test_a_stranger_cannot_use_the_tunnel(site: Site, decap: Decap) -> None:
    """Encapsulated by somebody who is no edge."""
    backend_of_gue(site, decap)
    stranger = site.network.inside("client", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with stranger:
        stranger.sendto(b"\x45" + bytes(59), (REALS["a"][4], 6080))
    eventually(lambda: "drop_tunnel_peer" in decap.counts())


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@VERSIONS
def test_a_transfer_survives_reloads(site: Site, loaded: Loader, version: int) -> None:
    """Generations take turns under it, one of them with a limiter of another size: NAT's table lives on."""
    Server(site, "a", version, TCP, "nat")
    site.serve("nat", TCP, version)
    connection = client(site, version, TCP)
    assert read(connection, 1) == b"a"
    following = loaded(predecessor=site.generation, sizes=replace(SMALL, limit_blocks=2048))
    assert following.fresh == ("limit_blocks",)
    failed: list[BaseException] = []

    def carry() -> None:
        try:
            exchange(connection, DATA)
        except BaseException as error:
            failed.append(error)

    carrying = threading.Thread(target=carry)
    carrying.start()
    reloads, link = 0, site.link
    assert link is not None
    while carrying.is_alive() or reloads < 4:
        link.update((following, site.generation)[reloads % 2])
        reloads += 1
    carrying.join()
    assert not failed
    counts = site.counters.service(version)
    assert counts["note_nat_new"].packets == 1
    assert not {name for name in counts if name.startswith("drop_")}


@VERSIONS
@pytest.mark.parametrize("forward", ["nat", "gue"])
def test_connections_survive_fail_failback_and_finalise(
    site: Site, decap: Decap, forward: Forward, version: int
) -> None:
    """One connection on A; A drains, a second one starts on B; A returns, unpinned slots are finalised.

    Both carry data through all of it, and a third goes to A again.
    """
    if forward == "gue":
        backend_of_gue(site, decap)
    for name in REALS:
        Server(site, name, version, TCP, forward)
    site.serve(forward, TCP, version, mtu=1400 if forward == "gue" else 0)
    first = client(site, version, TCP)
    assert read(first, 1) == b"a"
    site.step(version, "b")
    exchange(first, DATA[:MIB])
    second = client(site, version, TCP)
    assert read(second, 1) == b"b"
    exchange(second, DATA[:MIB])
    site.step(version, "a")
    pinned = pinned_slots(site.generation)[version]
    # The first goes where its slot goes again; the second is the one that must not be forgotten.
    assert len(pinned) == 1
    assert pinned_reals(site.generation) == {NUMBERS[name, version] for name in REALS}
    ring = site.tables.ring(version)
    assert ring is not None and ring.words() == site.rings[version].words()
    ring.finalise(sorted(ring.moved_slots() - pinned))
    site.tables.put_ring(version, ring)
    third = client(site, version, TCP)
    assert read(third, 1) == b"a"
    for connection in (first, second, third):
        exchange(connection, DATA[:MIB])
    counts = site.counters.service(version)
    assert "note_flow_remapped" not in counts
    assert not {name for name in counts if name.startswith("drop_")}
    # What the connections still say may be of a second that begins meanwhile: an age of -1.
    assert pinned_slots(site.generation, idle_s=-10) == {}
