"""Full NAT once more, in Python: the table of flows, and what becomes of a frame that is translated."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import ip_address

from tests.bpf.support.hashing import address_hash, mix, nat_place
from tests.bpf.support.packets import TCP, UDP

WAYS = 8
FIN, SYN, RST, ACK = 1, 2, 4, 16
_32 = 0xFFFFFFFF


@dataclass
class Flow:
    """A translated flow. `tuple` is client, its port, service, its port, protocol."""

    tuple: tuple[str, int, str, int, int]
    real: int
    real_address: str
    real_port: int
    service: int
    slot: int
    mac: bytes
    stage: str = "new"
    ended: set[str] = field(default_factory=set)
    expected: int = 0


@dataclass
class Table:
    """Slots by bank; nothing expires here (the fuzz gives flows all the time there is)."""

    seeds: tuple[int, int]
    ports: int
    banks: int
    first_port: int = 20000
    slots: dict[int, Flow] = field(default_factory=dict)

    def place(self, flow: tuple[str, int, str, int, int], real: str) -> tuple[int, int]:
        return nat_place(flow, real, seeds=self.seeds, sets=self.ports // WAYS, bank_mask=self.banks - 1)

    def find(self, flow: tuple[str, int, str, int, int], real: str) -> Flow | None:
        for row in self.place(flow, real):
            for slot in range(row * WAYS, row * WAYS + WAYS):
                if slot in self.slots and self.slots[slot].tuple == flow:
                    return self.slots[slot]
        return None

    def claim(self, flow: tuple[str, int, str, int, int], real: str) -> int:
        """The lowest free slot of the emptier set. Full sets are another test's business."""
        free = [
            [s for s in range(row * WAYS, row * WAYS + WAYS) if s not in self.slots]
            for row in self.place(flow, real)
        ]
        best = free[1] if len(free[1]) > len(free[0]) else free[0]
        assert best, "the fuzz must not fill NAT's table"
        return best[0]

    def port(self, flow: Flow) -> int:
        return self.first_port + flow.slot % self.ports

    def answered(self, real: str, real_port: int, port: int, protocol: int) -> Flow | None:
        """Whose answer comes from that real to that port of ours."""
        offset = port - self.first_port
        if not 0 <= offset < self.ports:
            return None
        flow = self.slots.get((mix(address_hash(real)) & (self.banks - 1)) * self.ports + offset)
        if flow is None or (flow.real_address, flow.real_port) != (real, real_port):
            return None
        return flow if flow.tuple[4] == protocol else None


def after_client(flow: Flow, flags: int, ack: int) -> bool:
    """Whether this packet of the client confirmed the flow."""
    protocol = flow.tuple[4]
    if protocol == UDP:
        confirmed = flow.stage == "answered"
        flow.stage = "open" if confirmed else flow.stage
        return confirmed
    if flags & (SYN | ACK) == SYN:
        if flow.ended:
            flow.stage, flow.ended = "new", set()
        return False
    if flags & RST:
        flow.ended.add("reset")
        return False
    confirmed = flow.stage == "answered" and bool(flags & ACK) and (ack - flow.expected) & _32 < 0x10000
    if confirmed:
        flow.stage = "open"
    if flags & FIN:
        flow.ended.add("client")
    return confirmed


def after_real(flow: Flow, flags: int, seq: int) -> None:
    if flow.stage == "new" and (flow.tuple[4] == UDP or flags & (SYN | RST)):
        flow.stage = "answered"
    if flow.tuple[4] == UDP:
        return
    if flags & RST:
        flow.ended.add("reset")
    elif flags & FIN:
        flow.ended.add("real")
    if flags & SYN:
        flow.expected = (seq + 1) & _32


