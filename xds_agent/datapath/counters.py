"""Counters by name: what became of packets, per service and reason."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from xds_agent.datapath.libbpf import possible_cpus
from xds_agent.datapath.maps import Map
from xds_agent.datapath.program import Generation


@dataclass(frozen=True, slots=True)
class Count:
    """Sums over all CPUs."""

    packets: int
    bytes: int


class Counters:
    """Reads the counters of a generation; names are those of enum reason, in lower case."""

    def __init__(self, generation: Generation) -> None:
        reasons = dict(generation.reasons)
        self._rows = generation.enum("reason")["REASONS"]
        end = reasons.pop("DROP_END")
        self._first_drop = min(number for name, number in reasons.items() if name.startswith("DROP_"))
        self._drops = end - self._first_drop
        self._names = {number: name.lower() for name, number in reasons.items()}
        self._maps = generation.maps

    def service(self, number: int) -> dict[str, Count]:
        """Reasons of a service that are not zero; service 0 is the host itself."""
        rows = {number * self._rows + reason: name for reason, name in self._names.items()}
        return self._read("counters", rows)

    def monitored(self, number: int) -> dict[str, Count]:
        """What would have been dropped, had monitor mode been off."""
        base = number * self._drops - self._first_drop
        rows = {base + reason: name for reason, name in self._names.items() if self._is_drop(reason)}
        return self._read("monitored", rows)

    def real(self, number: int) -> Count:
        return self._read("real_counters", {number: "real"}).get("real", Count(0, 0))

    def _is_drop(self, reason: int) -> bool:
        return self._first_drop <= reason < self._first_drop + self._drops

    def services(self, numbers: Collection[int]) -> dict[int, dict[str, Count]]:
        """Several services by few system calls; those without packets are left out."""
        wanted, found = frozenset(numbers), defaultdict[int, dict[str, Count]](dict)
        unpack = struct.Struct(f"={2 * possible_cpus()}Q").unpack
        for row, (_, value) in enumerate(self._maps["counters"].entries()):
            number, reason = divmod(row, self._rows)
            if number in wanted and reason in self._names and any(value):
                words = unpack(value)
                found[number][self._names[reason]] = Count(sum(words[::2]), sum(words[1::2]))
        return dict(found)

    def _read(self, name: str, rows: dict[int, str]) -> dict[str, Count]:
        found = {reason: total(self._maps[name], row) for row, reason in rows.items()}
        return {reason: count for reason, count in found.items() if count and count.packets}


def total(table: Map, row: int) -> Count | None:
    """The sum over all CPUs of one row, None if there is no such row."""
    values = table.get(row)
    if values is None:
        return None
    return Count(sum(value["packets"] for value in values), sum(value["bytes"] for value in values))
