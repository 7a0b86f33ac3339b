"""AF_XDP on a real interface: what XDP drops comes to a socket whole, by every queue, and whatever becomes of
the reader, no packet's fate is another one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bpf.support.bench import Bench
from tests.bpf.support.packets import Packet
from tests.bpf.test_veth import (
    Redirector,
    Sender,
    Wire,
    dropped,
    far_index,
    flood,
    ip,
    redirector,
    settled,
    udp_arrivals,
    wire,
)
from xds_agent.datapath import pins, sampling, xsk
from xds_agent.datapath.link import Link
from xds_agent.datapath.sampling import Ask, Sample, Tap
from xds_agent.datapath.xsk import QueueTaken, queues_of

__all__ = ["redirector", "wire"]  # fixtures
pytestmark = pytest.mark.root
ROOT = Path(__file__).resolve().parents[2]
WHOLE = 3584
QUEUES = 2
FLOOD = 200_000


@pytest.fixture
def attached(wire: Wire, bench: Bench) -> Iterator[Wire]:
    """The datapath on two queues; 198.51.100.0/24 is denied."""
    command = ["ethtool", "-L", wire.near, "rx", str(QUEUES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no veth with two queues here: {done.stderr.strip()}")
    bench.lists_of(deny=["198.51.100.0/24"])
    link = Link.attach(bench.generation, wire.index)
    try:
        yield wire
    finally:
        link.close()


def capture(bench: Bench, wire: Wire, **options: object) -> Tap:
    queues = [(wire.index, queue) for queue in queues_of(wire.near)]
    ask = Ask(bytes=WHOLE, reasons=["drop_denied"])
    return Tap(bench.generation, "capture", ask, queues=queues, **options)  # type: ignore[arg-type]


def send(wire: Wire, packet: Packet, count: int, sender: int, *, cpu: int | None = None) -> Sender:
    """Started; veth chooses the queue by the sender's CPU."""

    class OnOne(Sender):
        def run(self) -> None:
            if cpu is not None:
                os.sched_setaffinity(0, {cpu})
            super().run()

    made = OnOne(wire, packet.bytes(), count, sender)
    made.start()
    return made


def collect(tap: Tap, wanted: int) -> list[Sample]:
    """What has come until there is so much."""
    found: list[Sample] = []
    deadline = time.monotonic() + 10
    while len(found) < wanted and time.monotonic() < deadline:
        found += tap.read()
        time.sleep(0.01)
    return found


def test_a_dropped_packet_comes_whole_by_its_queue(
    attached: Wire, bench: Bench, redirector: Redirector
) -> None:
    """Each queue's own packets, each frame as it was sent, in front of it what XDP decided."""
    cpus = sorted(os.sched_getaffinity(0))[:QUEUES]
    if len(cpus) < QUEUES:
        pytest.skip("two queues need two CPUs")
    tap = capture(bench, attached)
    try:
        assert [one.mode for one in tap.sockets] == ["copy"] * QUEUES
        for cpu in cpus:
            packet = flood(attached).but(dport=1000 + cpu, payload=bytes(1400))
            send(attached, packet, 100, redirector(far_index(attached)), cpu=cpu).finish()
        found = collect(tap, 200)
        assert tap.lost_by_sockets() == {}
    finally:
        tap.close()
    assert len(found) == 200 and {one.queue for one in found} == set(range(QUEUES))
    for one in found:
        port = int.from_bytes(one.frame[36:38], "big")
        assert one.frame == flood(attached).but(dport=port, payload=bytes(1400)).bytes()
        assert (one.reason, one.interface, one.length) == ("drop_denied", attached.index, len(one.frame))
        assert one.flow is None, "by the socket, not by the ring"
    by_queue = {(one.queue, one.frame[36:38]) for one in found}
    assert len(by_queue) == QUEUES, "a queue's packets came by another one"
    assert bench.counters.service(0)["note_sampled"].packets == 200


