"""A frame's headers once more, in Python: what the program's parser must find, or why it stops."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address

from tests.bpf.support.packets import ICMP, ICMPV6, TCP, UDP

_EXTENSIONS = (0, 43, 44, 51, 60)
_MAX_EXTENSIONS = 6


class Stop(Exception):
    """The fate is known."""


@dataclass
class Seen:
    """A parsed frame."""

    l3: int = 0
    l4: int = 0
    version: int = 0
    source: str = ""
    destination: str = ""
    protocol: int = 0
    sport: int = 0
    dport: int = 0
    flags: int = 0
    fragment: str = ""
    id: int = 0
    offset: int = 0
    followed: bool = False
    length: int = 0
    tos: int = 0
    ttl: int = 0
    icmp: int = -1
    seq: int = 0
    ack: int = 0
    whole: bool = True
    related: bool = False
    no_checksum: bool = False

    @property
    def opens(self) -> bool:
        return self.protocol == TCP and self.flags & 0x12 == 0x02


def _need(frame: bytes, end: int) -> None:
    if end > len(frame):
        raise Stop("drop_truncated")


def parse(frame: bytes) -> Seen:
    """Raises Stop with the reason."""
    seen, at = Seen(), 14
    kind = struct.unpack_from(">H", frame, 12)[0]
    for _ in range(2):
        if kind not in (0x8100, 0x88A8):
            break
        _need(frame, at + 4)
        kind = struct.unpack_from(">H", frame, at + 2)[0]
        at += 4
    if kind not in (0x0800, 0x86DD):
        # An ethertype of zero reads as none at all.
        raise Stop({0x0806: "pass_neighbour", 0: "drop_truncated"}.get(kind, "pass_not_ip"))
    seen.l3 = at
    (_parse4 if kind == 0x0800 else _parse6)(frame, seen)
    header = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}.get(seen.protocol, 0)
    ends = seen.l4 + header > seen.l3 + seen.length
    if (seen.fragment == "first" and ends) or (seen.fragment == "later" and seen.offset < header):
        raise Stop("drop_tiny_fragment")
    if seen.fragment == "later":
        return seen
    if seen.protocol in (TCP, UDP, ICMP, ICMPV6):
        _need(frame, seen.l4 + (20 if seen.protocol == TCP else 8))
        if seen.protocol in (TCP, UDP):
            seen.sport, seen.dport = struct.unpack_from(">HH", frame, seen.l4)
            if seen.protocol == TCP:
                seen.seq, seen.ack = struct.unpack_from(">II", frame, seen.l4 + 4)
                seen.flags = frame[seen.l4 + 13]
            else:
                seen.no_checksum = frame[seen.l4 + 6 : seen.l4 + 8] == b"\0\0"
        else:
            seen.icmp = frame[seen.l4]
    return seen


def _parse4(frame: bytes, seen: Seen) -> None:
    at = seen.l3
    _need(frame, at + 20)
    header, total = (frame[at] & 15) * 4, struct.unpack_from(">H", frame, at + 2)[0]
    if frame[at] >> 4 != 4 or header < 20 or total < header:
        raise Stop("drop_bad_header")
    _need(frame, at + total)
    bits = struct.unpack_from(">H", frame, at + 6)[0]
    seen.version, seen.length, seen.tos, seen.ttl = 4, total, frame[at + 1], frame[at + 8]
    seen.protocol, seen.whole, seen.l4 = frame[at + 9], bool(bits & 0x4000), at + header
    seen.source, seen.destination = (str(ip_address(frame[i : i + 4])) for i in (at + 12, at + 16))
    if bits & 0x3FFF:
        seen.fragment = "later" if bits & 0x1FFF else "first"
        seen.id, seen.offset = struct.unpack_from(">H", frame, at + 4)[0], (bits & 0x1FFF) * 8


def _parse6(frame: bytes, seen: Seen) -> None:
    at = seen.l3
    _need(frame, at + 40)
    if frame[at] >> 4 != 6:
        raise Stop("drop_bad_header")
    seen.version, seen.length = 6, 40 + struct.unpack_from(">H", frame, at + 4)[0]
    _need(frame, at + seen.length)
    seen.tos, seen.ttl = struct.unpack_from(">H", frame, at)[0] >> 4 & 0xFF, frame[at + 7]
    seen.source, seen.destination = (str(ip_address(frame[i : i + 16])) for i in (at + 8, at + 24))
    kind, at = frame[at + 6], at + 40
    for number in range(_MAX_EXTENSIONS + 1):
        if kind not in _EXTENSIONS or seen.fragment == "later":
            break
        if number == _MAX_EXTENSIONS:
            raise Stop("drop_extensions")
        _need(frame, at + 8)
        size = {44: 8, 51: (frame[at + 1] + 2) * 4}.get(kind, (frame[at + 1] + 1) * 8)
        bits = struct.unpack_from(">H", frame, at + 2)[0]
        if kind == 44 and bits & 0xFFF9:
            seen.fragment = "later" if bits & 0xFFF8 else "first"
            seen.id, seen.offset = struct.unpack_from(">I", frame, at + 4)[0], bits & 0xFFF8
        kind, at = frame[at], at + size
    seen.protocol, seen.l4 = kind, at
