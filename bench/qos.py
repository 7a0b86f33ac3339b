"""How long a P0 question waits for its answer while P3 fills the line: idle, shaped and unshaped.

A line of 20 Mbit/s (HTB on a veth pair). Shaped: tc_egress puts each service's packets into the class of its
priority. Unshaped: the same line, one queue for all. P3 sends more than the line takes, all the time.
"""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from multiprocessing.synchronize import Event
from typing import Any

from bench.wires import FAR, NEAR, Wire
from bench.xdp_objects import BUILD
from xds_agent.datapath.program import Generation, Sizes, load
from xds_agent.datapath.services import UDP, Service, Tables
from xds_agent.datapath.tc import TcLink, load_tc

NAME = "qos"
GOALS = {"p0_p99_ms_shaped": ("<=", 5.0), "ratio_unshaped_shaped": (">=", 2.0)}
P0_PORT, P3_PORT, SINK_PORT = 7000, 7003, 7999
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
    return {
        "p0_p99_ms_idle": idle,
        "p0_p99_ms_shaped": shaped,
        "p0_p99_ms_unshaped": unshaped,
        "ratio_unshaped_shaped": unshaped / shaped,
        "p3_mbit_shaped": rate,
    }


@contextmanager
def _classes(wire: Wire, generation: Generation) -> Iterator[None]:
    """P0 and P3 are services; what leaves in their names gets class and mark."""
    tables = Tables(generation)
    tc = load_tc(BUILD / "tc.bpf.o", beside=generation)
    for number, port, minor, dscp in ((1, P0_PORT, 0x10, 46), (2, P3_PORT, 0x13, 8)):
        tables.put_service(Service(number, IPv4Address(NEAR), port, UDP))
        tc.put_egress(number, htb_class=1 << 16 | minor, dscp=dscp)
    link = wire.network.inside("near", lambda: TcLink.attach(tc, wire.index, "egress"))
    try:
        yield
    finally:
        link.close()
        tc.close()


def _shape(wire: Wire) -> None:
    """P0 first, P3 what is left; one line for both."""
    lines = [
        "qdisc replace dev far root handle 1: htb default 13",
        f"class add dev far parent 1: classid 1:1 htb rate {_LINE} ceil {_LINE}",
    ]
    for minor, rate, priority in ((10, "10mbit", 0), (13, "2mbit", 3)):
        lines += [
            f"class add dev far parent 1:1 classid 1:{minor} htb rate {rate} ceil {_LINE} prio {priority}",
            f"qdisc add dev far parent 1:{minor} pfifo limit {_QUEUE_PACKETS}",
        ]
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


def _ask(wire: Wire, questions: int, *, load: bool) -> tuple[float, float]:
    """The 99th percentile of answers in ms, and what P3 sent in Mbit/s."""
    network, stop = wire.network, _FORK.Event()
    sink = network.inside("far", lambda: _bound(FAR, SINK_PORT))
    answering = network.inside("near", lambda: _bound(NEAR, P0_PORT))
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
        times = [_question(asking, number) for number in range(questions)]
        took_s = time.monotonic() - started
        rate = (received.value - before) * 8 / took_s / 1e6
    finally:
        stop.set()
        for other in others:
            other.join()
        for one in (sink, answering, bulk, asking):
            one.close()
    return statistics.quantiles(times, n=100)[98] * 1000, rate


def _bound(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, port))
    made.settimeout(0.2)
    return made


def _question(asking: socket.socket, number: int) -> float:
    """Seconds; a lost answer counts as the time until the question was asked once more and answered."""
    started, text = time.monotonic(), number.to_bytes(4, "big")
    while True:
        asking.sendto(text, (NEAR, P0_PORT))
        try:
            while asking.recv(64) != text:
                pass
            return time.monotonic() - started
        except TimeoutError:
            if time.monotonic() - started > 10:
                raise


def _answer(answering: socket.socket, stop: Event) -> None:
    while not stop.is_set():
        try:
            text, sender = answering.recvfrom(64)
        except TimeoutError:
            continue
        answering.sendto(text, sender)


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
