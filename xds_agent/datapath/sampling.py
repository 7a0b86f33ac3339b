"""Samples of what XDP saw and decided: a reader says what it asks for, and takes what comes.

Two readers at a time, one per tap: the flow log and a capture. A tap is on while its reader puts off its end,
so a reader that dies costs packets nothing and the program nothing for long.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Literal, Protocol

from xds_agent.datapath.btf import Btf
from xds_agent.datapath.layout import Layout
from xds_agent.datapath.maps import Map, mapped
from xds_agent.datapath.records import Record
from xds_agent.datapath.ringbuf import RingReader
from xds_agent.datapath.xsk import Socket

Address = IPv4Address | IPv6Address
TapName = Literal["flows", "capture"]
_ROWS = {"flows": "TAP_FLOWS", "capture": "TAP_CAPTURE"}
# How long a tap stays on after its reader was heard last.
LEASE_S = 5.0
RING_BYTES = 1 << 22
# Chunks of all sockets together: 16 MiB of locked memory.
_CHUNKS, _FEWEST_CHUNKS, _MOST_CHUNKS = 4096, 64, 1024
RENEW_S = 1.0
_ALL_REASONS = (1 << 64) - 1
_ORDER = sys.byteorder


class TapTaken(Exception):
    """Another reader has it; the words say what to do."""


class Types(Protocol):
    """Whatever knows the maps of a loaded program: a Generation, or what is pinned."""

    @property
    def maps(self) -> Mapping[str, Map]: ...
    @property
    def btf(self) -> Btf: ...
    @property
    def reasons(self) -> Mapping[str, int]: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """What a reader wants: one in so many of the packets that match network, port and protocol, as they came,
    by either end; of those only what met one of the reasons, in one service's name."""

    one_in: int = 1
    network: IPv4Network | IPv6Network | None = None
    port: int = 0
    protocol: int = 0
    reasons: Collection[str] = ()
    """By their names in lower case; none: all of them."""
    service: int | None = None
    bytes: int = 0
    """Of each frame at most."""
    leaving: bool = False
    """Also what XDP sends on, as it leaves."""


@dataclass(frozen=True, slots=True)
class FlowKey:
    """Who with whom, as the packet came. `protocol` 0 and no addresses: it could not be read."""

    source: Address | None
    destination: Address | None
    source_port: int
    destination_port: int
    protocol: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A packet and its fate. `service`: its number in the maps."""

    time_ns: int
    """Since the Unix epoch."""
    reason: str
    service: int
    interface: int
    queue: int
    one_in: int
    length: int
    frame: bytes = field(repr=False, default=b"")
    """As many of `length` bytes as were asked for."""
    monitored: str = ""
    """The drop that monitor mode spared it."""
    leaving: bool = False
    flow: tuple[bytes, bytes, int, int, int, int] | None = None
    """Addresses as 16 bytes, ports, protocol, IP version: see `flow_key`."""

    @property
    def verdict(self) -> str:
        """pass, drop or send."""
        return self.reason.partition("_")[0]


def flow_key(flow: tuple[bytes, bytes, int, int, int, int]) -> FlowKey:
    """The flow of a sample, for people. Pure."""
    source, destination, source_port, destination_port, protocol, version = flow
    if version not in (4, 6):
        return FlowKey(None, None, 0, 0, 0)
    size = 4 if version == 4 else 16
    ends = ip_address(source[:size]), ip_address(destination[:size])
    return FlowKey(*ends, source_port, destination_port, protocol)


class Tap:
    """A tap of a running program, held by this reader until `close`."""

    def __init__(
        self, types: Types, name: TapName, ask: Ask, *, ring_bytes: int = RING_BYTES,
        queues: Sequence[tuple[int, int]] = (), zero_copy: bool = False,
    ) -> None:  # fmt: skip
        """`queues`: (interface, queue) whose dropped packets are to come by AF_XDP.

        Raises:
            TapTaken: another reader is at it.
            OSError: no rights, no such queue, a queue that another socket has.
        """
        self._types, self._name = types, name
        self._row = types.btf.enum("tap_row")[_ROWS[name]]
        self._place = _Place(types, self._row)
        if self._place.taken():
            self._place.close()
            raise TapTaken(f"another {name} reader is at work on this host: wait until it ends, or end it")
        self._reader = _Reader(types)
        self.sockets: list[Socket] = []
        self._renewed = 0.0
        self._closing = contextlib.ExitStack()
        try:
            self._closing.callback(self._place.close)
            self._ring = RingReader(f"samples_{name}", ring_bytes)
            self._closing.callback(self._ring.close)
            types.maps["sample_rings"].put(self._row, self._ring.fd)
            self._closing.callback(self._take_away, "sample_rings", self._row)
            self._open(queues, zero_copy=zero_copy)
            self._place.write(ask, types)
            self._closing.callback(self._place.off)
            self.renew()
        except BaseException:
            self._closing.close()
            raise

    def _open(self, queues: Sequence[tuple[int, int]], *, zero_copy: bool) -> None:
        chunks = max(_FEWEST_CHUNKS, min(_MOST_CHUNKS, _CHUNKS // max(1, len(queues))))
        chunks = 1 << (chunks.bit_length() - 1)
        rows, sockets = self._types.maps["sample_queues"], self._types.maps["sample_sockets"]
        for row, (interface, queue) in enumerate(queues):
            one = Socket(interface, queue, chunks=chunks, zero_copy=zero_copy)
            self.sockets.append(one)
            self._closing.callback(one.close)
            sockets.put(row, one.fileno())
            key = {"interface": interface, "queue": queue}
            rows.put(key, row)
            self._closing.callback(self._take_away, "sample_queues", key)

    def renew(self) -> None:
        """The tap stays on for LEASE_S from here on. `read` does so by itself."""
        now = time.monotonic()
        if now - self._renewed > RENEW_S:
            self._renewed = now
            self._place.until(now + LEASE_S)

    def read(self) -> list[Sample]:
        """What has come since, at most some thousands, oldest first. Never waits. Raises OSError."""
        self.renew()
        offset = time.time_ns() - time.monotonic_ns()
        found = [self._reader.of_ring(data, offset) for data in self._ring.read()]
        for one in self.sockets:
            size = self._reader.head
            found += [self._reader.of_socket(got.metadata, got.frame, offset) for got in one.receive(size)]
        return sorted(found, key=lambda sample: sample.time_ns) if self.sockets else found

    def lost_by_sockets(self) -> dict[str, int]:
        """What AF_XDP could not hand over, by the kernel's names; nothing was lost but the samples."""
        total: Counter[str] = Counter()
        for one in self.sockets:
            total.update({name: count for name, count in one.statistics().items() if count})
        return dict(total)

    def close(self) -> None:
        """Off at once."""
        self._closing.close()

    def _take_away(self, name: str, key: Any) -> None:
        # Best effort: what stays costs nothing, and the next reader replaces it.
        with contextlib.suppress(OSError):
            self._types.maps[name].delete(key)


