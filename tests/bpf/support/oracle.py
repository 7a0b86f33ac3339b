"""The whole pipeline once more, in Python, over bytes: what must become of a frame.

Written from the description of the stages, sharing nothing with the C code but the hashes' definition. Clocks
stand still here: limits are bursts, each cell a count of packets; only a cookie knows what minute it is.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address

from tests.bpf.support.bench import BACKENDS, BALANCE_SEED, GUE_PORT, LIMIT_SEED, NAT4, NAT6, TUNNEL4, TUNNEL6
from tests.bpf.support.hashing import flow_hash, limit_cells, slot
from tests.bpf.support.oracle_cookie import Cookies
from tests.bpf.support.oracle_fragment import First, Fragments
from tests.bpf.support.oracle_moved import Moved
from tests.bpf.support.oracle_nat import (
    Flow,
    Table,
    adjust,
    after_client,
    after_real,
    carried,
    translated,
    translated_error,
)
from tests.bpf.support.oracle_parse import Seen, Stop, parse
from tests.bpf.support.packets import ICMP, ICMPV6, TCP, UDP, Packet
from xds_agent.datapath.maglev import Ring
from xds_agent.datapath.services import Service

PACKETS, SYNS, SSH = 0x243F6A88, 0x13198A2E, 0x03707344
BYTES = 0


@dataclass
class Oracle:
    """A site: services by (address, port, protocol), rings, access rules, bursts per source.

    Of the rates of sources, one packet takes as long as one byte.
    """

    services: dict[tuple[str, int, int], Service]
    rings: dict[int, Ring]
    rules: list[tuple[IPv4Network | IPv6Network, str]]
    bursts: dict[int, int]
    mask: int
    nat: Table
    cookies: Cookies | None = None
    connected: frozenset[tuple[str, int, str, int, int]] = frozenset()
    own: frozenset[str] = frozenset()
    monitor: bool = False
    moved: Moved = field(default_factory=Moved)
    fragments: Fragments = field(default_factory=Fragments)
    cells: Counter[tuple[int, int]] = field(default_factory=Counter)
    counts: Counter[tuple[int, str]] = field(default_factory=Counter)
    monitored: Counter[tuple[int, str]] = field(default_factory=Counter)

    def fate(self, frame: bytes) -> tuple[int, str, bytes]:
        """Service, reason, and the frame that leaves; counted."""
        self._service, self._out = 0, frame
        try:
            self._decide(frame, self._parsed(frame))
            raise AssertionError("undecided")
        except Stop as stop:
            reason = str(stop)
        self.counts[self._service, reason] += 1
        return self._service, reason, self._out

    def _parsed(self, frame: bytes) -> Seen:
        try:
            return parse(frame)
        except Stop as stop:
            if self.monitor and str(stop).startswith("drop_"):
                self.monitored[0, str(stop)] += 1
                raise Stop("pass_kernel") from None
            raise

    def _decide(self, frame: bytes, seen: Seen) -> None:
        first = self.fragments.follow(seen) if seen.fragment == "later" else None
        if first and first.flow and first.answer:
            self._carry_answer(frame, seen, first.flow)
        if seen.fragment != "later" and seen.destination in (NAT4, NAT6):
            self._answer(frame, seen)
        service = self.services.get((seen.destination, seen.dport, seen.protocol))
        self._service = service.id if service else 0
        self._let_in(frame, seen, service)
        if (service is None or service.forward == "echo") and self._is_error(seen):
            about = self._steer(frame, seen)
            if about:
                service, self._service = about, about.id
        if service is None or service.forward == "kernel":
            self._to_host(frame, seen, service)
        if service.forward == "echo":
            self._echo(frame, seen)
        if seen.fragment and service.forward != "nat" and not service.hash_addresses:
            raise Stop(self._left(seen))
        if seen.fragment == "later" and service.forward == "nat":
            self._carry(frame, seen, service, first)
        self._forward(frame, seen, service)

    def _to_host(self, frame: bytes, seen: Seen, service: Service | None) -> None:
        if self.cookies and self.cookies.gets_one(seen):
            now_ms = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000
            self._out = self.cookies.answer(frame, seen, minute=now_ms // 60_000, time_ms=now_ms)
            raise Stop("send_cookie")
        if not seen.fragment or (service is not None and seen.fragment == "later"):
            raise Stop("pass_kernel")
        left = self._left(seen)
        raise Stop(left if service is None else "pass_kernel")

    def _left(self, seen: Seen) -> str:
        """Of a fragment that no service takes. The host speaks from NAT's own address."""
        translated = {at for (at, _, _), service in self.services.items() if service.forward == "nat"}
        known = seen.protocol in (TCP, UDP) and seen.destination in (self.own & translated) - {NAT4, NAT6}
        if known and seen.fragment == "later" and not seen.followed:
            if not self.monitor:
                return "drop_nat_fragment"
            self.monitored[self._service, "drop_nat_fragment"] += 1
        if known and seen.fragment == "first":
            with contextlib.suppress(Stop):
                self.fragments.keep(seen, None)
        return "pass_fragment"

    def _without_real(self, seen: Seen, service: Service) -> str:
        if not service.pass_without_real:
            return "drop_no_real"
        if seen.fragment == "first":
            self._left(seen)
        return "pass_no_real"

    def _keep(self, seen: Seen, flow: Flow, *, answer: bool = False) -> None:
        """Nobody could tell whether what is put together belongs together."""
        if seen.no_checksum:
            if not self.monitor:
                raise Stop("drop_nat_fragment")
            self.monitored[flow.service, "drop_nat_fragment"] += 1
        self.fragments.keep(seen, flow, answer=answer)

    def _carry(self, frame: bytes, seen: Seen, service: Service, first: First | None) -> None:
        """A client's later fragment, after its first one."""
        if first is None or first.flow is None:
            raise Stop("drop_nat_fragment")
        if seen.ttl <= 1:
            raise Stop("drop_hop_limit")
        backend = BACKENDS[first.flow.real - 1]
        ours = NAT4 if seen.version == 4 else NAT6
        self._out = carried(self._marked(frame, seen, service), seen.l3, ours, backend.address, backend.mac)
        raise Stop("send_nat")

    def _carry_answer(self, frame: bytes, seen: Seen, flow: Flow) -> None:
        self._service = flow.service
        if seen.ttl <= 1:
            raise Stop("drop_hop_limit")
        client, _, vip, _, _ = flow.tuple
        marked = self._marked(frame, seen, self._by_id(flow.service))
        self._out = carried(marked, seen.l3, vip, client, flow.mac)
        raise Stop("send_answer")

    def _let_in(self, frame: bytes, seen: Seen, service: Service | None) -> None:
        try:
            self._protect(frame, seen, service)
        except Stop as stop:
            if not str(stop).startswith("drop_"):
                raise
            flow = (seen.source, seen.sport, seen.destination, seen.dport, seen.protocol)
            if flow in self.connected and not seen.fragment:
                raise Stop("pass_expected") from None
            if not self.monitor:
                raise
            self.monitored[self._service, str(stop)] += 1

    def _protect(self, frame: bytes, seen: Seen, service: Service | None) -> None:
        if not seen.fragment:
            self._exempt(seen)
        best = max(
            ((net.prefixlen, kind) for net, kind in self.rules if ip_address(seen.source) in net),
            default=None,
        )
        if best and best[1] == "deny":
            raise Stop("drop_denied")
        if best and best[1] == "exempt":
            self.counts[self._service, "note_exempt"] += 1
            return
        salt, reason = (SYNS, "drop_syn_rate") if seen.opens else (PACKETS, "drop_source_rate")
        if not self._take(seen.source, salt):
            raise Stop(reason)
        if not self._take_bytes(seen.source, len(frame)):
            raise Stop("drop_source_bytes")

    def _exempt(self, seen: Seen) -> None:
        ports = (seen.version, seen.sport, seen.dport)
        if seen.protocol == UDP and ports in ((4, 67, 68), (6, 547, 546)):
            raise Stop("pass_dhcp")
        if seen.protocol == TCP and seen.dport == 22:
            raise Stop("pass_ssh" if self._take(seen.source, SSH) else "drop_ssh_rate")
        if seen.version == 6 and seen.protocol == ICMPV6 and 133 <= seen.icmp <= 137 and seen.ttl == 255:
            raise Stop("pass_neighbour")

    def _take(self, source: str, salt: int) -> bool:
        cells = limit_cells(source, salt, LIMIT_SEED, self.mask)
        return self._charge(*cells, most=self.bursts[salt] - 1, cost=1)

    def _take_bytes(self, source: str, size: int) -> bool:
        """While anything is left, the last frame may be as long as it likes."""
        cells = limit_cells(source, PACKETS, LIMIT_SEED, self.mask, turn=1)
        return self._charge(*cells, most=self.bursts[BYTES], cost=size)

    def _charge(self, block: int, first: int, second: int, *, most: int, cost: int) -> bool:
        allowed = False
        for cell in (first, second):
            if self.cells[block, cell] <= most:
                self.cells[block, cell] += cost
                allowed = True
        return allowed

    @staticmethod
    def _is_error(seen: Seen) -> bool:
        if seen.fragment:
            return False
        if seen.version == 4:
            return seen.protocol == ICMP and seen.icmp in (3, 11, 12)
        return seen.protocol == ICMPV6 and 1 <= seen.icmp <= 4

    def _steer(self, frame: bytes, seen: Seen) -> Service | None:
        """The service a quoted packet came from; `seen` becomes a packet of that flow."""
        quoted = self._quoted(frame, seen)
        if quoted is None:
            return None
        near, near_port, far, far_port, protocol = quoted
        service = self.services.get((near, near_port, protocol))
        if service is None or service.forward in ("kernel", "echo"):
            return None
        seen.source, seen.destination, seen.sport, seen.dport = far, near, far_port, near_port
        seen.protocol, seen.related = protocol, True
        return service

    @staticmethod
    def _quoted(frame: bytes, seen: Seen) -> tuple[str, int, str, int, int] | None:
        """Source, port, destination, port and protocol of the packet that an ICMP error quotes."""
        at = seen.l4 + 8
        if seen.version == 4:
            if at + 20 > len(frame) or frame[at] >> 4 != 4 or frame[at] & 15 < 5:
                return None
            if struct.unpack_from(">H", frame, at + 6)[0] & 0x1FFF:
                return None
            protocol, ports = frame[at + 9], at + (frame[at] & 15) * 4
            near, far = (str(ip_address(frame[i : i + 4])) for i in (at + 12, at + 16))
        else:
            if at + 40 > len(frame) or frame[at] >> 4 != 6:
                return None
            protocol, ports = frame[at + 6], at + 40
            near, far = (str(ip_address(frame[i : i + 16])) for i in (at + 8, at + 24))
        if protocol not in (TCP, UDP) or ports + 4 > min(len(frame), seen.l3 + seen.length):
            return None
        near_port, far_port = struct.unpack_from(">HH", frame, ports)
        return near, near_port, far, far_port, protocol

    def _answer(self, frame: bytes, seen: Seen) -> None:
        """From a real to NAT's address, or about what went to one."""
        error = self._is_error(seen)
        asked = (seen.source, seen.sport, seen.dport, seen.protocol)
        if error:
            quoted = self._quoted(frame, seen)
            if quoted is None:
                return
            _, near_port, far, far_port, protocol = quoted
            asked = (far, far_port, near_port, protocol)
        elif seen.protocol not in (TCP, UDP):
            return
        flow = self.nat.answered(*asked)
        if flow is None:
            return
        self._service = flow.service
        if seen.ttl <= 1:
            raise Stop("drop_hop_limit")
        client, client_port, vip, vip_port, _ = flow.tuple
        if error:
            ends, about = (vip, client), (client, client_port, vip, vip_port)
            self._out = translated_error(
                frame, seen.l3, seen.l4, seen.l3 + seen.length, ends, about, flow.mac
            )
            raise Stop("send_answer")
        after_real(flow, seen.flags, seen.seq)
        marked = self._marked(frame, seen, self._by_id(flow.service))
        to = (vip, vip_port, client, client_port)
        if seen.fragment:
            self._keep(seen, flow, answer=True)
        self._out = translated(marked, seen.l3, seen.l4, seen.protocol, to, flow.mac)
        raise Stop("send_answer")

    def _by_id(self, number: int) -> Service:
        return next(service for service in self.services.values() if service.id == number)

    @staticmethod
    def _marked(frame: bytes, seen: Seen, service: Service) -> bytes:
        if service.dscp is None:
            return frame
        out = bytearray(frame)
        seen.tos = service.dscp << 2 | seen.tos & 3
        before = bytes(out[seen.l3 : seen.l3 + 2])
        if seen.version == 4:
            out[seen.l3 + 1] = seen.tos
            if bytes(out[seen.l3 : seen.l3 + 2]) != before:
                adjust(out, seen.l3 + 10, before, bytes(out[seen.l3 : seen.l3 + 2]))
        else:
            low = out[seen.l3 + 1] & 0xF
            struct.pack_into(">BB", out, seen.l3, 0x60 | seen.tos >> 4, (seen.tos & 0xF) << 4 | low)
        return bytes(out)

    def _nat(self, frame: bytes, seen: Seen, service: Service, number: int, known: bool, at: int) -> None:
        """`known`: the flow table named the real; `at`: the slot."""
        ring = self.rings[service.ring]
        if (":" in BACKENDS[number - 1].address) != (seen.version == 6):
            raise Stop("drop_other_version")
        if seen.ttl <= 1:
            raise Stop("drop_hop_limit")
        key = (seen.source, seen.sport, seen.destination, seen.dport, seen.protocol)
        flow = self.nat.find(key, BACKENDS[number - 1].address)
        if flow is None and ring.moved[at] and ring.current[at] != number:
            number, known = ring.current[at], False
            if not number:
                raise Stop(self._without_real(seen, service))
            flow = self.nat.find(key, BACKENDS[number - 1].address)
        if flow is None:
            if seen.related or (seen.protocol == TCP and not seen.opens):
                raise Stop("drop_nat_unknown")
            backend = BACKENDS[number - 1]
            claimed = self.nat.claim(key, backend.address)
            port = backend.port or seen.dport
            flow = Flow(key, number, backend.address, port, service.id, claimed, frame[6:12])
            self.nat.slots[claimed] = flow
            self.counts[service.id, "note_nat_new"] += 1
        elif not seen.related and after_client(flow, seen.flags, seen.ack):
            self.counts[service.id, "note_nat_open"] += 1
        if ring.moved[at] and not known and not seen.related:
            self.moved.flows[key] = flow.real
            self.counts[service.id, "note_flow_new"] += 1
        ours, backend = NAT4 if seen.version == 4 else NAT6, BACKENDS[flow.real - 1]
        to = (ours, self.nat.port(flow), flow.real_address, flow.real_port)
        if seen.related:
            about = (to[2], to[3], to[0], to[1])
            end = seen.l3 + seen.length
            self._out = translated_error(frame, seen.l3, seen.l4, end, (to[0], to[2]), about, backend.mac)
        else:
            flow.mac = frame[6:12]
            if seen.fragment:
                self._keep(seen, flow)
            self._out = translated(frame, seen.l3, seen.l4, seen.protocol, to, backend.mac)
        raise Stop("send_nat")

    def _chosen(self, seen: Seen, service: Service, at: int) -> tuple[int, bool]:
        """The real of a packet, and whether it came from the flow table."""
        ring = self.rings[service.ring]
        if not ring.moved[at]:
            return ring.current[at], False
        ports = (0, 0) if service.hash_addresses else (seen.sport, seen.dport)
        key = (seen.source, ports[0], seen.destination, ports[1], seen.protocol)
        if service.forward == "nat":
            number, known = self.moved.nat_candidate(
                key, ring, at, opens=seen.opens, udp=seen.protocol == UDP
            )
            if known:
                self.counts[service.id, "note_flow_pinned"] += 1
            return number, known
        *notes, number = self.moved.real_of(key, ring, at, opens=seen.opens, related=seen.related)
        for note in notes:
            self.counts[service.id, str(note)] += 1
        return int(number), False

    def _echo(self, frame: bytes, seen: Seen) -> None:
        if seen.fragment or seen.icmp != (8 if seen.version == 4 else 128):
            raise Stop("pass_kernel")
        out = bytearray(frame)
        out[0:12] = frame[6:12] + frame[0:6]
        before = bytes(out[seen.l4 : seen.l4 + 2])
        out[seen.l4 : seen.l4 + 2] = b"\0\0" if seen.version == 4 else b"\x81\0"
        adjust(out, seen.l4 + 2, before, bytes(out[seen.l4 : seen.l4 + 2]))
        at, size = (seen.l3 + 12, 4) if seen.version == 4 else (seen.l3 + 8, 16)
        out[at : at + 2 * size] = frame[at + size : at + 2 * size] + frame[at : at + size]
        if seen.version == 4:
            before = bytes(out[seen.l3 + 8 : seen.l3 + 10])
            out[seen.l3 + 8] = 64
            adjust(out, seen.l3 + 10, before, bytes(out[seen.l3 + 8 : seen.l3 + 10]))
        else:
            out[seen.l3 + 7] = 64
        self._out = bytes(out)
        raise Stop("send_echo")

    def _forward(self, frame: bytes, seen: Seen, service: Service) -> None:
        ports = (0, 0) if service.hash_addresses else (seen.sport, seen.dport)
        value = flow_hash(seen.source, *ports, BALANCE_SEED)
        number, known = self._chosen(seen, service, slot(value))
        if not number:
            raise Stop(self._without_real(seen, service))
        backend = BACKENDS[number - 1]
        if service.mtu and seen.length > service.mtu:
            self._too_big(frame, seen, service.mtu)
        frame = self._out = self._marked(frame, seen, service)
        if service.forward == "nat":
            self._nat(frame, seen, service, number, known, slot(value))
        if service.forward == "dsr":
            self._out = backend.mac + frame[0:6] + frame[12:]
            raise Stop("send_dsr")
        inner = frame[seen.l3 : seen.l3 + seen.length]
        sport = 0xC000 | value & 0x3FFF
        outer = Packet(
            source=TUNNEL6 if ":" in backend.address else TUNNEL4,
            destination=backend.address,
            protocol=UDP,
            transport=struct.pack(">HHHH", sport, GUE_PORT, 8 + len(inner), 0) + inner,
            dscp_ecn=seen.tos,
            ttl=64,
            fields={"label": value & 0xFFFFF},
        )
        kind = b"\x86\xdd" if outer.version == 6 else b"\x08\x00"
        link = backend.mac + frame[0:6] + frame[12 : seen.l3 - 2] + kind
        self._out = link + outer.l3() + frame[seen.l3 + seen.length :]
        raise Stop("send_gue")

    def _too_big(self, frame: bytes, seen: Seen, mtu: int) -> None:
        if seen.related or not seen.whole or seen.fragment:
            raise Stop("drop_too_big")
        reply = Packet(
            source=seen.destination,
            destination=seen.source,
            protocol=ICMP if seen.version == 4 else ICMPV6,
            icmp=(3, 4, mtu) if seen.version == 4 else (2, 0, mtu),
            payload=frame[seen.l3 : seen.l3 + 128],
            ttl=64,
        )
        self._out = frame[6:12] + frame[0:6] + frame[12 : seen.l3] + reply.l3()
        raise Stop("send_too_big")
