"""A veth pair between two namespaces of a benchmark's own, and floods of live frames over it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench.xdp_objects import ENTRY, Object
from tests.bpf.support.network import Network
from xds_agent.datapath.libbpf import test_run
from xds_agent.datapath.link import Link

NEAR, FAR = "192.0.2.1", "192.0.2.2"
_LIVE_FRAMES = 2  # BPF_F_TEST_XDP_LIVE_FRAMES


class Wire:
    """`near` carries the datapath, `far` sends; each in a namespace of its own."""

    def __enter__(self) -> Wire:
        self.network = Network()
        try:
            for name in ("near", "far"):
                self.network.host(name)
            self.network.join("near", "far")
            self.network.address("near", "far", f"{NEAR}/30")
            self.network.address("far", "near", f"{FAR}/30")
            self.network.settle()
            self.index = self.network.index("near", "far")
            self.far_index = self.network.index("far", "near")
            self.near_mac = self.network.mac("near", "far")
            self.far_mac = self.network.mac("far", "near")
        except BaseException:
            self.network.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.network.close()

    def attach(self, generation: object) -> Link:
        """Natively, to the near end."""
        return self.network.inside("near", lambda: Link.attach(generation, self.index))  # type: ignore[arg-type]

    def udp_arrivals(self) -> int:
        """Datagrams the near kernel's UDP saw: delivered, and for ports nobody listens on."""

        def read() -> int:
            text = Path("/proc/thread-self/net/snmp").read_text()
            names, values = (line.split()[1:] for line in text.splitlines() if line.startswith("Udp:"))
            named = dict(zip(names, values, strict=True))
            return int(named["InDatagrams"]) + int(named["NoPorts"])

        return self.network.inside("near", read)


class Flood(threading.Thread):
    """Sends so many frames from the far end, as fast as the kernel makes them; leaving waits for its end."""

    def __init__(self, wire: Wire, frame: bytes, packets: int) -> None:
        super().__init__()
        self._wire, self._frame, self._packets = wire, frame, packets
        self._object = Object(ENTRY, {"leave_by": wire.far_index})
        self._stopped = threading.Event()
        self.sent = 0
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            self._wire.network.inside("far", self._send)
        except BaseException as error:
            self.failed = error

    def _send(self) -> None:
        program = self._object.program("bench_send")
        while self.sent < self._packets and not self._stopped.is_set():
            part = min(self._packets - self.sent, 100_000)
            test_run(program, self._frame, repeat=part, flags=_LIVE_FRAMES, batch=64)
            self.sent += part

    def __enter__(self) -> Flood:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join()
        self._object.close()
        if self.failed is not None:
            raise self.failed

    def stop(self) -> None:
        """End before all is sent."""
        self._stopped.set()


def settled(value: Callable[[], int], wanted: int, *, within_s: float = 10.0) -> int:
    """The value once it reached that, or after the time: softirqs run on after the sender is done."""
    deadline = time.monotonic() + within_s
    while (now := value()) < wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return now
