"""What a flood leaves of an established TCP connection through the same interface.

The connection is paced to 200 Mbit/s, so that what is measured is loss and delay, not whose turn it is on a
machine with two CPUs; its time for the same bytes is taken without and under a flood that XDP drops, in turn,
and the medians are compared (`goodput_ratio_worst`: the slowest round). `ceiling_mpps` is a program
that drops everything, for comparison in the same run.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import threading
import time

from bench.reload import DENIED, denied_frame, dropped
from bench.wires import FAR, NEAR, Flood, Wire
from bench.xdp_objects import BUILD
from xds_agent.datapath.acl import AccessLists
from xds_agent.datapath.program import Features, Generation, Sizes, load

NAME = "flood"
GOALS = {"goodput_ratio": (">=", 0.9), "drop_share_of_ceiling": (">=", 0.5)}
_PACE_BYTES = 25_000_000
_ROUND_S = 2
_ENDLESS = 1 << 40
_PORT = 9000


def measure(*, quick: bool = False) -> dict[str, float]:
    """Goodput under the flood over goodput without; how fast the flood died."""
    subprocess.run(["make", "-s", "-C", str(BUILD.parent)], check=True)
    rounds = 2 if quick else 7
    generation = load(
        BUILD / "xdp_main.bpf.o", sizes=Sizes(services=64, reals=64), features=Features(limit_seed=1)
    )
    lists = AccessLists(generation)
    try:
        with Wire() as wire:
            link = wire.attach(generation)
            try:
                lists.replace([(DENIED, lists.classes["deny"])])
                with Connection(wire) as connection:
                    turns = [_turn(wire, generation, connection) for _ in range(rounds)]
                ceiling_mpps = _ceiling(wire, generation, rounds * _ROUND_S)
            finally:
                link.close()
    finally:
        generation.close()
    calm_s, flooded_s, mpps = zip(*turns, strict=True)
    drop_mpps = statistics.median(mpps)
    return {
        "goodput_ratio": statistics.median(calm_s) / statistics.median(flooded_s),
        "goodput_ratio_worst": statistics.median(calm_s) / max(flooded_s),
        "drop_mpps": drop_mpps,
        "ceiling_mpps": ceiling_mpps,
        "drop_share_of_ceiling": drop_mpps / ceiling_mpps,
    }


def _turn(wire: Wire, generation: Generation, connection: Connection) -> tuple[float, float, float]:
    """Seconds for the same bytes without and under the flood; what XDP dropped, in Mpps."""
    calm_s = connection.time_for(_PACE_BYTES * _ROUND_S)
    before, started = dropped(generation), time.monotonic()
    with Flood(wire, denied_frame(wire), _ENDLESS) as flood:
        try:
            flooded_s = connection.time_for(_PACE_BYTES * _ROUND_S)
            rate = (dropped(generation) - before) / (time.monotonic() - started)
        finally:
            flood.stop()
    return calm_s, flooded_s, rate / 1e6


def _ceiling(wire: Wire, generation: Generation, seconds: int) -> float:
    """The same flood, nothing else on the machine's CPUs, truncated frames: the first check drops them."""
    frame = denied_frame(wire)[:18]
    started = time.monotonic()
    with Flood(wire, frame, _ENDLESS) as flood:
        time.sleep(seconds)
        flood.stop()
    return flood.sent / (time.monotonic() - started) / 1e6


class Connection:
    """From far to near, paced; the near end reads everything."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def __enter__(self) -> Connection:
        network = self._wire.network
        self._listener = network.inside("near", lambda: socket.create_server((NEAR, _PORT)))
        self._sender = network.inside(
            "far", lambda: socket.create_connection((NEAR, _PORT), timeout=60, source_address=(FAR, 0))
        )
        pacing = getattr(socket, "SO_MAX_PACING_RATE", 47)
        self._sender.setsockopt(socket.SOL_SOCKET, pacing, _PACE_BYTES)
        self._receiver, _ = self._listener.accept()
        self._receiver.settimeout(60)
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._sender, self._receiver, self._listener):
            one.close()

    def time_for(self, size: int) -> float:
        """Seconds until the near end has read that many bytes. Raises TimeoutError."""
        started = time.monotonic()
        writer = threading.Thread(target=self._sender.sendall, args=(bytes(size),))
        writer.start()
        left = size
        while left:
            left -= len(self._receiver.recv(min(left, 1 << 20)))
        writer.join()
        return time.monotonic() - started
