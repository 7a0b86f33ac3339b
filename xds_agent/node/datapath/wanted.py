"""What this host's datapath is to do: a revision's resources, with this host's own addresses. Pure."""

from __future__ import annotations

import ipaddress
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import compress
from operator import is_not
from typing import Any, Literal

from xds_agent.datapath.prefixes import Network, Prefixes
from xds_agent.node.probing import Check, Target
from xds_agent.proto import datapath_pb2 as pb
from xds_agent.snapshot.resource import DATAPATH_TYPES, Snapshot

Address = IPv4Address | IPv6Address
Forward = Literal["nat", "dsr", "gue", "echo", "kernel"]
Class = Literal["deny", "exempt"]
_FORWARDS: dict[int, Forward] = {
    pb.NAT: "nat", pb.DSR: "dsr", pb.GUE: "gue", pb.ECHO: "echo", pb.KERNEL: "kernel",
}  # fmt: skip
_TCP, _UDP, _ICMP, _ICMPV6 = 6, 17, 1, 58
_MILLISECONDS = 1000
_SAME_REALS = 4096


@dataclass(frozen=True, slots=True, order=True)
class RealKey:
    """What makes two reals the same one in the maps. `port` 0: the packet keeps its own."""

    address: Address
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


RealOf = tuple[str, RealKey]
"""A real as one service sees it: each has a check of its own."""


@dataclass(frozen=True, slots=True)
class WantedReal:
    key: RealKey
    weight: int
    priority: int
    check: Target | None = None


@dataclass(frozen=True, slots=True)
class Front:
    """Where packets of a service arrive."""

    address: Address
    port: int
    protocol: int


@dataclass(frozen=True, slots=True)
class WantedService:
    name: str
    forward: Forward
    fronts: tuple[Front, ...]
    reals: tuple[WantedReal, ...]
    pass_without_real: bool = False
    hash_addresses: bool = False
    packets_per_second: int = 0
    syn_per_second: int = 0
    qos: int | None = None
    """0 to 3 for P0 to P3; None: nothing is marked."""
    ingress_bits: int = 0
    egress_bits: int = 0

    @property
    def balanced(self) -> bool:
        """False for what Envoy of this host serves: no ring, no reals."""
        return self.forward != "kernel"

    @property
    def is_apart(self) -> bool:
        """See `apart`."""
        # All of a service's reals have a check, or none has.
        return self.forward in ("dsr", "kernel") or any(one.check is not None for one in self.reals[:1])

    def reals_for(self, version: int) -> tuple[WantedReal, ...]:
        """Reals that packets of an IP version can go to: only an encapsulated packet changes its version."""
        if self.forward in ("gue", "echo"):
            return self.reals
        return tuple(one for one in self.reals if one.key.address.version == version)


class Services(dict[str, WantedService]):
    """By name. One made of another knows where it differs: an edit among thousands is found at once."""

    def __init__(
        self, before: Mapping[str, WantedService], edited: Mapping[str, WantedService | None]
    ) -> None:
        """`edited`: what is other than `before`; None: it is gone."""
        super().__init__(before)
        for name, one in edited.items():
            if one is None:
                self.pop(name, None)
            else:
                self[name] = one
        # Whoever asks about it holds it.
        self._before: Callable[[], object] = (
            weakref.ref(before) if isinstance(before, Services) else lambda: None
        )
        self._edited = frozenset(edited)
        known = before.apart if isinstance(before, Services) else _apart(before)
        self.apart: frozenset[str] = (known - self._edited) | _apart(
            {name: self[name] for name in edited if name in self}
        )
        """Names of those that more than the maps depends on: few among many."""

    def edited_from(self, before: Mapping[str, Any]) -> frozenset[str] | None:
        """Where it differs, None if it was made of something else."""
        return self._edited if self._before() is before else None


def _apart(services: Mapping[str, WantedService]) -> frozenset[str]:
    return frozenset(name for name, one in services.items() if one.is_apart)


