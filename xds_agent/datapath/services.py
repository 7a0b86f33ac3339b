"""Settings, services, reals and rings: typed values into the maps of a loaded program."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from xds_agent.datapath.layout import Layout
from xds_agent.datapath.limit import NO_LIMIT, Rate, source_parameters
from xds_agent.datapath.maglev import SLOTS, Ring
from xds_agent.datapath.maps import ARRAY, BPF_F_MMAPABLE, Map, create_map, mapped, open_map
from xds_agent.datapath.program import Generation

Address = IPv4Address | IPv6Address
Forward = Literal["kernel", "nat", "gue", "dsr", "echo"]
State = Literal["up", "draining", "down"]
GUE_PORT = 6080
_NONE4, _NONE6 = IPv4Address(0), IPv6Address(0)
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for the host. Rates of None: no limit.

    `nat_source*` is what reals see instead of the client; after `nat_*_s` of silence a flow's port may be
    taken by another: not confirmed yet, open (TCP, UDP), closed by both sides. Later fragments may follow
    their first one for `nat_fragment_s`. Beyond `cookies_above`
    connection requests a second, cookies under the secret `cookie_key` answer for services of `kernel`.
    """

    monitor: bool = False
    gue_port: int = GUE_PORT
    flow_idle_s: int = 60
    tunnel_source4: IPv4Address = _NONE4
    tunnel_source6: IPv6Address = _NONE6
    source_packets: Rate | None = None
    source_syns: Rate | None = None
    source_bytes: Rate | None = None
    ssh_packets: Rate | None = None
    dhcp_packets: Rate | None = None
    dhcp_total: Rate | None = None
    nat_source4: IPv4Address = _NONE4
    nat_source6: IPv6Address = _NONE6
    nat_new_s: int = 10
    nat_tcp_s: int = 900
    nat_udp_s: int = 60
    nat_closing_s: int = 30
    nat_fragment_s: int = 2
    cookies_above: Rate | None = None
    cookie_key: bytes = bytes(16)


@dataclass(frozen=True, slots=True)
class Service:
    """One address, port and protocol. `id` (from 1) names its counters; port 0 for ICMP.

    Limits are over all sources; `bytes` and `answer_bytes` police what XDP forwards, to the reals and back,
    and `dscp` marks it. Entries of one id share their counters, limits and what holds for answers.
    """

    id: int
    address: Address
    port: int
    protocol: int
    forward: Forward = "kernel"
    ring: int = 0
    mtu: int = 0
    hash_addresses: bool = False
    pass_without_real: bool = False
    packets: Rate | None = None
    syns: Rate | None = None
    bytes: Rate | None = None
    answer_bytes: Rate | None = None
    dscp: int | None = None

    def problem(self) -> str | None:
        """What cannot be, in words."""
        if self.forward == "nat" and (self.hash_addresses or self.protocol not in (TCP, UDP)):
            return "nat translates ports: it takes TCP and UDP, hashed with their ports"
        if self.dscp is not None and not 0 <= self.dscp < 64:
            return f"dscp {self.dscp} is not between 0 and 63"
        return None


@dataclass(frozen=True, slots=True)
class Real:
    """One backend address. `mac` is that of the next hop towards it; `port` is where nat sends, 0 keeps the
    service's. A ring for nat holds reals of its service's IP version only."""

    address: Address
    mac: bytes
    state: State = "up"
    port: int = 0


