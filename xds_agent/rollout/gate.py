"""Whether a wave is worse off than before the change: counters of its proxies, judged by a stated rule. Pure.

The rule, for failed requests (5xx) and for failed connects to backends, each per request:
worse is more than twice the share before, and at least one percent of all requests more than before.
Fewer than 100 requests on either side of the change are no evidence. A proxy with enough requests of its own
is judged alone, the quiet ones together. An update that Envoy rejected after it had acknowledged the change
fails the gate whatever the traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MIN_REQUESTS = 100
FACTOR = 2.0
MARGIN = 0.01

# Counter of a heartbeat -> what it counts.
RATES = {
    "downstream_rq_5xx": "requests answered 5xx",
    "upstream_cx_connect_fail": "failed connects to backends",
}
REQUESTS = "downstream_rq_total"
REJECTED = "update_rejected"

Counters = Mapping[str, int]


@dataclass(frozen=True)
class Window:
    """Counters of one proxy: some time before the change, at its start, and now; None where unheard."""

    earlier: Counters | None
    start: Counters | None
    now: Counters | None

    @property
    def before(self) -> dict[str, int] | None:
        return _moved(self.earlier, self.start)

    @property
    def after(self) -> dict[str, int] | None:
        return _moved(self.start, self.now)


@dataclass(frozen=True)
class Verdict:
    """`worse` is empty when the gate is open; `evidence` says on how much that rests."""

    worse: tuple[str, ...]
    evidence: str


def judge(windows: Mapping[str, Window]) -> Verdict:
    """Judge the proxies of the waves so far."""
    worse = []
    judged, quiet = 0, []
    for name, window in sorted(windows.items()):
        before, after = window.before, window.after
        if after is not None and after.get(REJECTED, 0) > 0:
            worse.append(f"{name}: Envoy rejected {after[REJECTED]} updates after the change")
        if before is None or after is None:
            continue
        if _enough(before, after):
            judged += after[REQUESTS]
            worse += [f"{name}: {words}" for words in _compare(before, after)]
        else:
            quiet.append((before, after))
    before, after = _sum(one for one, _ in quiet), _sum(one for _, one in quiet)
    if quiet and _enough(before, after):
        judged += after[REQUESTS]
        worse += [f"{len(quiet)} quiet proxies together: {words}" for words in _compare(before, after)]
    if judged == 0:
        return Verdict(tuple(worse), f"no evidence: fewer than {MIN_REQUESTS} requests to compare")
    return Verdict(tuple(worse), f"{judged} requests compared")


def _moved(old: Counters | None, new: Counters | None) -> dict[str, int] | None:
    """How far the counters went; None without both, or when Envoy began again from nothing between them."""
    if old is None or new is None or any(new.get(name, 0) < value for name, value in old.items()):
        return None
    return {name: new.get(name, 0) - old.get(name, 0) for name in (REQUESTS, REJECTED, *RATES)}


def _enough(before: Counters, after: Counters) -> bool:
    return before[REQUESTS] >= MIN_REQUESTS and after[REQUESTS] >= MIN_REQUESTS


def _compare(before: Counters, after: Counters) -> list[str]:
    found = []
    for name, what in RATES.items():
        old, new = before[name] / before[REQUESTS], after[name] / after[REQUESTS]
        if new > FACTOR * old and new >= old + MARGIN:
            found.append(f"{what} went from {old:.1%} to {new:.1%} of {after[REQUESTS]} requests")
    return found


def _sum(parts: Iterable[Counters]) -> dict[str, int]:
    sums = dict.fromkeys((REQUESTS, REJECTED, *RATES), 0)
    for part in parts:
        for name in sums:
            sums[name] += part[name]
    return sums
