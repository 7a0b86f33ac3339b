"""A card is tried before the datapath comes on it: a question to a neighbour, whose answers XDP sends back as
that question.

One neighbour proves both ways. Its first answer has come through the driver's XDP (or the kernel's, in skb
mode); each further one shows that it heard what XDP_TX sent. What is no answer passes, nothing is pinned, and
the program is off the card as soon as its descriptor is closed, by whatever end of the process.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from xds_agent.datapath.link import Link
from xds_agent.datapath.objects import Object

OBJECT, PROGRAM = "xdp_reflect.bpf.o", "xdp_reflect"
_BROADCAST = b"\xff" * 6
_ETH_ARP, _ETH_IPV6, _ICMPV6 = 0x0806, 0x86DD, 58
_SOLICIT, _ADVERTISE = 135, 136
_ALL = 0xFFFF
# Answers that are sent back. The kernel asks a neighbour once a second, so three times at most within a
# trial: whoever answers `_SURE` times more often than we asked by the kernel's way was asked by XDP. Switches
# that inspect ARP commonly disable a port at 15 packets a second: all of a trial stay below that together.
_MOST, _SURE = 7, 5
_ASK_AGAIN_S, _LOOK_S = 0.5, 0.005
# Of other talk on a link between a question and its answer.
_FRAMES = 1000


@dataclass(frozen=True, slots=True)
class Question:
    """To a neighbour on the link: by ARP, or by neighbour solicitation for IPv6. Frames of Ethernet.

    `mac`, `source`: this host's on the interface; `neighbour` is whom it is about.
    """

    mac: bytes
    source: IPv4Address | IPv6Address
    neighbour: IPv4Address | IPv6Address

    def to_all(self) -> bytes:
        """As it is asked first, when nobody knows the neighbour's MAC."""
        if self.neighbour.version == 4:
            return self._arp(_BROADCAST)
        last = self.neighbour.packed[-3:]
        group = b"\x33\x33\xff" + last, IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + last)
        return self._solicitation(*group, option=b"\x01\x01" + self.mac)

    def to(self, mac: bytes) -> bytes:
        """To the neighbour alone, which knows us by then: no longer than its answer."""
        if self.neighbour.version == 4:
            return self._arp(mac)
        assert isinstance(self.neighbour, IPv6Address)
        return self._solicitation(mac, self.neighbour, option=b"")

    def answer(self) -> tuple[bytes, bytes]:
        """What an answer looks like, and a mask of where it counts."""
        if self.neighbour.version == 4:
            parts = [
                (bytes(12), False), (struct.pack("!HHHBBH", _ETH_ARP, 1, 0x0800, 6, 4, 2), True),
                (bytes(6), False), (self.neighbour.packed, True),
                (bytes(6), False), (self.source.packed, True),
            ]  # fmt: skip
        else:
            parts = [
                (bytes(12), False), (struct.pack("!H", _ETH_IPV6), True), (bytes(6), False),
                (bytes([_ICMPV6]), True), (bytes(17), False), (self.source.packed, True),
                (bytes([_ADVERTISE, 0]), True), (bytes(6), False), (self.neighbour.packed, True),
            ]  # fmt: skip
        value = b"".join(part for part, _ in parts)
        return value, b"".join((b"\xff" if counts else b"\0") * len(part) for part, counts in parts)

    @property
    def ethertype(self) -> int:
        return _ETH_ARP if self.neighbour.version == 4 else _ETH_IPV6

    def is_answered_by(self, frame: bytes) -> bool:
        """Whether a frame is an answer, as the program sees it."""
        value, mask = self.answer()
        pairs = zip(frame, value, mask, strict=False)
        return len(frame) >= len(value) and not any((one ^ known) & bits for one, known, bits in pairs)

    def _arp(self, to: bytes) -> bytes:
        head = to + self.mac + struct.pack("!HHHBBH", _ETH_ARP, 1, 0x0800, 6, 4, 1)
        return head + self.mac + self.source.packed + bytes(6) + self.neighbour.packed

    def _solicitation(self, to: bytes, destination: IPv6Address, *, option: bytes) -> bytes:
        body = bytes(4) + self.neighbour.packed + option
        length = len(body) + 4
        pseudo = self.source.packed + destination.packed + struct.pack("!II", length, _ICMPV6)
        checksum = _checksum(pseudo + bytes([_SOLICIT, 0, 0, 0]) + body)
        head = struct.pack("!IHBB", 6 << 28, length, _ICMPV6, 255) + self.source.packed + destination.packed
        message = bytes([_SOLICIT, 0]) + struct.pack("!H", checksum) + body
        return to + self.mac + struct.pack("!H", _ETH_IPV6) + head + message


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & _ALL) + (total >> 16)
    return ~total & _ALL


