"""What is probed: an address, a port and a way of asking, once however many want to know."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

Kind = Literal["tcp", "http", "grpc", "icmp", "udp"]
_KINDS = frozenset(get_args(Kind))

INTERVAL_S = 5.0
TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Check:
    """The type of a probe, with what it asks for."""

    kind: Kind = "tcp"
    path: str = "/"
    """`http`: path asked for."""
    host: str = ""
    """`http`: Host header; `grpc`: authority. Empty: the address."""
    statuses: tuple[int, ...] = (200,)
    """`http`: status codes of one that is well."""
    grpc_service: str = ""
    """`grpc`: service asked about; empty is the whole server."""
    payload: bytes = b""
    """`udp`: what is sent; any answer is a good one."""


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to probe, and how often. Raises ValueError for what cannot be probed."""

    address: str
    """IPv4 or IPv6; names are not resolved."""
    port: int
    """0 with `icmp`."""
    check: Check = Check()
    interval_s: float = INTERVAL_S
    timeout_s: float = TIMEOUT_S
    unhealthy_after: int = 2
    healthy_after: int = 2

    def __post_init__(self) -> None:
        ipaddress.ip_address(self.address)
        if self.check.kind not in _KINDS:
            raise ValueError(f"there is no probe {self.check.kind!r}")
        lowest = 0 if self.check.kind == "icmp" else 1
        if not lowest <= self.port <= 65_535:
            raise ValueError(f"{self.port} is no port to probe by {self.check.kind}")
        for name in ("interval_s", "timeout_s", "unhealthy_after", "healthy_after"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} of {self} must be more than 0")

    @property
    def key(self) -> tuple[str, int, Check]:
        """What makes two targets the same probe."""
        return self.address, self.port, self.check

    def __str__(self) -> str:
        where = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.check.kind} {where}" + (f":{self.port}" if self.port else "")


def distinct(targets: Iterable[Target]) -> tuple[Target, ...]:
    """One target per (address, port, check), in a fixed order: the shortest interval and, of the rest, what
    is the quicker to find out."""
    found: dict[tuple[str, int, Check], Target] = {}
    for one in targets:
        other = found.get(one.key)
        found[one.key] = one if other is None else _quicker(one, other)
    return tuple(found[key] for key in sorted(found, key=repr))


def _quicker(one: Target, other: Target) -> Target:
    return replace(
        one,
        interval_s=min(one.interval_s, other.interval_s),
        timeout_s=min(one.timeout_s, other.timeout_s),
        unhealthy_after=min(one.unhealthy_after, other.unhealthy_after),
        healthy_after=min(one.healthy_after, other.healthy_after),
    )