def apart(services: Mapping[str, WantedService]) -> list[WantedService]:
    """Those with a check, `dsr` ones, and what Envoy serves."""
    names = services.apart if isinstance(services, Services) else _apart(services)
    return [services[name] for name in sorted(names)]


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> frozenset[str]:
    """Names that came, went, or are another object. Neither may have changed since it was made."""
    if before is now:
        return frozenset()
    if isinstance(now, Services) and (edited := now.edited_from(before)) is not None:
        return edited
    # Ten thousand take well under a millisecond.
    others = map(is_not, now.values(), map(before.get, now))
    return frozenset(compress(now, others)) | (before.keys() - now.keys())


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for the whole host: rates, per source (0: no limit), and its flow log."""

    monitor: bool = False
    source_packets: int = 0
    source_syns: int = 0
    source_bits: int = 0
    ssh_packets: int = 0
    cookies_above: int = 0
    flow_log_one_in: int = 0
    """0: none is written."""
    flow_log_every_s: float = 0.0


@dataclass(frozen=True)
class Wanted:
    """Everything, by name. Of lists that hold one network the last one counts."""

    services: Mapping[str, WantedService] = field(default_factory=dict)
    limits: Limits = Limits()
    lists: tuple[tuple[Prefixes, Class], ...] = ()
    timed: tuple[tuple[Network, int], ...] = ()
    own: frozenset[Address] = frozenset()
    """Addresses of this host's interfaces, and its vips."""

    @property
    def rules(self) -> list[tuple[Network, Class]]:
        """Of `lists`, one by one: for people, who ask about few."""
        return [(network, kind) for networks, kind in self.lists for network in networks]

    def denied_at(self, now: float) -> tuple[Network, ...]:
        """What is denied by hand at a time, which goes before all lists and ends by itself."""
        return tuple(network for network, until in self.timed if until > now)

    def checks(self) -> list[Target]:
        """What has to be probed."""
        return [check for _, _, check in self.probed]

    @cached_property
    def probed(self) -> tuple[tuple[str, RealKey, Target], ...]:
        """Reals that have a check, by their service."""
        return tuple(
            (one.name, real.key, real.check)
            for one in apart(self.services)
            for real in one.reals
            if real.check is not None
        )


def concerns(changed: Mapping[str, Iterable[str]]) -> bool:
    """True when a change reaches the datapath at all."""
    return any(changed.get(type_url) for type_url in DATAPATH_TYPES)


def asks_for_datapath(snapshot: Snapshot) -> bool:
    """True when the revision holds anything of XDP's."""
    return any(snapshot.of_type(type_url) for type_url in DATAPATH_TYPES)


def service_of(said: Any, backends: Any, addresses: Iterable[Address]) -> WantedService:
    forward = _FORWARDS.get(said.forward)
    if forward is None:
        raise ValueError(f"this agent knows no forward {said.forward}, which service {said.name} asks for")
    keeps_port = forward != "nat"
    return WantedService(
        name=said.name,
        forward=forward,
        fronts=tuple(Front(one, said.port, _protocol(said.protocol, one)) for one in addresses),
        reals=tuple(_real(said, one, keeps_port=keeps_port) for one in backends.reals),
        pass_without_real=said.pass_without_real,
        hash_addresses=said.hash_addresses,
        packets_per_second=said.packets_per_second,
        syn_per_second=said.syn_per_second,
        qos=said.qos - 1 if said.qos else None,
        ingress_bits=said.ingress_bits,
        egress_bits=said.egress_bits,
    )


def _protocol(protocol: int, address: Address) -> int:
    if protocol == pb.ICMP:
        return _ICMPV6 if address.version == 6 else _ICMP
    return _TCP if protocol == pb.TCP else _UDP


def _real(said: Any, one: Any, *, keeps_port: bool) -> WantedReal:
    real = _real_without_check(one.address, 0 if keeps_port else one.port, one.weight, one.priority)
    if said.HasField("health"):
        return replace(real, check=_target(str(real.key.address), one.port, said.health))
    return real


@lru_cache(maxsize=_SAME_REALS)
def _real_without_check(packed: bytes, port: int, weight: int, priority: int) -> WantedReal:
    """The same object for the same real: thousands of services share few."""
    return WantedReal(RealKey(ipaddress.ip_address(packed), port), weight, priority)


def _target(address: str, port: int, health: Any) -> Target:
    asked = Check(
        kind=health.type, path=health.path or "/", host=health.host, statuses=tuple(health.statuses) or (200,)
    )
    return Target(
        address, 0 if health.type == "icmp" else health.port or port, asked,
        interval_s=health.interval_ms / _MILLISECONDS, timeout_s=health.timeout_ms / _MILLISECONDS,
        unhealthy_after=health.unhealthy_after, healthy_after=health.healthy_after,
    )  # fmt: skip


def limits_of(said: Any) -> Limits:
    return Limits(
        monitor=said.monitor,
        source_packets=said.source_packets_per_second,
        source_syns=said.source_syn_per_second,
        source_bits=said.source_bits_per_second,
        ssh_packets=said.ssh_packets_per_second,
        cookies_above=said.cookies_above,
        flow_log_one_in=said.flow_log_one_in,
        flow_log_every_s=said.flow_log_every_ms / _MILLISECONDS,
    )


def list_of(said: Any) -> tuple[Prefixes, Class]:
    """Raises ValueError for what is no list of networks."""
    networks = Prefixes(said.ipv4, said.ipv6)
    if networks.problem:
        raise ValueError(f"access list {said.name}: {networks.problem}")
    return networks, "exempt" if said.name == "exempt" else "deny"
