"""Whether a new generation fares worse than the one before: pure, from three samples of the counters.

Protection drops what an attacker sends, and an attack may begin in the second of a reload. So drops of that
kind count only where traffic that used to pass passes no more; drops that only a mistake explains count by
themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xds_agent.datapath.counters import Count

# What the sender brings about, whatever program is loaded.
PROTECTIVE = frozenset(
    {
        *(
            "drop_denied",
            "drop_source_rate",
            "drop_syn_rate",
            "drop_ssh_rate",
            "drop_service_rate",
            "drop_dhcp_rate",
            "drop_source_bytes",
        ),
        *("drop_service_syn_rate", "drop_service_bytes", "drop_answer_bytes", "drop_truncated"),
        *("drop_bad_header", "drop_extensions", "drop_hop_limit", "drop_tiny_fragment"),
    }
)


@dataclass(frozen=True, slots=True)
class Sample:
    """Packets by service and reason since the maps began, at one time (seconds, any clock)."""

    at_s: float
    packets: Mapping[tuple[int, str], int]

    @classmethod
    def of(cls, services: Mapping[int, Mapping[str, Count]], at_s: float) -> Sample:
        """From what `Counters.services` reads."""
        return cls(
            at_s,
            {
                (number, reason): count.packets
                for number, reasons in services.items()
                for reason, count in reasons.items()
            },
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """`packets`: what is too few to judge. `share`: how much more of a service's packets may meet a drop that
    is a mistake. `passing`: what part of the former rate must still pass."""

    packets: int = 100
    share: float = 0.01
    passing: float = 0.5


def judge(before: Sample, flip: Sample, after: Sample, bounds: Bounds | None = None) -> str | None:
    """Why to roll back, in words; None if all is well or too little is known. Raises ValueError.

    `before` to `flip` is how it was, `flip` to `after` how it is since.
    """
    if not before.at_s < flip.at_s < after.at_s:
        raise ValueError("samples must be taken one after the other")
    bounds = bounds or Bounds()
    old, new = _between(before, flip), _between(flip, after)
    for service in sorted({number for number, _ in (*old, *new)}):
        problem = _mistakes(service, old, new, bounds) or _silence(
            service, old, new, (flip.at_s - before.at_s, after.at_s - flip.at_s), bounds
        )
        if problem:
            return problem
    return None


Packets = Mapping[tuple[int, str], int]


def _between(one: Sample, other: Sample) -> Packets:
    # A table that started empty counts from zero: what it shows is what came since.
    grown = {key: value - one.packets.get(key, 0) for key, value in other.packets.items()}
    return {key: other.packets[key] if value < 0 else value for key, value in grown.items()}


def _mistakes(service: int, old: Packets, new: Packets, bounds: Bounds) -> str | None:
    total_old, total_new = _sum(old, service), _sum(new, service)
    if total_new < bounds.packets:
        return None
    for (number, reason), count in sorted(new.items()):
        if number != service or not reason.startswith("drop_") or reason in PROTECTIVE:
            continue
        share = count / total_new
        former = old.get((service, reason), 0) / total_old if total_old else 0.0
        if share - former > bounds.share:
            return f"service {service}: {reason} went from {former:.1%} to {share:.1%} of its packets"
    return None


def _silence(
    service: int, old: Packets, new: Packets, spans_s: tuple[float, float], bounds: Bounds
) -> str | None:
    """Its traffic stopped passing although packets for it still come."""
    former, now = _sum(old, service, passing=True), _sum(new, service, passing=True)
    if former < bounds.packets or _sum(new, service) < bounds.packets:
        return None
    rate, was = now / spans_s[1], former / spans_s[0]
    if rate >= was * bounds.passing:
        return None
    return f"service {service}: {rate:,.0f} packets a second pass, before it were {was:,.0f}"


def _sum(packets: Packets, service: int, *, passing: bool = False) -> int:
    kinds = ("pass_", "send_") if passing else ("pass_", "send_", "drop_")
    return sum(
        count for (number, reason), count in packets.items() if number == service and reason.startswith(kinds)
    )
