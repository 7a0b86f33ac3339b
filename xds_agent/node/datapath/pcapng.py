"""Captures as pcapng (draft-ietf-opsawg-pcapng), which has room for what XDP decided about each packet.

Verdict, queue and direction are options of the format; reason and service stand in a packet's comment.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import IO

from xds_agent.datapath.program import DROP, PASS, TX
from xds_agent.datapath.sampling import Sample

MAGIC = b"\n\r\r\n"
_SECTION, _INTERFACE, _SIMPLE, _PACKET = 0x0A0D0D0A, 1, 3, 6
_ORDER_MAGIC = 0x1A2B3C4D
_ETHERNET = 1
_COMMENT, _NAME, _FLAGS, _QUEUE, _VERDICT, _RESOLUTION, _APPLICATION = 1, 2, 2, 6, 7, 9, 4
_INBOUND, _OUTBOUND = 1, 2
_BY_XDP, _NANOSECONDS = 2, 9
_ACTIONS = {"drop": DROP, "pass": PASS, "send": TX}


class Writer:
    """Writes to a binary file or pipe, whole blocks only."""

    def __init__(self, out: IO[bytes], *, interfaces: Mapping[int, str], services: Mapping[int, str]) -> None:
        """`interfaces`: names by number, `services` likewise. Raises OSError."""
        self._out, self._services = out, services
        self._numbers = {index: row for row, index in enumerate(interfaces)}
        head = struct.pack("<IHHq", _ORDER_MAGIC, 1, 0, -1)
        self._block(_SECTION, head + _options((_APPLICATION, b"xds-agent datapath capture")))
        for name in interfaces.values():
            said = _options((_NAME, name.encode()), (_RESOLUTION, bytes([_NANOSECONDS])))
            self._block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, 0) + said)

    def write(self, sample: Sample) -> None:
        """One packet. Raises OSError."""
        direction = _OUTBOUND if sample.leaving else _INBOUND
        action = struct.pack("<BQ", _BY_XDP, _ACTIONS.get(sample.verdict, DROP))
        said = _options(
            (_COMMENT, self.comment(sample).encode()),
            (_FLAGS, struct.pack("<I", direction)),
            (_QUEUE, struct.pack("<I", sample.queue)),
            (_VERDICT, action),
        )
        high, low = sample.time_ns >> 32, sample.time_ns & 0xFFFFFFFF
        row = self._numbers.get(sample.interface, 0)
        sizes = len(sample.frame), max(sample.length, len(sample.frame))
        self._block(_PACKET, struct.pack("<IIIII", row, high, low, *sizes) + _padded(sample.frame) + said)

    def comment(self, sample: Sample) -> str:
        """Reason and service in words."""
        service = self._services.get(sample.service, f"number {sample.service}")
        parts = [sample.reason, f"service {service}" if sample.service else "the host itself"]
        if sample.monitored:
            parts.append(f"{sample.monitored} but for monitor mode")
        if sample.leaving:
            parts.append("as it left")
        return ", ".join(parts)

    def _block(self, kind: int, body: bytes) -> None:
        size = struct.pack("<I", len(body) + 12)
        self._out.write(struct.pack("<I", kind) + size + body + size)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _options(*options: tuple[int, bytes]) -> bytes:
    """Options and their end."""
    return b"".join(struct.pack("<HH", code, len(data)) + _padded(data) for code, data in options) + bytes(4)


def frames(data: bytes) -> list[bytes]:
    """Frames of a pcapng file as they came: those marked as outbound are left out.

    Raises ValueError with what is wrong.
    """
    found = []
    for order, kind, body in _blocks(data):
        if kind == _INTERFACE and struct.unpack_from(f"{order}H", body)[0] != _ETHERNET:
            raise ValueError("the capture is not of Ethernet alone")
        if kind == _PACKET:
            [size] = struct.unpack_from(f"{order}I", body, 12)
            if _flags(order, body[20 + size + -size % 4 :]) & 3 != _OUTBOUND:
                found.append(body[20 : 20 + size])
        if kind == _SIMPLE:
            [length] = struct.unpack_from(f"{order}I", body)
            found.append(body[4 : 4 + length])
    return found


def _blocks(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Byte order, type, and what is in it; a block that was cut short ends the file."""
    at, order = 0, "<"
    while at + 12 <= len(data):
        if data[at : at + 4] == MAGIC:
            order = "<" if data[at + 8 : at + 12] == struct.pack("<I", _ORDER_MAGIC) else ">"
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if size < 12 or size % 4:
            raise ValueError(f"the pcapng file is damaged at byte {at}")
        if at + size > len(data):
            return
        yield order, kind, data[at + 8 : at + size - 4]
        at += size


def _flags(order: str, options: bytes) -> int:
    at = 0
    while at + 4 <= len(options):
        code, size = struct.unpack_from(f"{order}HH", options, at)
        if code == _FLAGS and size == 4:
            return int(struct.unpack_from(f"{order}I", options, at + 4)[0])
        at += 4 + size + -size % 4
        if not code:
            break
    return 0
