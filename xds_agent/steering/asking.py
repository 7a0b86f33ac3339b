"""What has to be measured for steering, and which nodes measure it. Pure."""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from xds_agent.model import Problem, ResolvedEndpoint, Service

PER_PAIR = 3
"""Nodes of a place that measure the same thing: enough to outvote one that lies, however large the fleet."""
LEAST_INTERVAL_S = 1.0
"""Strategy needs no quicker word: what must be found at once, proxies find themselves."""
_INTERVAL_S, _TIMEOUT_S, _TURNS = 5.0, 1.0, 2
_SECOND = timedelta(seconds=1)


class Ask(NamedTuple):
    """One question to one address: what makes two probes the same."""

    kind: str
    address: str
    port: int = 0
    path: str = ""
    host: str = ""
    statuses: tuple[int, ...] = ()
    grpc_service: str = ""

    @property
    def id(self) -> int:
        """Sixty-four bits that name it on the wire."""
        return int.from_bytes(hashlib.blake2b(repr(tuple(self)).encode(), digest_size=8).digest(), "big")


class Pace(NamedTuple):
    """How often it is asked, and how many answers in a row count."""

    interval_s: float = _INTERVAL_S
    timeout_s: float = _TIMEOUT_S
    unhealthy_after: int = _TURNS
    healthy_after: int = _TURNS

    def with_(self, other: Pace) -> Pace:
        """The quicker of both in everything."""
        return Pace(*(min(one, two) for one, two in zip(self, other, strict=True)))  # type: ignore[arg-type]


Assignment = Mapping[Ask, Pace]
Assignments = Mapping[str, Assignment]
"""Node -> what it is to measure."""


def ask_of(service: Service, endpoint: ResolvedEndpoint) -> Ask:
    """How an endpoint of a service is measured: as its health check asks, where a probe can ask so.

    A backend that speaks TLS, or HTTP/2 where the check is HTTP, is asked for a TCP connection.
    """
    health, address = service.health, endpoint.address
    if health is None:
        silent = service.protocol in ("udp", "icmp")
        return Ask("icmp", address) if silent else Ask("tcp", address, endpoint.port)
    port = health.port or endpoint.port
    if service.upstream_tls is not None or health.type == "tcp":
        return Ask("tcp", address, port)
    if health.type == "grpc":
        return Ask("grpc", address, port, host=service.name, grpc_service=health.grpc_service)
    if service.is_http and service.upstream_http2:
        return Ask("tcp", address, port)
    return Ask(
        "http", address, port, health.path, health.host or service.name, tuple(sorted(health.statuses))
    )


def pace_of(service: Service) -> Pace:
    """As often as the health check says, but not more often than every second."""
    health = service.health
    if health is None:
        return Pace()
    return Pace(
        max(LEAST_INTERVAL_S, health.interval / _SECOND),
        health.timeout / _SECOND,
        health.unhealthy_after,
        health.healthy_after,
    )


def assign(wanted: Iterable[tuple[Ask, Pace, Sequence[str]]]) -> dict[str, dict[Ask, Pace]]:
    """`wanted`: (ask, pace, nodes of one place that may ask). At most PER_PAIR of them do, chosen by hash.

    A node that comes or goes changes only what it had, or gets.
    """
    found: dict[str, dict[Ask, Pace]] = {}
    for ask, pace, nodes in wanted:
        for node in _chosen(ask, nodes):
            own = found.setdefault(node, {})
            known = own.get(ask)
            own[ask] = pace if known is None or known == pace else known.with_(pace)
    return found


def _chosen(ask: Ask, nodes: Sequence[str]) -> Sequence[str]:
    if len(nodes) <= PER_PAIR:
        return nodes
    return sorted(nodes, key=lambda node: (_turn(node, ask), node))[:PER_PAIR]


def _turn(node: str, ask: Ask) -> int:
    return zlib.crc32(f"{node}|{ask.kind}|{ask.address}|{ask.port}|{ask.path}".encode())


def over_budget(assignments: Assignments, limit_per_s: float) -> list[Problem]:
    """A problem for each node that would have to probe more than the budget, with the arithmetic."""
    problems = []
    for node in sorted(assignments):
        paces = Counter((ask.kind, pace.interval_s) for ask, pace in assignments[node].items())
        rate = sum(number / interval_s for (_, interval_s), number in paces.items())
        if rate <= limit_per_s * 1.000001:
            continue
        parts = " + ".join(
            f"{number} {kind} every {interval_s:g} s ({number / interval_s:.1f})"
            for (kind, interval_s), number in sorted(paces.items())
        )
        problems.append(
            Problem(
                "limits.probes_per_second",
                f"{node} would have to make {parts} = {rate:.1f} probes a second, "
                f"its budget is {limit_per_s:g}",
                f"make health.interval {rate / limit_per_s:.2f} times as long, or raise the budget",
            )
        )
    return problems