class Tables:
    """Writes to the maps of one generation; every write is seen by the next packet."""

    def __init__(self, generation: Generation) -> None:
        self._maps = generation.maps
        self._flags = generation.enum("service_flag")
        self._forwards = generation.enum("forward")
        self._states = generation.enum("real_state")
        self._own_flags = generation.enum("own_flag")
        self._monitor = generation.enum("setting_flag")["SETTING_MONITOR"]
        self._sizes = generation.sizes
        self._word = generation.btf.map_types("ring")[1]
        self._generation = generation

    def configure(self, settings: Settings) -> None:
        """Raises ValueError for rates that cannot be, OSError."""
        if settings.cookies_above and not any(settings.cookie_key):
            raise ValueError("cookies_above needs a cookie_key: 16 secret bytes")
        self._maps["settings"].put(
            0,
            {
                "flags": self._monitor if settings.monitor else 0,
                "gue_port": settings.gue_port,
                "flow_idle_s": settings.flow_idle_s,
                "tunnel_source4": int(settings.tunnel_source4),
                "tunnel_source6": settings.tunnel_source6.packed,
                **source_parameters(
                    {
                        "source_packets": settings.source_packets,
                        "source_syns": settings.source_syns,
                        "ssh_packets": settings.ssh_packets,
                        "dhcp_packets": settings.dhcp_packets,
                    },
                    of_bytes={"source_bytes": settings.source_bytes},
                ),
                "nat_source4": int(settings.nat_source4),
                "nat_source6": settings.nat_source6.packed,
                "nat_new_s": settings.nat_new_s,
                "nat_tcp_s": settings.nat_tcp_s,
                "nat_udp_s": settings.nat_udp_s,
                "nat_closing_s": settings.nat_closing_s,
                "nat_fragment_s": settings.nat_fragment_s,
                "dhcp_total": _limit(settings.dhcp_total),
                "cookies_above": _limit(settings.cookies_above),
                "cookie_key": struct.unpack("=QQ", settings.cookie_key),
            },
        )

    def put_own(self, addresses: Collection[Address], *, translated: Collection[Address] = ()) -> None:
        """Addresses of this host, all of them: only connections to them are answered by cookies.

        `translated`: those of them that a nat service is at; there a fragment that follows none is dropped.
        Raises OSError.
        """
        table = self._maps["own_addresses"]
        own, at_nat = self._own_flags["OWN_ADDRESS"], self._own_flags["OWN_TRANSLATED"]
        wanted = {
            table.key.pack({"address": one.packed, "version": one.version}): table.value.pack(
                own | at_nat if one in translated else own
            )
            for one in addresses
        }
        held = dict(table.entries())
        for key in held.keys() - wanted.keys():
            table.delete(table.key.unpack(key))
        for key, value in wanted.items():
            if held.get(key) != value:
                table.put_raw(key, value)

    def put_service(self, service: Service, *, fragments: bool = True) -> None:
        """Insert or replace; a service hashed by addresses also takes the fragments for its address, unless
        the caller says otherwise.

        Raises ValueError if its number is beyond the size of the maps, OSError (E2BIG: the map is full).
        """
        if not 0 < service.id < self._sizes.services:
            raise ValueError(f"service number {service.id} is not between 1 and {self._sizes.services - 1}")
        if problem := service.problem():
            raise ValueError(f"service number {service.id}: {problem}")
        answers = {
            "bytes": _byte_limit(service.answer_bytes),
            "marked": service.dscp is not None,
            "dscp": service.dscp or 0,
        }
        self._maps["service_answers"].put(service.id, answers)
        self._table(service.address).put(self._key(service, service.port), self._value(service))
        if fragments and service.hash_addresses and service.port:
            self.put_fragments(service)

    def put_fragments(self, service: Service) -> None:
        """Those for its address and protocol are the service's. Raises OSError (E2BIG: the map is full)."""
        self._table(service.address).put(self._key(service, 0), self._value(service))

    def delete_service(self, service: Service) -> bool:
        """Whether it was there."""
        if service.hash_addresses and service.port:
            self._table(service.address).delete(self._key(service, 0))
        return self._table(service.address).delete(self._key(service, service.port))

    def put_real(self, number: int, real: Real) -> None:
        """Numbers start at 1: an empty ring slot holds 0."""
        if not 0 < number < self._sizes.reals:
            raise ValueError(f"real number {number} is not between 1 and {self._sizes.reals - 1}")
        state = self._states[f"REAL_{real.state.upper()}"]
        version = real.address.version
        value = {
            "address": real.address.packed,
            "mac": real.mac,
            "version": version,
            "state": state,
            "port": real.port,
        }
        self._maps["reals"].put(number, value)

    def delete_real(self, number: int) -> None:
        """Its number may be given to another then; no ring and no live flow may hold it any more."""
        self._maps["reals"].put(number, {"state": self._states["REAL_ABSENT"]})

    def put_ring(self, number: int, ring: Ring) -> None:
        """A new ring, or a step of a ring, put in place by one write."""
        words = ring.words()
        table = create_map(
            "ring",
            ARRAY,
            key=self._maps["rings"].key,
            value=Layout(self._generation.btf, self._word),
            entries=len(words) // 8,
            flags=BPF_F_MMAPABLE,
        )
        try:
            with mapped(table, len(words)) as memory:
                memory[:] = words
            self._maps["rings"].put(number, table.fd)
        finally:
            table.close()

    def delete_ring(self, number: int) -> None:
        """Its half a mebibyte is given back; no service may name it any more."""
        self._maps["rings"].delete(number)

    def ring(self, number: int) -> Ring | None:
        """The ring in place, which may be another process's; None if there is none. Raises OSError."""
        live = self._maps["rings"].get(number)
        if live is None:
            return None
        table = open_map(live, self._maps["rings"], value=Layout(self._generation.btf, self._word))
        try:
            with mapped(table, SLOTS * 8) as memory:
                return Ring.of_words(bytes(memory))
        finally:
            table.close()

    def _table(self, address: Address) -> Map:
        return self._maps["services4" if address.version == 4 else "services6"]

    def _key(self, service: Service, port: int) -> dict[str, object]:
        address: object = int(service.address) if service.address.version == 4 else service.address.packed
        return {"address": address, "port": port, "protocol": service.protocol}

    def _value(self, service: Service) -> Mapping[str, object]:
        flags = 0
        if service.hash_addresses:
            flags |= self._flags["SERVICE_HASH_ADDRESSES"]
        if service.pass_without_real:
            flags |= self._flags["SERVICE_PASS_WITHOUT_REAL"]
        if service.dscp is not None:
            flags |= self._flags["SERVICE_MARK"]
        return {
            "id": service.id,
            "ring": service.ring,
            "flags": flags,
            "forward": self._forwards[f"FORWARD_{service.forward.upper()}"],
            "mtu": service.mtu,
            "packets": _limit(service.packets),
            "syns": _limit(service.syns),
            "bytes": _byte_limit(service.bytes),
            "dscp": service.dscp or 0,
        }


def _limit(rate: Rate | None) -> dict[str, int]:
    return NO_LIMIT if rate is None else rate.parameters()


def _byte_limit(rate: Rate | None) -> dict[str, int]:
    return NO_LIMIT if rate is None else rate.byte_parameters()