def test_every_sample_is_received_or_counted_as_lost(
    attached: Wire, bench: Bench, redirector: Redirector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far more than the sockets hold, and nobody reads meanwhile: all are dropped, as without a reader."""
    # Nor does anybody renew it: the flood may take longer than a lease.
    monkeypatch.setattr(sampling, "LEASE_S", 60.0)
    tap = capture(bench, attached)
    try:
        taken = attached.received()
        send(attached, flood(attached), FLOOD, redirector(far_index(attached))).finish()
        died, came = settled(lambda: dropped(bench.generation), lambda: attached.received() - taken)
        lost = tap.lost_by_sockets()
        found = collect(tap, came - lost.get("rx_dropped", 0))
    finally:
        tap.close()
    assert died == came > FLOOD // 10
    assert lost.keys() <= {"rx_dropped", "rx_ring_full", "rx_fill_ring_empty_descs"} and lost
    assert len(found) + lost["rx_dropped"] == bench.counters.service(0)["note_sampled"].packets == came


@contextmanager
def reader_of(bench: Bench, wire: Wire, bpffs: Path, program: Path) -> Iterator[subprocess.Popen[str]]:
    """A reader in a process of its own, at work."""
    pins.pin(bench.generation, bpffs)
    script = f"""
import signal, sys, time
from pathlib import Path
from xds_agent.datapath.sampling import Ask, Tap
from xds_agent.datapath.xsk import queues_of
from xds_agent.node.datapath.pinned import Pinned
layout = {bench.generation.layout!r}
pinned = Pinned(folder=Path({str(bpffs)!r}), program=Path({str(program)!r}), layout=layout)
queues = [({wire.index}, queue) for queue in queues_of({wire.near!r})]
tap = Tap(pinned, "capture", Ask(bytes={WHOLE}), queues=queues)
print("reading", flush=True)
while True:
    tap.read()
    time.sleep(0.001)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None and process.stdout.readline() == "reading\n"
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_reader_that_is_killed_or_sleeps_costs_no_packet(
    attached: Wire, bench: Bench, redirector: Redirector, bpffs: Path, program: Path, blow: signal.Signals
) -> None:
    """Two streams, one to the kernel and one denied, while the reader of all of it is struck: each packet of
    the one arrives, each of the other is dropped."""
    ip("address", "add", "198.18.77.1/30", "dev", attached.near)
    good = flood(attached).but(source="198.18.77.2", destination="198.18.77.1")
    sender = redirector(far_index(attached))
    arrived, taken = udp_arrivals(), attached.received()

    def met() -> int:
        return dropped(bench.generation) + udp_arrivals() - arrived

    def came() -> int:
        return attached.received() - taken

    with reader_of(bench, attached, bpffs, program) as process:
        senders = [send(attached, packet, FLOOD, sender) for packet in (good, flood(attached))]
        while came() < FLOOD // 10 and any(one.is_alive() for one in senders):
            time.sleep(0.001)
        process.send_signal(blow)
        for one in senders:
            one.finish()
        fared, entered = settled(met, came)
        process.send_signal(signal.SIGCONT)
    counted = bench.counters.service(0)
    assert fared >= entered > FLOOD // 5, "packets were lost between the card and where they belong"
    assert min(dropped(bench.generation), udp_arrivals() - arrived) > FLOOD // 10
    assert counted["pass_kernel"].packets + dropped(bench.generation) >= entered
    assert counted["note_sampled"].packets > 0


def test_a_queue_can_be_had_again_right_after_it_was_left(
    attached: Wire, bench: Bench, redirector: Redirector
) -> None:
    """The kernel gives it back some time after the close, and says EBUSY until then."""
    sender = redirector(far_index(attached))
    for _ in range(10):
        tap = capture(bench, attached)
        try:
            send(attached, flood(attached), 10, sender).finish()
            assert len(collect(tap, 10)) == 10
        finally:
            tap.close()


def test_a_queue_of_anothers_is_named(attached: Wire, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    other, words = xsk.Socket(attached.index, 1), f"queue 1 of interface {attached.index} belongs to another"
    try:
        # Only here: queue 0, which it had already, is free again no sooner than the kernel likes.
        with monkeypatch.context() as patched, pytest.raises(QueueTaken, match=words):
            patched.setattr(xsk, "BUSY_S", 0.1)
            capture(bench, attached)
        # What was begun is taken back: nothing stands in the way of the next one.
        queues = [(attached.index, 0)]
        Tap(bench.generation, "capture", Ask(bytes=64), queues=queues).close()
    finally:
        other.close()


def test_where_zero_copy_is_not_offered_the_kernel_copies(
    attached: Wire, bench: Bench, redirector: Redirector
) -> None:
    tap = capture(bench, attached, zero_copy=True)
    try:
        assert {one.mode for one in tap.sockets} == {"copy"}
        send(attached, flood(attached), 10, redirector(far_index(attached))).finish()
        assert len(collect(tap, 10)) == 10
    finally:
        tap.close()
