"""PacketBuilder: a frame from named parts, checksums right unless said otherwise.

Independent of the programs under test: nothing here is imported by them or read from their BTF.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

ARP, IP4, IP6, VLAN, QINQ = 0x0806, 0x0800, 0x86DD, 0x8100, 0x88A8
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
HOPOPTS, ROUTING, FRAGMENT, AH, DSTOPTS = 0, 43, 44, 51, 60
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
OUR_MAC, PEER_MAC = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True)
class Packet:
    """One frame. `fragment`: (offset in bytes, more to come); `extensions`: IPv6 headers as (type, bytes)."""

    source: str = "198.51.100.7"
    destination: str = "203.0.113.1"
    protocol: int = TCP
    sport: int = 40000
    dport: int = 443
    flags: int = ACK
    seq: int = 1
    ack: int = 1
    payload: bytes = b"payload."
    window: int = 1024
    tcp_options: bytes = b""
    tags: tuple[tuple[int, int], ...] = ()
    options: bytes = b""
    fragment: tuple[int, bool] | None = None
    extensions: tuple[tuple[int, bytes], ...] = ()
    dscp_ecn: int = 0
    ttl: int = 63
    dont_fragment: bool = True
    icmp: tuple[int, int, int] = (8, 0, 0x00010002)
    source_mac: bytes = PEER_MAC
    destination_mac: bytes = OUR_MAC
    pad_to: int = 0
    transport: bytes | None = None
    fields: dict[str, int] = field(default_factory=dict)

    def but(self, **changes: object) -> Packet:
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def version(self) -> int:
        return ip_address(self.source).version

    def link(self) -> bytes:
        kinds = [kind for kind, _ in self.tags] + [IP4 if self.version == 4 else IP6]
        tags = b"".join(struct.pack(">HH", tci, kinds[index + 1]) for index, (_, tci) in enumerate(self.tags))
        return self.destination_mac + self.source_mac + struct.pack(">H", kinds[0]) + tags

    def l4(self) -> bytes:
        """Transport header and payload."""
        if self.transport is not None:
            return self.transport
        if self.protocol == TCP:
            words = 5 + len(self.tcp_options) // 4
            head = struct.pack(">HHIIBBHHH", *self._tcp_words(), words << 4, self.flags, self.window, 0, 0)
            return self._summed(head + self.tcp_options + self.payload, 16)
        if self.protocol == UDP:
            head = struct.pack(">HHHH", self.sport, self.dport, 8 + len(self.payload), 0)
            return self._summed(head + self.payload, 6)
        if self.protocol in (ICMP, ICMPV6):
            kind, code, rest = self.icmp
            head = struct.pack(">BBHI", kind, code, 0, rest)
            return self._summed(head + self.payload, 2, pseudo=self.protocol == ICMPV6)
        return self.payload

    def _tcp_words(self) -> tuple[int, int, int, int]:
        return self.sport, self.dport, self.seq, self.ack

    def _summed(self, data: bytes, at: int, *, pseudo: bool = True) -> bytes:
        """With its checksum at that offset."""
        before = b""
        if pseudo:
            addresses = ip_address(self.source).packed + ip_address(self.destination).packed
            before = addresses + struct.pack(">II", len(data), self.protocol)
        return data[:at] + struct.pack(">H", checksum(before + data)) + data[at + 2 :]

    def l3(self) -> bytes:
        """From the IP header on."""
        return self._ipv4() if self.version == 4 else self._ipv6()

    def _ipv4(self) -> bytes:
        body, ihl = self.l4(), 5 + len(self.options) // 4
        offset, more = self.fragment or (0, False)
        bits = (
            offset // 8
            | (0x2000 if more else 0)
            | (0x4000 if self.dont_fragment and not self.fragment else 0)
        )
        head = struct.pack(
            ">BBHHHBBH4s4s",
            self.fields.get("version", 4) << 4 | self.fields.get("ihl", ihl),
            self.dscp_ecn,
            self.fields.get("length", ihl * 4 + len(body)),
            self.fields.get("id", 0),
            bits,
            self.ttl,
            self.protocol,
            0,
            IPv4Address(self.source).packed,
            IPv4Address(self.destination).packed,
        )
        head += self.options
        head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
        return head + body

    def _ipv6(self) -> bytes:
        chain, body = list(self.extensions), self.l4()
        if self.fragment:
            offset, more = self.fragment
            chain.append((FRAGMENT, struct.pack(">HI", offset | more, self.fields.get("id", 77))))
        kinds = [kind for kind, _ in chain] + [self.protocol]
        headers = b""
        for index, (kind, data) in enumerate(chain):
            following = kinds[index + 1]
            if kind == FRAGMENT:
                headers += struct.pack(">BB", following, 0) + data
            elif kind == AH:
                headers += struct.pack(">BB", following, (len(data) + 2) // 4 - 2) + data
            else:
                headers += struct.pack(">BB", following, (len(data) + 2) // 8 - 1) + data
        word = self.fields.get("version", 6) << 28 | self.dscp_ecn << 20 | self.fields.get("label", 0)
        length = self.fields.get("length", len(headers) + len(body))
        return (
            struct.pack(">IHBB", word, length, kinds[0], self.ttl)
            + IPv6Address(self.source).packed
            + IPv6Address(self.destination).packed
            + headers
            + body
        )

    def bytes(self) -> bytes:
        """The frame."""
        return (self.link() + self.l3()).ljust(self.pad_to, b"\0")


def error(about: Packet, *, kind: int, code: int = 0, rest: int = 0, reporter: str, quote: int = 8) -> Packet:
    """An ICMP error about a packet sent *to* `about.destination`: quotes header and `quote` bytes."""
    inner = about.l3()
    header = (inner[0] & 15) * 4 if about.version == 4 else 40
    return Packet(
        source=reporter,
        destination=about.source,
        protocol=ICMP if about.version == 4 else ICMPV6,
        icmp=(kind, code, rest),
        payload=inner[: header + quote],
    )


def gue(frame: Packet, *, source: str, real: str, mac: bytes, port: int, sport: int, label: int = 0) -> bytes:
    """The frame as it leaves encapsulated: outer IP, UDP without checksum, the inner packet unchanged."""
    inner = frame.l3()
    outer = Packet(
        source=source,
        destination=real,
        protocol=UDP,
        transport=struct.pack(">HHHH", sport, port, 8 + len(inner), 0) + inner,
        tags=frame.tags,
        dscp_ecn=frame.dscp_ecn,
        ttl=64,
        source_mac=frame.destination_mac,
        destination_mac=mac,
        fields={"label": label},
    )
    padding = frame.bytes()[len(frame.link()) + len(inner) :]
    return outer.bytes() + padding


def show(data: bytes) -> str:
    """Hex, sixteen bytes a line."""
    lines = [data[at : at + 16] for at in range(0, len(data), 16)]
    return "\n".join(f"{index * 16:04x}  {line.hex(' ')}" for index, line in enumerate(lines))


def difference(expected: bytes, received: bytes) -> str:
    """Both packets, for a failing test."""
    places = [at for at, (one, two) in enumerate(zip(expected, received, strict=False)) if one != two]
    where = f"first difference at byte {places[0]}" if places else "one is the beginning of the other"
    sizes = f"{len(expected)} and {len(received)} bytes"
    return f"{sizes}, {where}\nexpected:\n{show(expected)}\nreceived:\n{show(received)}"