class _Place:
    """A tap's part of the map that programs look at, in memory."""

    def __init__(self, types: Types, row: int) -> None:
        table, btf = types.maps["sampling"], types.btf
        self._tap = Layout(btf, btf.number("tap"))
        self._memory = mapped(table, -(-table.value.size // 4096) * 4096)
        offsets = {one.name: one.offset for one in btf.members(btf.resolved(btf.number("sampling")))}
        fields = {one.name: one.offset for one in btf.members(btf.resolved(btf.number("tap")))}
        self._one_in = offsets["one_in"] + 4 * row
        self._at = offsets["taps"] + self._tap.size * row
        self._until = self._at + fields["until_ns"]

    def taken(self) -> bool:
        until = int.from_bytes(self._memory[self._until : self._until + 8], _ORDER)
        return self._switched_on() and until > time.monotonic_ns()

    def _switched_on(self) -> bool:
        return any(self._memory[self._one_in : self._one_in + 4])

    def write(self, ask: Ask, types: Types) -> None:
        """All but its end; on from here."""
        flags, wanted = types.btf.enum("tap_flag"), _ALL_REASONS
        if ask.reasons:
            wanted = sum(1 << types.reasons[name.upper()] for name in set(ask.reasons))
        value: dict[str, Any] = {
            "reasons": wanted,
            "flags": (flags["TAP_LEAVING"] if ask.leaving else 0)
            | (flags["TAP_BY_SERVICE"] if ask.service is not None else 0),
            "service": ask.service or 0, "bytes": ask.bytes, "port": ask.port, "protocol": ask.protocol,
        }  # fmt: skip
        if ask.network is not None:
            value |= {
                "network": ask.network.network_address.packed, "mask": ask.network.netmask.packed,
                "version": ask.network.version,
            }  # fmt: skip
        packed = self._tap.pack(value)
        self._switch(0)
        self._memory[self._at : self._at + len(packed)] = packed
        self._switch(ask.one_in)

    def until(self, end_s: float) -> None:
        self._memory[self._until : self._until + 8] = int(end_s * 1e9).to_bytes(8, _ORDER)

    def off(self) -> None:
        self._switch(0)

    def _switch(self, one_in: int) -> None:
        self._memory[self._one_in : self._one_in + 4] = one_in.to_bytes(4, _ORDER)

    def close(self) -> None:
        self._memory.close()


class _Reader:
    """Records into samples."""

    def __init__(self, types: Types) -> None:
        self._sample, self._flow = Record(types.btf, "sample"), Record(types.btf, "flow_key")
        self._names = {number: name.lower() for name, number in types.reasons.items()}
        self.head = self._sample.size

    def of_ring(self, data: bytes, offset: int) -> Sample:
        key = self._flow.read(data, self.head)
        flow = (
            key["source"], key["destination"], key["source_port"], key["destination_port"], key["protocol"],
            key["version"],
        )  # fmt: skip
        return self._of(data, data[self.head + self._flow.size :], offset, flow)

    def of_socket(self, metadata: bytes, frame: bytes, offset: int) -> Sample:
        return self._of(metadata, frame, offset, None)

    def _of(self, head: bytes, frame: bytes, offset: int, flow: Any) -> Sample:
        said = self._sample.read(head)
        return Sample(
            time_ns=said["time_ns"] + offset, reason=self._name(said["reason"]), service=said["service"],
            interface=said["interface"], queue=said["queue"], one_in=said["one_in"], length=said["length"],
            frame=frame, monitored=self._name(said["monitored"]) if said["monitored"] else "",
            leaving=bool(said["leaving"]), flow=flow,
        )  # fmt: skip

    def _name(self, number: int) -> str:
        return self._names.get(number, f"reason_{number}")
