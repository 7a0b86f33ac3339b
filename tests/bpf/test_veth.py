"""On a real interface: veth pairs between namespaces, native XDP, a flood, a reload while packets flow."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from bench.xdp_objects import Object
from tests.bpf.conftest import Loader
from tests.bpf.support.bench import Bench
from tests.bpf.support.packets import ICMP, UDP, Packet
from xds_agent.datapath import pins
from xds_agent.datapath.counters import Counters
from xds_agent.datapath.info import object_id
from xds_agent.datapath.libbpf import test_run as run_program
from xds_agent.datapath.link import Link
from xds_agent.datapath.program import DROP, Generation
from xds_agent.datapath.services import Service

pytestmark = pytest.mark.root
Redirector = Callable[[int], int]
BPF_F_TEST_XDP_LIVE_FRAMES = 2
CLONE_NEWNET = 0x40000000
SENT = 400_000


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no network namespaces here: ip {' '.join(words)}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Wire:
    """A veth pair: `near` carries the datapath, `far` lies in a namespace of its own."""

    namespace: str
    near: str
    far: str
    near_mac: bytes
    far_mac: bytes

    @property
    def index(self) -> int:
        return int(Path(f"/sys/class/net/{self.near}/ifindex").read_text())

    def enter(self) -> None:
        """This thread goes to the far end."""
        descriptor = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(descriptor)

    def received(self) -> int:
        """What XDP has seen. On a busy machine veth's ring of 256 is full before the near end has its turn,
        and drops: that tells about the machine, so packets are counted from here, and a tenth of what was
        sent is enough."""
        return int(Path(f"/sys/class/net/{self.near}/statistics/rx_packets").read_text())


@pytest.fixture
def wire() -> Iterator[Wire]:
    name = uuid.uuid4().hex[:6]
    wire = Wire(f"mp{name}", f"mpn{name}", f"mpf{name}", b"\x02\0\0\0\0\x1a", b"\x02\0\0\0\0\x1b")
    ip("netns", "add", wire.namespace)
    try:
        ip("link", "add", wire.near, "type", "veth", "peer", "name", wire.far, "netns", wire.namespace)
        ip("link", "set", wire.near, "address", wire.near_mac.hex(":"), "up")
        ip("-n", wire.namespace, "link", "set", wire.far, "address", wire.far_mac.hex(":"), "up")
        ip("-n", wire.namespace, "addr", "add", "192.0.2.2/30", "dev", wire.far)
        # The near end has no address: what is answered is answered by the datapath.
        neighbour = ("192.0.2.1", "lladdr", wire.near_mac.hex(":"), "dev", wire.far)
        ip("-n", wire.namespace, "neigh", "add", *neighbour)
        # Nor does anybody speak whom no test told to.
        for end in (("sysctl",), ("ip", "netns", "exec", wire.namespace, "sysctl")):
            name = wire.near if len(end) == 1 else wire.far
            subprocess.run([*end, "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1"], check=True)
        yield wire
    finally:
        subprocess.run(["ip", "link", "del", wire.near], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", wire.namespace], capture_output=True, check=False)


class Sender(threading.Thread):
    """Live frames from the far end, as fast as the kernel makes them, by a program that redirects them."""

    def __init__(self, wire: Wire, frame: bytes, packets: int, sender: int) -> None:
        super().__init__()
        self.wire, self.frame, self.packets, self.sender = wire, frame, packets, sender
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            self.wire.enter()
            flags = BPF_F_TEST_XDP_LIVE_FRAMES
            run_program(self.sender, self.frame, repeat=self.packets, flags=flags, batch=64)
        except BaseException as error:
            self.failed = error

    def finish(self) -> None:
        self.join(60)
        assert not self.is_alive()
        if self.failed is not None:
            raise self.failed


@pytest.fixture
def redirector(program: Path) -> Iterator[Redirector]:
    """A loaded program that sends every frame out of the interface it was told."""
    made: list[Object] = []

    def to(index: int) -> int:
        made.append(Object(program.parent / "bench_entry.bpf.o", {"leave_by": index}))
        return made[-1].program("bench_send")

    yield to
    for one in made:
        one.close()


def far_index(wire: Wire) -> int:
    found: list[int] = []

    def look() -> None:
        wire.enter()
        found.append(socket.if_nametoindex(wire.far))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]


def flood(wire: Wire) -> Packet:
    return Packet(
        source="198.51.100.7",
        destination="192.0.2.1",
        protocol=UDP,
        dport=9,
        source_mac=wire.far_mac,
        destination_mac=wire.near_mac,
        payload=bytes(18),
    )


def dropped(generation: Generation) -> int:
    found = Counters(generation).service(0).get("drop_denied")
    return found.packets if found else 0


def test_a_flood_dies_in_native_xdp(wire: Wire, bench: Bench, redirector: Redirector) -> None:
    """Every packet of it is counted as denied, and none reaches the kernel's UDP."""
    bench.lists_of(deny=["198.51.100.0/24"])
    link = Link.attach(bench.generation, wire.index)
    try:
        before, taken = udp_arrivals(), wire.received()
        sender = Sender(wire, flood(wire).bytes(), SENT, redirector(far_index(wire)))
        sender.start()
        sender.finish()
        died, came = settled(lambda: dropped(bench.generation), lambda: wire.received() - taken)
        assert died == came > SENT // 10
        assert udp_arrivals() - before < 1000, "the flood reached the kernel"
    finally:
        link.close()


