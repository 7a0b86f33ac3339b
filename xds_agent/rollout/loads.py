"""Requests of steered services by region, from the counters of all proxies: rates, shares and bytes.

What a proxy tells is its word. Where several tell of one service, none of them counts for more than a few
times what is usual among its neighbours: one that is broken or broken into must not fill a `capacity` alone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.steering.world import Region

SMOOTHING = 0.3
"""Weight of the newest rate; heartbeats are ten seconds apart."""
STALE_S = 35.0
TRUST = 4.0
"""Times the median of its place that one proxy counts for at most; balancers are seldom more uneven."""
PEERS = 3
"""Fewer proxies that carry a service have no median: then those of all places are its neighbours, and where
they are too few as well, each is believed."""
_LEAST_RPS = 0.01


@dataclass(frozen=True, slots=True)
class Flow:
    """Of one service from one proxy to one region."""

    requests: int = 0
    failed: int = 0
    bytes: int = 0
    rps: float = 0.0
    bytes_per_s: float = 0.0
    heard_s: float = 0.0


class Loads:
    """Counters as nodes told them, and what they mean a second. A counter that fell began anew."""

    def __init__(self) -> None:
        self.flows: dict[tuple[str, str, Region], Flow] = {}

    def heard(self, node: str, loads: Iterable[pb.ServiceLoad], now_s: float) -> None:
        """A full heartbeat of a node."""
        for one in loads:
            key = (node, one.service, Region(one.cloud, one.region))
            old = self.flows.get(key)
            self.flows[key] = _after(old, one, now_s)

    def rates(self, now_s: float, nodes_at: Mapping[Region, Collection[str]]) -> dict[str, float]:
        """Requests a second of each service on all proxies together. `nodes_at`: who stands where."""
        told: dict[str, dict[str, float]] = {}
        # Hosts and services go; whoever comes back begins anew.
        self.flows = {key: flow for key, flow in self.flows.items() if now_s - flow.heard_s <= STALE_S}
        for (node, service, _), flow in self.flows.items():
            of_service = told.setdefault(service, {})
            of_service[node] = of_service.get(node, 0.0) + flow.rps
        place_of = {node: place for place, nodes in nodes_at.items() for node in nodes}
        found = {name: _believed(of_service, place_of) for name, of_service in told.items()}
        return {name: round(rate, 2) for name, rate in found.items() if rate >= _LEAST_RPS}

    def of(self, service: str, nodes: Iterable[str], now_s: float) -> Mapping[Region, Flow]:
        """Flows of a service from these proxies, added up by region."""
        wanted = set(nodes)
        found: dict[Region, Flow] = {}
        for (node, name, region), flow in self.flows.items():
            if name != service or node not in wanted or now_s - flow.heard_s > STALE_S:
                continue
            sum_ = found.get(region, Flow())
            found[region] = Flow(
                sum_.requests + flow.requests, sum_.failed + flow.failed, sum_.bytes + flow.bytes,
                sum_.rps + flow.rps, sum_.bytes_per_s + flow.bytes_per_s, flow.heard_s,
            )  # fmt: skip
        return found


def _believed(told: Mapping[str, float], place_of: Mapping[str, Region]) -> float:
    """The sum of what the nodes tell of one service, each held to what is usual around it."""
    carrying = {node: rps for node, rps in told.items() if rps >= _LEAST_RPS}
    by_place: dict[Region | None, list[float]] = {}
    for node, rps in carrying.items():
        by_place.setdefault(place_of.get(node), []).append(rps)
    everywhere = list(carrying.values())
    found = 0.0
    for rates in by_place.values():
        neighbours = rates if len(rates) >= PEERS else everywhere
        most = TRUST * statistics.median(neighbours) if len(neighbours) >= PEERS else math.inf
        found += sum(min(rps, most) for rps in rates)
    return found


def _after(old: Flow | None, said: pb.ServiceLoad, now_s: float) -> Flow:
    if old is None or said.requests < old.requests or now_s <= old.heard_s:
        return Flow(said.requests, said.failed, said.bytes, 0.0, 0.0, now_s)
    span_s = now_s - old.heard_s
    rps = (said.requests - old.requests) / span_s
    size = max(0, said.bytes - old.bytes) / span_s
    part = SMOOTHING if old.rps else 1.0
    return Flow(
        said.requests, said.failed, said.bytes, old.rps + part * (rps - old.rps),
        old.bytes_per_s + part * (size - old.bytes_per_s), now_s,
    )  # fmt: skip