@dataclass(frozen=True, slots=True)
class Heard:
    """What a trial has shown. `asked`: questions by the kernel's way; `answers`: to those and to XDP's."""

    asked: int
    answers: int
    reflected: int

    @property
    def receives(self) -> bool:
        return self.answers > 0

    @property
    def sends(self) -> bool:
        return self.answers - self.asked >= _SURE


def ask(interface: str, question: Question, *, within_s: float) -> bytes | None:
    """The neighbour's MAC, asked for without any program; None where it is silent. Raises OSError."""
    with _opened(interface, question.ethertype) as opened:
        deadline = time.monotonic() + within_s
        while True:
            opened.send(question.to_all())
            mac = _answer_in(opened, question, until=min(deadline, time.monotonic() + _ASK_AGAIN_S))
            if mac is not None or time.monotonic() >= deadline:
                return mac


def _answer_in(opened: socket.socket, question: Question, *, until: float) -> bytes | None:
    # What came while this process waited for a processor counts, however late it is.
    for _ in range(_FRAMES):
        opened.settimeout(max(until - time.monotonic(), _LOOK_S))
        try:
            frame = opened.recv(256)
        except TimeoutError:
            return None
        if question.is_answered_by(frame):
            return frame[6:12]
    return None


def try_out(
    path: Path, interface: str, index: int, question: Question, mac: bytes, *, native: bool, within_s: float
) -> tuple[Link, Heard]:
    """The card with the trial's program on it, for whoever puts another one in its place, and what it showed.
    Close the link: that takes the program off.

    Raises Unavailable; OSError as `Link.attach` does, or where nothing can be sent.
    """
    opened = Object(path, PROGRAM)
    try:
        value, mask = question.answer()
        asking = question.to(mac)
        opened.set_constant(
            "trial",
            {"answer_bytes": len(value), "question_bytes": len(asking), "most": _MOST, "answer": value,
             "mask": mask, "question": asking},
        )  # fmt: skip
        opened.load()
        seen = opened.typed()["seen"]
        link = Link.attach(_Loaded(opened.fd(PROGRAM)), index, native=native)
        try:
            with _opened(interface, 0) as sender:
                return link, _heard(lambda: seen.get(0), sender, question.to(mac), within_s)
        except BaseException:
            link.close()
            raise
    finally:
        opened.close()


@dataclass(frozen=True, slots=True)
class _Loaded:
    program_fd: int


def _heard(
    read: Callable[[], dict[str, int] | None], sender: socket.socket, frame: bytes, within_s: float
) -> Heard:
    heard, asked = Heard(0, 0, 0), 0
    started = again = time.monotonic()
    while time.monotonic() - started < within_s and not heard.sends:
        if time.monotonic() >= again:
            # A driver that sets its rings up anew for XDP may be deaf for a while.
            with contextlib.suppress(OSError):
                sender.send(frame)
            asked, again = asked + 1, time.monotonic() + _ASK_AGAIN_S
        time.sleep(_LOOK_S)
        heard = Heard(asked, **(read() or {}))
    return heard


def _opened(interface: str, ethertype: int) -> socket.socket:
    """A packet socket of the interface; ethertype 0: only to send."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
    try:
        opened.bind((interface, ethertype))
    except OSError:
        opened.close()
        raise
    return opened
