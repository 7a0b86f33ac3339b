"""How long questions of P0, P1 and P2 wait for their answers while P3 fills the line: idle, shaped, unshaped.

A line of 20 Mbit/s (HTB on a veth pair). Shaped: tc_egress puts each service's packets into the class of its
priority, in the tree that `tc_qos` makes. Unshaped: the same line, one queue for all. P3 sends more than the
line takes, all the time. The goals are what each class promises.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from multiprocessing.synchronize import Event
from typing import Any

from bench.wires import FAR, NEAR, Wire
from bench.xdp_objects import BUILD
from plugins.module_utils import htb
from xds_agent.datapath.program import Generation, Sizes, load
from xds_agent.datapath.services import UDP, Service, Tables
from xds_agent.datapath.tc import TcLink, load_tc

NAME = "qos"
GOALS = {
    "p0_p99_ms_shaped": ("<=", 1.0),
    "p1_p99_ms_shaped": ("<=", 10.0),
    "p2_p99_ms_shaped": ("<=", 100.0),
    "ratio_unshaped_shaped": (">=", 2.0),
}
_ASKED = ("p0", "p1", "p2")
# DSCP of P0 to P3, as the datapath marks them.
_DSCP = (46, 34, 18, 8)
_FIRST_PORT, SINK_PORT = 7000, 7999
P3_PORT = _FIRST_PORT + 3
_LINE_MBIT = 20  # slow enough that a busy machine fills it
_LINE = f"{_LINE_MBIT}mbit"
_QUEUE_PACKETS = 200
_FORK = multiprocessing.get_context("fork")


def measure(*, quick: bool = False) -> dict[str, float]:
    """99th percentiles in milliseconds, and what part of the line P3 still had."""
    subprocess.run(["make", "-s", "-C", str(BUILD.parent)], check=True)
    questions = 200 if quick else 2000
    generation = load(BUILD / "xdp_main.bpf.o", sizes=Sizes(services=64, reals=64))
    try:
        with Wire() as wire, _classes(wire, generation):
            _shape(wire)
            idle, _ = _ask(wire, questions, load=False)
            shaped, rate = _ask(wire, questions, load=True)
            _single_queue(wire)
            unshaped, _ = _ask(wire, questions, load=True)
    finally:
        generation.close()
    waits = {"idle": idle, "shaped": shaped, "unshaped": unshaped}
    figures = {
        f"{name}_p99_ms_{line}": p99_ms[at]
        for at, name in enumerate(_ASKED)
        for line, p99_ms in waits.items()
    }
    return figures | {"ratio_unshaped_shaped": unshaped[0] / shaped[0], "p3_mbit_shaped": rate}


@contextmanager
def _classes(wire: Wire, generation: Generation) -> Iterator[None]:
    """A service of each class; what leaves in their names gets class and mark."""
    tables = Tables(generation)
    tc = load_tc(BUILD / "tc.bpf.o", beside=generation)
    for at, dscp in enumerate(_DSCP):
        tables.put_service(Service(at + 1, IPv4Address(NEAR), _FIRST_PORT + at, UDP))
        tc.put_egress(at + 1, htb_class=htb.FIRST + at, dscp=dscp)
    link = wire.network.inside("near", lambda: TcLink.attach(tc, wire.index, "egress"))
    try:
        yield
    finally:
        link.close()
        tc.close()


def _shape(wire: Wire) -> None:
    """The tree of `tc_qos` with its own shares, and a short queue for each class."""
    tree = htb.wanted_tree("far", _LINE, {})
    lines = [f"qdisc replace dev far root handle 1: htb default {htb.DEFAULT & 0xFFFF:x}"]
    for handle, one in sorted(tree.classes.items()):
        place = f"dev far parent {htb.classid(one.parent)} classid {htb.classid(handle)}"
        lines.append(f"class add {place} htb rate {one.rate}bit ceil {one.ceil}bit prio {one.prio}")
        if handle != htb.LINK:
            lines.append(f"qdisc add dev far parent {htb.classid(handle)} pfifo limit {_QUEUE_PACKETS}")
    _tc(wire, lines)


def _single_queue(wire: Wire) -> None:
    # Another handle: the classes that packets name do not exist here.
    _tc(
        wire,
        [
            "qdisc del dev far root",
            "qdisc add dev far root handle 2: htb default 1",
            f"class add dev far parent 2: classid 2:1 htb rate {_LINE} ceil {_LINE}",
            f"qdisc add dev far parent 2:1 pfifo limit {_QUEUE_PACKETS}",
        ],
    )


def _tc(wire: Wire, lines: list[str]) -> None:
    wire.network.run("near", *(f"tc {line}" for line in lines))
    wire.network.settle()


def _ask(wire: Wire, questions: int, *, load: bool) -> tuple[list[float], float]:
    """The 99th percentile of answers in ms by class, and what P3 sent in Mbit/s."""
    network, stop = wire.network, _FORK.Event()
    sink = network.inside("far", lambda: _bound(FAR, SINK_PORT))
    ports = [_FIRST_PORT + at for at in range(len(_ASKED))]
    answering = network.inside("near", lambda: [_bound(NEAR, port) for port in ports])
    bulk = network.inside("near", lambda: _bound(NEAR, P3_PORT))
    asking = network.inside("far", lambda: _bound(FAR, 0))
    received = _FORK.Value("q", 0)
    # Processes of their own: in a thread of this one each answer would wait for the interpreter's lock.
    others = [_FORK.Process(target=_answer, args=(answering, stop))]
    if load:
        others += [
            _FORK.Process(target=_fill, args=(bulk, stop)),
            _FORK.Process(target=_drain, args=(sink, stop, received)),
        ]
    for other in others:
        other.start()
    try:
        if load:
            time.sleep(0.5)  # the queue fills
        started, before = time.monotonic(), received.value
        with _at_once():
            rounds = [[_question(asking, port, number) for port in ports] for number in range(questions)]
        took_s = time.monotonic() - started
        rate = (received.value - before) * 8 / took_s / 1e6
    finally:
        stop.set()
        for other in others:
            other.join()
        for one in (sink, *answering, bulk, asking):
            one.close()
    return [statistics.quantiles(times, n=100)[98] * 1000 for times in zip(*rounds, strict=True)], rate


def _bound(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, port))
    made.settimeout(0.2)
    return made


def _question(asking: socket.socket, port: int, number: int) -> float:
    """Seconds; a lost answer counts as the time until the question was asked once more and answered."""
    started, text = time.monotonic(), port.to_bytes(2, "big") + number.to_bytes(4, "big")
    while True:
        asking.sendto(text, (NEAR, port))
        try:
            while asking.recv(64) != text:
                pass
            return time.monotonic() - started
        except TimeoutError:
            if time.monotonic() - started > 10:
                raise


def _answer(answering: Sequence[socket.socket], stop: Event) -> None:
    with _at_once():
        while not stop.is_set():
            for one in select.select(answering, (), (), 0.2)[0]:
                text, sender = one.recvfrom(64)
                one.sendto(text, sender)


@contextmanager
def _at_once() -> Iterator[None]:
    """Before everything else on its CPU: what is timed is the line's queue, not the scheduler's."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _fill(bulk: socket.socket, stop: Event) -> None:
    """Twice what the line takes on the long run: beyond that it only burns a CPU."""
    text, sent, started = bytes(1400), 0, time.monotonic()
    while not stop.is_set():
        owed = (time.monotonic() - started) * 2 * _LINE_MBIT * 1e6 / 8 - sent
        for _ in range(min(int(owed) // len(text), _QUEUE_PACKETS)):
            sent += bulk.sendto(text, (FAR, SINK_PORT))
        time.sleep(0.001)


def _drain(sink: socket.socket, stop: Event, received: Any) -> None:
    while not stop.is_set():
        try:
            received.value += len(sink.recv(2048))
        except TimeoutError:
            continue
