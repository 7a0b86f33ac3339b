"""What the API says of steering: the route table per place, and where requests would go if."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from xds_agent.compile.maintenance import active
from xds_agent.rollout.change import Conflict
from xds_agent.rollout.loads import Flow
from xds_agent.rollout.steerer import Steerer, drained_in
from xds_agent.steering.deciding import Decisions, Drained, Seat
from xds_agent.steering.site import Scene, Steered
from xds_agent.steering.whatif import Suppose, settled, spills, usd_per_day
from xds_agent.steering.world import Region


class Routes:
    """Reads of one socket; `tenants` None shows every service."""

    def __init__(self, steerer: Steerer, tenants: frozenset[str] | None) -> None:
        self._steerer = steerer
        self._tenants = tenants

    def table(self, service: str | None) -> dict[str, Any]:
        """Rows by service, place and priority. Raises Conflict for a service that is not steered."""
        scene = self._scene(service)
        rows = [
            row for seat, row in self._rows(scene, self._steerer.decisions, service, self._drained(scene))
        ]
        return {
            "routes": rows,
            "notes": self._notes(self._steerer.decisions, scene, service),
            "usd_per_day": self._costs(scene, self._steerer.decisions, None),
        }

    def what_if(self, suppose: Suppose, service: str | None) -> dict[str, Any]:
        """The same once everything has moved to what is supposed, with what each cloud would have to take."""
        scene = self._scene(service)
        known = {region.cloud for steered in scene.services.values() for region in steered.groups}
        for cloud in sorted(suppose.clouds() - known):
            names = ", ".join(sorted(known)) or "none"
            raise Conflict(f"no steered service has endpoints in {cloud}", f"clouds are: {names}")
        drained = self._drained(scene)
        would = settled(
            scene, self._steerer.evidence.known, drained, suppose,
            self._steerer.decisions, self._steerer.now().timestamp(),
        )  # fmt: skip
        rates = self._rates(scene)
        taken = [
            {
                "service": one.service, "cloud": one.cloud, "rps": round(one.rps, 2),
                "capacity_rps": one.capacity_rps,
                "over": one.capacity_rps is not None and one.rps > one.capacity_rps,
            }
            for one in spills(scene, would, {seat: flow.rps for seat, flow in rates.items()})
            if service in (None, one.service) and self._sees(scene.services[one.service])
        ]  # fmt: skip
        return {
            "routes": [row for _, row in self._rows(scene, would, service, drained)],
            "before": [row for _, row in self._rows(scene, self._steerer.decisions, service, drained)],
            "load": taken,
            "alone": sorted(
                name for name, one in scene.services.items()
                if self._sees(one) and service in (None, name)
                and {region.cloud for region in one.groups if one.policy.allows(region)} <= suppose.down
            ),
            "usd_per_day": self._costs(scene, would, suppose),
            "usd_per_day_before": self._costs(scene, self._steerer.decisions, None),
            "notes": self._notes(would, scene, service),
        }  # fmt: skip

    def _scene(self, service: str | None) -> Scene:
        scene = self._steerer.scene
        if scene is None:
            raise Conflict("nothing is steered yet", "run playbooks/routes.yml first")
        if service is not None and (service not in scene.services or not self._sees(scene.services[service])):
            names = sorted(name for name, one in scene.services.items() if self._sees(one))
            raise Conflict(
                f"{service} is not steered: it has no `steering`, or endpoints in one region only",
                f"steered are: {', '.join(names) or 'none'}",
            )
        return scene

    def _sees(self, steered: Steered) -> bool:
        return self._tenants is None or steered.service.tenant in self._tenants

    def _drained(self, scene: Scene) -> Drained:
        return drained_in(active(scene.site, self._steerer.now()))

    def _rows(
        self, scene: Scene, decisions: Decisions, only: str | None, drained: Drained
    ) -> Iterator[tuple[Seat, dict[str, Any]]]:
        for place, name in sorted(scene.seats(), key=lambda seat: (seat[1], seat[0])):
            steered = scene.services[name]
            kept = decisions.get(place, {}).get(name)
            if kept is None or not self._sees(steered) or only not in (None, name):
                continue
            flows = self._steerer.loads.of(name, scene.nodes_at.get(place, ()), self._steerer.clock())
            total = sum(flow.rps for flow in flows.values())
            since = dt.datetime.fromtimestamp(kept.since_s, dt.UTC).isoformat(timespec="seconds")
            for one in kept.placement.placed:
                flow = flows.get(one.region, Flow())
                yield (
                    (place, name),
                    {
                        "service": name, "seen_from": str(place), "cloud": one.region.cloud,
                        "region": one.region.region, "priority": one.priority, "weight": one.weight,
                        "share": round(one.share, 4),
                        "measured_share": round(flow.rps / total, 4) if total else None,
                        "rps": round(flow.rps, 2), "why": one.reason, "since": since,
                        "usd_per_gb": scene.world.usd_per_gb(one.region, place),
                        **self._measured(steered, place, one.region, drained),
                    },
                )  # fmt: skip
            for region, why in kept.placement.left_out:
                yield (
                    (place, name),
                    {
                        "service": name, "seen_from": str(place), "cloud": region.cloud,
                        "region": region.region, "priority": None, "weight": 0, "share": 0.0,
                        "measured_share": None, "rps": 0.0, "why": why, "since": since,
                        "usd_per_gb": scene.world.usd_per_gb(region, place),
                        **self._measured(steered, place, region, drained),
                    },
                )  # fmt: skip

    def _measured(self, steered: Steered, place: Region, region: Region, drained: Drained) -> dict[str, Any]:
        evidence = self._steerer.evidence
        group = steered.groups[region]
        words = [word for one in group for word in evidence.of(place, one.ask)]
        p50 = sorted(word.p50_ms for word in words if word.p50_ms)
        p95 = sorted(word.p95_ms for word in words if word.p95_ms)
        verdicts = [
            False if drained(one.endpoint) else evidence.known.health.get((place, one.ask)) for one in group
        ]
        out = sum(drained(one.endpoint) for one in group)
        text = f"{verdicts.count(True)} of {len(group)} well"
        if verdicts.count(None):
            text += f", {verdicts.count(None)} unknown"
        return {
            "rtt_p50_ms": round(p50[len(p50) // 2], 2) if p50 else None,
            "rtt_p95_ms": round(p95[-1], 2) if p95 else None,
            "health": text + (f", {out} in maintenance" if out else ""),
        }

    def _notes(self, decisions: Decisions, scene: Scene, only: str | None) -> list[str]:
        return [
            f"{name} as seen from {place}: {note}"
            for place, named in decisions.items() for name, kept in named.items()
            if name in scene.services and self._sees(scene.services[name]) and only in (None, name)
            for note in kept.placement.notes
        ]  # fmt: skip

    def _rates(self, scene: Scene) -> Mapping[Seat, Flow]:
        found = {}
        for place, name in scene.seats():
            flows = self._steerer.loads.of(
                name, scene.nodes_at.get(place, ()), self._steerer.clock()
            ).values()
            rps, size = sum(flow.rps for flow in flows), sum(flow.bytes_per_s for flow in flows)
            found[place, name] = Flow(rps=rps, bytes_per_s=size)
        return found

    def _costs(
        self, scene: Scene, decisions: Decisions, suppose: Suppose | None
    ) -> dict[str, dict[str, float]]:
        sizes = {seat: flow.bytes_per_s for seat, flow in self._rates(scene).items()}
        costs = usd_per_day(scene, decisions, sizes, suppose)
        return {
            name: {cloud: round(usd, 4) for cloud, usd in sorted(clouds.items())}
            for name, clouds in sorted(costs.items()) if self._sees(scene.services[name])
        }  # fmt: skip
