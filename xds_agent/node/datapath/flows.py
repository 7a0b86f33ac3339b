"""Flows out of samples: who with whom, in whose name, with which fate, and how much of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from xds_agent.datapath.sampling import Sample, flow_key

PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
MOST_FLOWS = 10_000
_Key = tuple[Any, int, str, str]


class FlowTable:
    """Sums of one interval. Of so many flows each has a row; what comes beyond shares one per fate."""

    def __init__(self, most: int = MOST_FLOWS) -> None:
        self._most = most
        self._rows: dict[_Key, list[int]] = {}

    def add(self, samples: Iterable[Sample]) -> None:
        """Each stands for as many packets as one was taken of."""
        for one in samples:
            if one.leaving:
                continue
            key: _Key = (one.flow, one.service, one.reason, one.monitored)
            row = self._rows.get(key)
            if row is None:
                if len(self._rows) >= self._most:
                    key = (None, *key[1:])
                row = self._rows.setdefault(key, [0, 0, 0])
            row[0] += 1
            row[1] += one.one_in
            row[2] += one.one_in * one.length

    def take(
        self, services: Mapping[int, str], *, start_s: float, end_s: float, one_in: int
    ) -> list[dict[str, Any]]:
        """The interval's rows, most bytes first; the next one begins empty. `packets` and `bytes` are what
        the samples stand for."""
        rows, self._rows = self._rows, {}
        start = datetime.fromtimestamp(start_s, UTC).isoformat(timespec="milliseconds")
        head = {"start": start.replace("+00:00", "Z"), "seconds": round(end_s - start_s, 3)}
        found = []
        for (flow, service, reason, monitored), (sampled, packets, size) in rows.items():
            line: dict[str, Any] = {**head, **_ends(flow)}
            line |= {"service": services.get(service, f"#{service}"), "reason": reason}
            if monitored:
                line["monitored"] = monitored
            found.append(line | {"packets": packets, "bytes": size, "sampled": sampled, "one_in": one_in})
        return sorted(found, key=lambda line: -line["bytes"])


def _ends(flow: Any) -> dict[str, Any]:
    if flow is None:
        return {"other_flows": True}
    key = flow_key(flow)
    if key.source is None:
        return {"unreadable": True}
    return {
        "protocol": PROTOCOLS.get(key.protocol, str(key.protocol)),
        "source": str(key.source), "source_port": key.source_port,
        "destination": str(key.destination), "destination_port": key.destination_port,
    }  # fmt: skip
