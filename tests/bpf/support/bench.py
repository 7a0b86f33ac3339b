"""A loaded program with a small site in its maps, and the questions tests ask it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from tests.bpf.support.hashing import flow_hash, slot
from tests.bpf.support.packets import ICMP, ICMPV6, OUR_MAC, TCP, UDP, Packet, difference, gue
from xds_agent.datapath.acl import AccessLists
from xds_agent.datapath.counters import Counters
from xds_agent.datapath.maglev import Ring, populate
from xds_agent.datapath.program import DROP, PASS, TX, Generation
from xds_agent.datapath.services import Real, Service, Settings, State, Tables

BALANCE_SEED, LIMIT_SEED = 0xBA1A, 0x5EED
GUE_PORT = 6080
TUNNEL4, TUNNEL6 = "10.9.0.1", "fd00:9::1"
VIP4, VIP6 = "203.0.113.1", "2001:db8:ffff::1"
NAT4, NAT6 = "10.9.0.2", "fd00:9::2"
WEB, NAMES, LOCAL, VOICE, PING, EDGE, SHOP, GAME = 1, 2, 3, 4, 5, 6, 7, 8
VERDICTS = {DROP: "DROP", PASS: "PASS", TX: "TX"}


@dataclass(frozen=True)
class Backend:
    number: int
    address: str
    mac: bytes
    port: int = 0


BACKENDS = (
    Backend(1, "10.1.0.1", bytes.fromhex("020000000101")),
    Backend(2, "10.1.0.2", bytes.fromhex("020000000102"), 8080),
    Backend(3, "fd00:1::3", bytes.fromhex("020000000103")),
    Backend(4, "fd00:1::4", bytes.fromhex("020000000104"), 8080),
)
# Ring 1 encapsulates over both IP versions; ring 3 is empty; ring 4 is for reals on the link.
SERVICES = {
    WEB: ("gue", 1, 443, TCP, {"mtu": 1400}),
    NAMES: ("gue", 2, 53, UDP, {"hash_addresses": True}),
    LOCAL: ("kernel", 0, 8443, TCP, {}),
    VOICE: ("dsr", 1, 5060, UDP, {}),
    EDGE: ("gue", 3, 7000, TCP, {}),
}
# Translated: a ring of its own for each IP version.
NAT_SERVICES = {SHOP: (80, TCP, {}), GAME: (27015, UDP, {"dscp": 46})}
NAT_RINGS = {4: 5, 6: 6}


@cache
def table(*numbers: int) -> tuple[int, ...]:
    """The ring of those backends, equal weights."""
    return tuple(populate({b.number: (b.address, 1) for b in BACKENDS if b.number in numbers}))


class Bench:
    """`site` fills the maps; `expect` runs a packet and compares everything that can be compared."""

    def __init__(self, generation: Generation) -> None:
        self.generation, self.tables = generation, Tables(generation)
        self.lists, self.counters = AccessLists(generation), Counters(generation)
        self.settings = Settings(
            gue_port=GUE_PORT,
            tunnel_source4=IPv4Address(TUNNEL4),
            tunnel_source6=IPv6Address(TUNNEL6),
            nat_source4=IPv4Address(NAT4),
            nat_source6=IPv6Address(NAT6),
            nat_fragment_s=3600,  # a test that is kept waiting loses nothing
        )
        self.rings: dict[int, Ring] = {}
        self.services: dict[int, list[Service]] = {}
        self.site()

    def site(self) -> None:
        self.configure()
        for backend in BACKENDS:
            self.real(backend, "up")
        self.ring(1, table(1, 2, 3, 4))
        self.ring(2, table(1, 2))
        self.ring(3, table())
        self.ring(NAT_RINGS[4], table(1, 2))
        self.ring(NAT_RINGS[6], table(3, 4))
        for number, (forward, ring, port, protocol, more) in SERVICES.items():
            for vip in (VIP4, VIP6):
                self.service(Service(number, ip_address(vip), port, protocol, forward, ring, **more))  # type: ignore[arg-type]
        for number, (port, protocol, more) in NAT_SERVICES.items():
            for vip in (VIP4, VIP6):
                ring = NAT_RINGS[ip_address(vip).version]
                self.service(Service(number, ip_address(vip), port, protocol, "nat", ring, **more))  # type: ignore[arg-type]
        self.service(Service(PING, ip_address(VIP4), 0, ICMP, "echo"))
        self.service(Service(PING, ip_address(VIP6), 0, ICMPV6, "echo"))

    def real(self, backend: Backend, state: State) -> None:
        real = Real(ip_address(backend.address), backend.mac, state, port=backend.port)
        self.tables.put_real(backend.number, real)

    def configure(self, **changes: object) -> None:
        self.settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        self.tables.configure(self.settings)

    def service(self, service: Service) -> None:
        self.services.setdefault(service.id, []).append(service)
        self.tables.put_service(service)

    def ring(self, number: int, slots: Sequence[int]) -> Ring:
        self.rings[number] = Ring(slots)
        self.tables.put_ring(number, self.rings[number])
        return self.rings[number]

    def lists_of(self, **classes: list[str]) -> None:
        """deny=[...], exempt=[...]"""
        rules = [
            (ip_network(net), self.lists.classes[name]) for name, nets in classes.items() for net in nets
        ]
        self.lists.replace(rules)

    def run(self, packet: Packet) -> tuple[str, bytes]:
        verdict, data = self.generation.run(packet.bytes())
        return VERDICTS.get(verdict, str(verdict)), data

    def expect(self, packet: Packet, reason: str, *, service: int = 0, frame: bytes | None = None) -> None:
        """The packet's fate is `reason`, counted once for the service; it leaves as `frame` (unchanged)."""
        before = self.counters.service(service)
        sent = packet.bytes()
        verdict, received = self.run(packet)
        after = self.counters.service(service)
        grown = {name for name in after if after[name] != before.get(name)}
        assert reason in grown, f"{reason} was not counted for service {service}, but {sorted(grown)}"
        others = {name for name in grown if not name.startswith("note_")} - {reason}
        assert not others, f"{sorted(others)} counted beside {reason}"
        had = before.get(reason)
        packets, size = (had.packets, had.bytes) if had else (0, 0)
        assert (after[reason].packets, after[reason].bytes) == (packets + 1, size + len(sent))
        assert verdict == {"pass": "PASS", "drop": "DROP", "send": "TX"}[reason.split("_")[0]]
        wanted = sent if frame is None else frame
        assert received == wanted, difference(wanted, received)

    def real_of(self, packet: Packet, ring: int, *, ports: bool = True) -> Backend | None:
        """Who the ring says."""
        sport, dport = (packet.sport, packet.dport) if ports else (0, 0)
        number = self.rings[ring].current[slot(flow_hash(packet.source, sport, dport, BALANCE_SEED))]
        return BACKENDS[number - 1] if number else None

    def translated(self, packet: Packet, backend: Backend, port: int) -> Packet:
        """The packet as it must leave for that backend, by that port."""
        return packet.but(
            source=NAT4 if packet.version == 4 else NAT6,
            destination=backend.address,
            sport=port,
            dport=backend.port or packet.dport,
            ttl=packet.ttl - 1,
            source_mac=OUR_MAC,
            destination_mac=backend.mac,
        )

    def answer(self, sent: Packet, **changes: object) -> Packet:
        """What the real says to a packet it got."""
        turned = sent.but(
            source=sent.destination,
            destination=sent.source,
            sport=sent.dport,
            dport=sent.sport,
            source_mac=sent.destination_mac,
            destination_mac=OUR_MAC,
            ttl=63,
        )
        return turned.but(**changes)

    def encapsulated(
        self, packet: Packet, backend: Backend, *, ports: bool = True, flow: Packet | None = None
    ) -> bytes:
        """The packet as it must leave for that backend; `flow` is whose hash it carries if not its own."""
        tuple_of = flow or packet
        sport, dport = (tuple_of.sport, tuple_of.dport) if ports else (0, 0)
        value = flow_hash(tuple_of.source, sport, dport, BALANCE_SEED)
        return gue(
            packet,
            source=TUNNEL4 if ":" not in backend.address else TUNNEL6,
            real=backend.address,
            mac=backend.mac,
            port=GUE_PORT,
            sport=0xC000 | value & 0x3FFF,
            label=value & 0xFFFFF,
        )
