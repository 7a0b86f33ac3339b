"""What samples cost: nanoseconds per packet by reader and rate, and how much a reader gets of a flood.

Thread-CPU time of BPF_PROG_TEST_RUN, cases interleaved round by round, the minimum of all rounds, as in
`datapath`; `absent_ns` is the program without the stage, `off_ns` with it and nobody reading. `receive_kpps`
is what one reader in Python takes by AF_XDP (copy mode, veth) of packets that XDP drops, and `drop_share` how
fast they are dropped meanwhile, beside the same flood with nobody reading: on few CPUs the two share them.
"""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack

from bench.datapath import ACK, FULL_SIZE, fastest, site
from bench.reload import DENIED, denied_frame, dropped
from bench.wires import Flood, Wire
from bench.xdp_objects import BUILD, Case
from xds_agent.datapath.acl import AccessLists
from xds_agent.datapath.program import Features, Generation, Sizes, load
from xds_agent.datapath.sampling import Ask, Tap

NAME = "sampling"
GOALS = {"off_extra_ns": ("<=", 3.0), "flows_1000_extra_ns": ("<=", 10.0)}
_RING_BYTES = 1 << 25
_REPEAT = 10_000
_WHOLE = 3584
_ENDLESS = 1 << 40
# Sampled at once, of one full size frame: more would not fit into the ring between two readings.
_READERS: dict[str, tuple[str, Ask]] = {
    "flows_1000": ("flows", Ask(one_in=1000)),
    "flows_1": ("flows", Ask(one_in=1)),
    "capture_none": ("capture", Ask(bytes=_WHOLE, port=9)),
    "capture_1": ("capture", Ask(bytes=_WHOLE)),
}


def measure(*, quick: bool = False) -> dict[str, float]:
    """Nanoseconds per packet, and thousands of packets a second."""
    subprocess.run(["make", "-s", "-C", str(BUILD.parent)], check=True)
    figures = _costs(rounds=20 if quick else 100)
    for name in ("off", *_READERS):
        figures[f"{name}_extra_ns"] = figures[f"{name}_ns"] - figures["absent_ns"]
    figures["capture_1_1500_extra_ns"] = figures["capture_1_1500_ns"] - figures["absent_1500_ns"]
    return figures | _received(seconds=2 if quick else 5)


def _costs(*, rounds: int) -> dict[str, float]:
    with ExitStack() as stack:
        cases: dict[str, Case] = {}
        taps: list[Tap] = []

        def add(name: str, generation: Generation, full_size: bool = False) -> None:
            packet = FULL_SIZE if full_size else ACK
            cases[f"{name}_ns"] = _Drained(name, generation.program_fd, packet.bytes(), taps=taps)
            stack.callback(cases[f"{name}_ns"].close)

        absent = stack.enter_context(site(sampling=False))
        add("absent", absent)
        add("absent_1500", absent, full_size=True)
        add("off", stack.enter_context(site()))
        for name, (tap, ask) in _READERS.items():
            generation = stack.enter_context(site())
            made = Tap(generation, tap, ask, ring_bytes=_RING_BYTES)  # type: ignore[arg-type]
            stack.callback(made.close)
            taps.append(made)
            add(name, generation)
            if name == "capture_1":
                add("capture_1_1500", generation, full_size=True)
        figures = fastest(cases, rounds, _REPEAT)
        for one in taps:
            one.close()
        return figures


class _Drained(Case):
    """Empties all rings before it is timed, so that none is ever full."""

    def __init__(self, *arguments: object, taps: list[Tap]) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._taps = taps

    def run(self, repeat: int) -> tuple[float, int]:
        for tap in self._taps:
            while tap.read():
                pass
        return super().run(repeat)


def _received(*, seconds: int) -> dict[str, float]:
    generation = load(
        BUILD / "xdp_main.bpf.o", sizes=Sizes(services=64, reals=64), features=Features(limit_seed=1)
    )
    lists = AccessLists(generation)
    try:
        with Wire() as wire:
            link = wire.attach(generation)
            try:
                lists.replace([(DENIED, lists.classes["deny"])])
                alone, _ = _flooded(wire, generation, None, seconds)
                queues = [(wire.index, 0)]
                ask = Ask(bytes=_WHOLE, reasons=["drop_denied"])
                tap = wire.network.inside("near", lambda: Tap(generation, "capture", ask, queues=queues))
                try:
                    watched, received = _flooded(wire, generation, tap, seconds)
                finally:
                    tap.close()
            finally:
                link.close()
    finally:
        generation.close()
    return {
        "receive_kpps": received / 1e3,
        "drop_mpps": alone / 1e6,
        "drop_mpps_captured": watched / 1e6,
        "drop_share": watched / alone,
    }


def _flooded(wire: Wire, generation: Generation, tap: Tap | None, seconds: int) -> tuple[float, float]:
    """Dropped and received per second."""
    before, received, started = dropped(generation), 0, time.monotonic()
    with Flood(wire, denied_frame(wire), _ENDLESS) as flood:
        try:
            while (passed := time.monotonic() - started) < seconds:
                if tap is None:
                    time.sleep(0.05)
                else:
                    received += len(tap.read())
            rates = (dropped(generation) - before) / passed, received / passed
        finally:
            flood.stop()
    return rates