def adjust(out: bytearray, at: int, before: bytes, after: bytes) -> None:
    """RFC 1624 over any number of words."""
    total = ~struct.unpack_from(">H", out, at)[0] & 0xFFFF
    for number in range(0, len(before), 2):
        total += ~struct.unpack_from(">H", before, number)[0] & 0xFFFF
        total += struct.unpack_from(">H", after, number)[0]
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    struct.pack_into(">H", out, at, ~total & 0xFFFF)


def adjust_transport(out: bytearray, at: int, protocol: int, before: bytes, after: bytes) -> None:
    """TCP's or UDP's own checksum, at that place; UDP may have none."""
    if protocol == UDP:
        if out[at : at + 2] == b"\0\0":
            return
        adjust(out, at, before, after)
        if out[at : at + 2] == b"\0\0":
            out[at : at + 2] = b"\xff\xff"
        return
    adjust(out, at, before, after)


def readdress(out: bytearray, l3: int, source: str, destination: str) -> tuple[bytes, bytes]:
    """New addresses in an IP header; what the words were and are."""
    packed = ip_address(source).packed + ip_address(destination).packed
    at = l3 + (12 if len(packed) == 8 else 8)
    before = bytes(out[at : at + len(packed)])
    out[at : at + len(packed)] = packed
    return before, packed


def network(out: bytearray, l3: int, source: str, destination: str) -> tuple[bytes, bytes]:
    """One hop further under other addresses."""
    six = ":" in source
    at = l3 + 7 if six else l3 + 8
    life = bytes(out[l3 + 8 : l3 + 10])
    out[at] -= 1
    after_life = bytes(out[l3 + 8 : l3 + 10])
    before, after = readdress(out, l3, source, destination)
    if not six:
        adjust(out, l3 + 10, life + before, after_life + after)
    return before, after


def carried(frame: bytes, l3: int, source: str, destination: str, mac: bytes) -> bytes:
    """A later fragment under other addresses: no port, and no checksum but that of IPv4's header."""
    out = bytearray(frame)
    out[0:12] = mac + frame[0:6]
    network(out, l3, source, destination)
    return bytes(out)


def translated(
    frame: bytes, l3: int, l4: int, protocol: int, to: tuple[str, int, str, int], mac: bytes
) -> bytes:
    """The frame as one of another tuple (source, port, destination, port)."""
    out = bytearray(frame)
    out[0:12] = mac + frame[0:6]
    before, after = network(out, l3, to[0], to[2])
    ports = struct.pack(">HH", to[1], to[3])
    out[l4 : l4 + 4] = ports
    place = l4 + (16 if protocol == TCP else 6)
    adjust_transport(out, place, protocol, before + frame[l4 : l4 + 4], after + ports)
    return bytes(out)


def translated_error(
    frame: bytes,
    l3: int,
    l4: int,
    end: int,
    ends: tuple[str, str],
    quoted: tuple[str, int, str, int],
    mac: bytes,
) -> bytes:
    """An ICMP error from and to other addresses, about a packet of another tuple. `end`: of the IP packet."""
    out = bytearray(frame)
    out[0:12] = mac + frame[0:6]
    inner, six = l4 + 8, ":" in ends[0]
    size = 40 if six else (frame[inner] & 15) * 4
    protocol = frame[inner + 6] if six else frame[inner + 9]
    before, after = readdress(out, inner, quoted[0], quoted[2])
    if not six:
        adjust(out, inner + 10, before, after)
    at = inner + size
    ports = struct.pack(">HH", quoted[1], quoted[3])
    out[at : at + 4] = ports
    place = at + (6 if protocol == UDP else 16)
    if place + 2 <= min(end, len(frame)):
        adjust_transport(out, place, protocol, before + frame[at : at + 4], after + ports)
    outer_before, outer_after = network(out, l3, *ends)
    words = slice(inner, inner + (min(place + 2, len(frame)) - inner) // 2 * 2)
    if not six:
        outer_before = outer_after = b""
    adjust(out, l4 + 2, outer_before + frame[words], outer_after + bytes(out[words]))
    return bytes(out)
