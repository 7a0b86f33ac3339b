"""SYN cookies once more, in Python: who gets one, how it looks, and whether one that comes back is ours."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address

from tests.bpf.support.oracle_parse import Seen, Stop
from tests.bpf.support.packets import ACK, SYN, TCP, Packet

_64 = (1 << 64) - 1
_SIZES = (536, 1300, 1440, 1460)
_NO_SCALE, _OUR_SCALE = 15, 7
_ANSWER_OPTIONS = 24
_MOST_OPTIONS = 12


def siphash(data: bytes, key: bytes) -> int:
    """SipHash-2-4 as its paper has it."""
    one, other = struct.unpack("<QQ", key)
    v0, v1 = one ^ 0x736F6D6570736575, other ^ 0x646F72616E646F6D
    v2, v3 = one ^ 0x6C7967656E657261, other ^ 0x7465646279746573

    def left(word: int, bits: int) -> int:
        return (word << bits | word >> 64 - bits) & _64

    def rounds(count: int) -> None:
        nonlocal v0, v1, v2, v3
        for _ in range(count):
            v0, v2 = (v0 + v1) & _64, (v2 + v3) & _64
            v1, v3 = left(v1, 13) ^ v0, left(v3, 16) ^ v2
            v0 = left(v0, 32)
            v2, v0 = (v2 + v1) & _64, (v0 + v3) & _64
            v1, v3 = left(v1, 17) ^ v2, left(v3, 21) ^ v0
            v2 = left(v2, 32)

    whole = len(data) // 8 * 8
    last = data[whole:].ljust(7, b"\0") + bytes([len(data) & 0xFF])
    for at in range(0, whole, 8):
        (word,) = struct.unpack_from("<Q", data, at)
        v3 ^= word
        rounds(2)
        v0 ^= word
    (word,) = struct.unpack("<Q", last)
    v3 ^= word
    rounds(2)
    v0 ^= word
    v2 ^= 0xFF
    rounds(4)
    return v0 ^ v1 ^ v2 ^ v3


@dataclass
class Options:
    """What a request says about its sender; `time`: its time stamp."""

    mss: int = 536
    scale: int = _NO_SCALE
    sack: bool = False
    time: int | None = None


def options_of(data: bytes) -> Options:
    found, at = Options(), 0
    for _ in range(_MOST_OPTIONS):
        if at >= len(data) or data[at] == 0:
            break
        if data[at] == 1:
            at += 1
            continue
        option = data[at:].ljust(12, b"\0")  # what is cut off reads as zero
        kind, size = option[0], option[1]
        if size < 2:
            break
        if (kind, size) == (2, 4):
            found.mss = int.from_bytes(option[2:4], "big")
        elif (kind, size) == (3, 3):
            found.scale = min(option[2], 14)
        elif (kind, size) == (4, 2):
            found.sack = True
        elif (kind, size) == (8, 10):
            found.time = int.from_bytes(option[2:6], "big")
        at += size
    return found


@dataclass
class Cookies:
    """Beyond `above` requests everybody who asks a listener at an `own` address gets a cookie."""

    key: bytes
    own: frozenset[str]
    listening: frozenset[int]
    above: int
    asked: int = 0

    def gets_one(self, seen: Seen) -> bool:
        """Charged for each request to an own address; nobody listens at other ports."""
        if seen.fragment or not seen.opens or seen.destination not in self.own:
            return False
        self.asked += 1
        return self.asked > self.above and seen.dport in self.listening

    def cookie(self, ends: tuple[str, int, str, int], number: int, said: int, minute: int) -> int:
        source, sport, destination, dport = ends
        addresses = b"".join(ip_address(one).packed.ljust(16, b"\0") for one in (source, destination))
        ports = struct.pack(">HH", dport, sport)
        data = addresses + struct.pack("<I", number) + ports + struct.pack("<II", said, minute)
        return (siphash(data, self.key) << 8 | said) & 0xFFFFFFFF

    def answer(self, frame: bytes, seen: Seen, *, minute: int, time_ms: int) -> bytes:
        """The frame that answers a request. Raises Stop where it is the kernel's, or broken."""
        header = 20 if seen.version == 4 else 40
        if seen.l4 != seen.l3 + header:
            raise Stop("pass_kernel")
        size = (frame[seen.l4 + 12] >> 4) * 4
        if size < 20 or seen.length < header + size:
            raise Stop("drop_bad_header")
        asked = options_of(frame[seen.l4 + 20 : seen.l4 + size])
        index = max(at for at, least in enumerate(_SIZES) if at == 0 or asked.mss >= least)
        said = index << 5 | asked.sack << 4 | asked.scale
        ends = (seen.source, seen.sport, seen.destination, seen.dport)
        reply = Packet(
            source=seen.destination,
            destination=seen.source,
            protocol=TCP,
            sport=seen.dport,
            dport=seen.sport,
            flags=SYN | ACK,
            seq=self.cookie(ends, seen.seq, said, minute),
            ack=(seen.seq + 1) & 0xFFFFFFFF,
            window=0xFFFF,
            tcp_options=_answer_options(asked, seen.version, time_ms),
            payload=b"",
            ttl=64,
        )
        return frame[6:12] + frame[0:6] + frame[12 : seen.l3] + reply.l3()

    def accepts(self, acknowledgement: Packet, minute: int) -> bool:
        """Whether tc hands it to a listener as the end of a handshake: by this or the last minute."""
        one = acknowledgement
        if one.protocol != TCP or one.flags & (ACK | SYN | 4) != ACK or one.dport not in self.listening:
            return False
        cookie, number = (one.ack - 1) & 0xFFFFFFFF, (one.seq - 1) & 0xFFFFFFFF
        ends = (one.source, one.sport, one.destination, one.dport)
        return any(cookie == self.cookie(ends, number, cookie & 0xFF, then) for then in (minute, minute - 1))


def _answer_options(asked: Options, version: int, time_ms: int) -> bytes:
    said = struct.pack(">BBH", 2, 4, 1460 if version == 4 else 1440)
    said += b"\1\1\1\1" if asked.scale == _NO_SCALE else bytes([1, 3, 3, _OUR_SCALE])
    said += b"\1\1\4\2" if asked.sack else b"\1\1\1\1"
    if asked.time is not None:
        said += struct.pack(">BBBBII", 1, 1, 8, 10, time_ms & 0xFFFFFFFF, asked.time)
    return said.ljust(_ANSWER_OPTIONS, b"\1")