def udp_arrivals() -> int:
    """Datagrams the kernel's UDP saw: delivered, and for ports nobody listens on."""
    lines = [
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Udp:")
    ]
    named = dict(zip(lines[0][1:], lines[1][1:], strict=True))
    return int(named["InDatagrams"]) + int(named["NoPorts"])


def settled(value: Callable[[], int], wanted: Callable[[], int]) -> tuple[int, int]:
    """Both, once they stand still and nothing is missing: softirqs may run on after the sender is done, and
    until then both count only what had its turn."""
    deadline = time.monotonic() + 20
    found = value(), wanted()
    while time.monotonic() < deadline:
        time.sleep(0.1)
        before, found = found, (value(), wanted())
        if before == found and found[0] >= found[1]:
            break
    return found


def test_reload_by_link_update_loses_and_leaks_nothing(
    wire: Wire, bench: Bench, loaded: Loader, redirector: Redirector, bpffs: Path
) -> None:
    """Two generations take turns on one pinned link while a flood flows; they share every map."""
    bench.lists_of(deny=["198.51.100.0/24"])
    second = loaded(predecessor=bench.generation)
    assert second.fresh == ()
    pin = bpffs / "link"
    link = Link.attach(bench.generation, wire.index)
    try:
        link.pin(pin)
        link.close()
        reopened = Link.open(pin)
        assert reopened is not None
        link = reopened
        before, taken = udp_arrivals(), wire.received()
        sender = Sender(wire, flood(wire).bytes(), 5 * SENT, redirector(far_index(wire)))
        sender.start()
        updates = 0
        while sender.is_alive():
            generation = (second, bench.generation)[updates % 2]
            link.update(generation)
            assert link.program_id() == object_id(generation.program_fd)
            updates += 1
        sender.finish()
        died, came = settled(lambda: dropped(second), lambda: wire.received() - taken)
        assert updates >= 2
        assert died == came > SENT // 2
        assert udp_arrivals() - before < 1000
        print(f"{updates} updates under {came} packets: 0 unfiltered, 0 lost")
    finally:
        link.close()
        pin.unlink(missing_ok=True)


def test_a_second_program_is_refused(wire: Wire, bench: Bench, loaded: Loader) -> None:
    link = Link.attach(bench.generation, wire.index)
    try:
        with pytest.raises(OSError, match="attaching to interface"):
            Link.attach(loaded(), wire.index)
    finally:
        link.close()


def test_the_way_back_is_pinned(
    wire: Wire,
    bench: Bench,
    loaded: Loader,
    bpffs: Path,
) -> None:
    """The old generation's agent is gone; its program is one update away, with the maps both share."""
    bench.lists_of(deny=["198.51.100.0/24"])
    kept = bpffs / "previous"
    assert pins.kept_program(kept) is None
    pins.keep_program(bench.generation, kept)
    before = object_id(bench.generation.program_fd)
    following = loaded(predecessor=bench.generation)
    link = Link.attach(following, wire.index)
    bench.generation.close()
    try:
        old = pins.kept_program(kept)
        assert old is not None
        link.update(old)
        old.close()
        assert link.program_id() == before
        assert following.run(Packet(source="198.51.100.1").bytes())[0] == DROP
    finally:
        link.close()


def pings(wire: Wire, address: str, *, count: int) -> int:
    """Echo requests from the far end through a raw socket; how many were answered."""
    answered: list[bytes] = []

    def ask() -> None:
        wire.enter()
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
            raw.settimeout(3)
            for number in range(count):
                asked = Packet(
                    source="192.0.2.2", destination=address, protocol=ICMP, icmp=(8, 0, 0x77 << 16 | number)
                ).l4()
                raw.sendto(asked, (address, 0))
                with contextlib.suppress(TimeoutError):
                    while (got := raw.recv(2048)[20:])[:1] != b"\0":
                        pass
                    if got[4:] == asked[4:]:
                        answered.append(got)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return len(answered)


def test_ping_through_native_xdp_is_answered_by_it(wire: Wire, bench: Bench) -> None:
    """The far end's own ping: XDP_TX over veth, with a program on the peer that lets frames in."""
    far = far_index(wire)
    passes: list[Link] = []

    def attach() -> None:
        wire.enter()
        passes.append(Link.attach(bench.generation, far))

    thread = threading.Thread(target=attach)
    thread.start()
    thread.join()
    service = Service(5, ip_address("192.0.2.1"), 0, 1, "echo")
    bench.tables.put_service(service)
    link = Link.attach(bench.generation, wire.index)
    try:
        assert pings(wire, "192.0.2.1", count=3) == 3
        assert bench.counters.service(5)["send_echo"].packets == 3
    finally:
        link.close()
        passes[0].close()


def test_without_a_program_on_the_peer_answers_vanish(wire: Wire, bench: Bench) -> None:
    """The trap itself: XDP says that it answered, and nobody gets it. Look at the peer."""
    bench.tables.put_service(Service(5, ip_address("192.0.2.1"), 0, 1, "echo"))
    link = Link.attach(bench.generation, wire.index)
    try:
        assert pings(wire, "192.0.2.1", count=1) == 0
        assert bench.counters.service(5)["send_echo"].packets == 1
    finally:
        link.close()
