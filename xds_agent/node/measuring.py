"""What control lets this host measure: from its assignment to probes, and from their results to a report."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from typing import Any, cast

from xds_agent.node.admin import Admin, AdminError
from xds_agent.node.probing import Check, Kind, OverBudget, Prober, Result, Target
from xds_agent.proto import marchproxy_pb2 as pb

log = logging.getLogger(__name__)

ASKER = "steering"
_COUNTED_MOST = 500
"""Envoy's list of all endpoints is read for them, which its main thread pays for."""
_HEALTH = {None: pb.EndpointReport.UNKNOWN, True: pb.EndpointReport.WELL, False: pb.EndpointReport.DOWN}


class Measuring:
    """Probes what was assigned last, with control or without; `changed` is called on every new verdict."""

    def __init__(self, prober: Prober, changed: Callable[[], None]) -> None:
        self.problem = ""
        self._prober = prober
        self._changed = changed
        self._targets: dict[int, Target] = {}
        self._services: frozenset[str] = frozenset()
        # Probe -> how many of its samples were told, and the verdict that was.
        self._told: dict[int, tuple[int, bool | None]] = {}
        prober.listen(self._heard)

    def assigned(self, assignment: pb.ProbeAssignment) -> None:
        """Measure this from now on. What cannot be is refused in words, and the rest of before goes on."""
        try:
            targets = {one.id: _target(one) for one in assignment.probes}
            if assignment.limit_per_s:
                self._prober.limit(float(assignment.limit_per_s))
            self._prober.watch(ASKER, targets.values())
        except OverBudget as error:
            self.problem = f"probes: {error}"
        except ValueError as error:
            self.problem = f"probes: control asks for what cannot be: {error}"
        else:
            self.problem = ""
            self._targets = targets
            self._services = frozenset(assignment.services)
            self._told = {probe: told for probe, told in self._told.items() if probe in targets}
            return
        log.error("%s", self.problem)

    def report(self, *, whole: bool) -> list[pb.EndpointReport]:
        """Of all probes with their new samples, or of those alone whose verdict changed since it was told."""
        found = []
        for probe, target in self._targets.items():
            result = self._prober.result(target)
            samples, verdict = self._told.get(probe, (0, None))
            if not whole and result.healthy == verdict:
                continue
            found.append(_said(probe, result, samples if whole else result.window.count))
            self._told[probe] = (result.window.count if whole else samples, result.healthy)
        return found

    async def loads(self, admin: Admin) -> list[pb.ServiceLoad]:
        """What Envoy counted for the services that control asked about; nothing when it does not answer."""
        if not 0 < len(self._services) <= _COUNTED_MOST:
            return []
        try:
            clusters = json.loads(await admin.get("/clusters?format=json"))
            received = await admin.counters(r"^cluster\..*\.upstream_cx_rx_bytes_total$")
        except (AdminError, ValueError):
            return []
        found = []
        for one in clusters.get("cluster_statuses", ()):
            if one.get("name") in self._services:
                size = received.get(f"cluster.{one['name']}.upstream_cx_rx_bytes_total", 0)
                found += _loads(one["name"], one.get("host_statuses", ()), size)
        return found

    def _heard(self, target: Target, _result: Result) -> None:
        if any(one.key == target.key for one in self._targets.values()):
            self._changed()


def _target(probe: pb.Probe) -> Target:
    check = Check(
        kind=cast(Kind, probe.kind), path=probe.path or "/", host=probe.host,
        statuses=tuple(probe.statuses) or (200,), grpc_service=probe.grpc_service,
    )  # fmt: skip
    return Target(
        probe.address, probe.port, check, interval_s=probe.interval_ms / 1000.0,
        timeout_s=probe.timeout_ms / 1000.0, unhealthy_after=probe.unhealthy_after,
        healthy_after=probe.healthy_after,
    )  # fmt: skip


def _said(probe: int, result: Result, told: int) -> pb.EndpointReport:
    window = result.window
    new = window.rtts_ms[-(window.count - told) :] if window.count > told else ()
    return pb.EndpointReport(
        probe=probe, health=_HEALTH[result.healthy], samples_ms=new, rtt_ms_min=window.least_ms,
        rtt_ms_p50=window.percentile_ms(50), rtt_ms_p95=window.percentile_ms(95), words=result.tally.words,
    )  # fmt: skip


def _loads(service: str, hosts: Iterable[Any], size: int) -> list[pb.ServiceLoad]:
    """By region; bytes are known of the whole service alone, and shared out by requests."""
    sums: dict[str, list[int]] = {}
    for host in hosts:
        stats = {one.get("name"): int(one.get("value", 0)) for one in host.get("stats", ())}
        place = host.get("locality", {}).get("region", "")
        own = sums.setdefault(place, [0, 0])
        own[0] += stats.get("rq_total", 0)
        own[1] += stats.get("rq_error", 0)
    total = sum(requests for requests, _ in sums.values())
    return [
        pb.ServiceLoad(
            service=service,
            cloud=place.partition("/")[0],
            region=place.partition("/")[2],
            requests=requests,
            failed=failed,
            bytes=size * requests // total if total else 0,
        )
        for place, (requests, failed) in sorted(sums.items())
    ]
