"""Endpoint sets: localities with priorities and weights (decided, or as the inventory says), drained ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_pb2

from xds_agent.compile.maintenance import Windows, drained
from xds_agent.model import ResolvedEndpoint, Service
from xds_agent.steering import Endpoint, spread
from xds_agent.steering.deciding import Share
from xds_agent.steering.site import region_of

# Half of a priority gone: 50 % x 1.4 = 70 % of its requests stay, the rest spills to the next one.
OVERPROVISIONING_PERCENT = 140

_DRAINING = health_check_pb2.HealthStatus.Value("DRAINING")
_SHARE_SCALE = 100
_Place = tuple[int, str, str, str]
_Places = dict[_Place, list[ResolvedEndpoint]]


def load_assignment(
    service: Service, resolved: Sequence[ResolvedEndpoint], windows: Windows,
    shares: Sequence[Share] | None = None,
) -> Any:  # fmt: skip
    """ClusterLoadAssignment of a service, localities by priority and name.

    `shares` is what was decided for where the proxy stands; without it `order` and `weights` alone hold.
    """
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=service.name)
    message.policy.overprovisioning_factor.value = OVERPROVISIONING_PERCENT
    places, weights = _as_said(service, resolved) if shares is None else _as_decided(resolved, shares)
    for place in sorted(places):
        priority, cloud, region, zone = place
        locality = message.endpoints.add(priority=priority)
        locality.locality.region = f"{cloud}/{region}" if region else cloud
        locality.locality.zone = zone
        locality.load_balancing_weight.value = weights[place]
        out = not _cloud_weight(service, cloud)
        for one in sorted(places[place], key=_stable):
            entry = locality.lb_endpoints.add()
            _fill(entry, service, one)
            if out or not one.weight or (windows and drained(one, windows)):
                entry.health_status = _DRAINING
    return message


def _as_said(service: Service, resolved: Sequence[ResolvedEndpoint]) -> tuple[_Places, dict[_Place, int]]:
    places: _Places = {}
    priorities = _priorities(service, resolved)
    for one in resolved:
        if one.cloud in priorities:
            places.setdefault((priorities[one.cloud], one.cloud, one.region, one.zone), []).append(one)
    return places, _weights(service, places)


def _as_decided(
    resolved: Sequence[ResolvedEndpoint], shares: Sequence[Share]
) -> tuple[_Places, dict[_Place, int]]:
    """Regions without a share are not sent at all: what the inventory forbids gets nothing, come what may."""
    places: _Places = {}
    weights: dict[_Place, int] = {}
    for region, priority, weight in shares:
        mine = [one for one in resolved if region_of(one) == region]
        zones, _ = spread(weight, [Endpoint(one.zone, one.weight) for one in mine])
        for one in mine:
            places.setdefault((priority, *region, one.zone), []).append(one)
        weights.update(((priority, *region, zone), max(1, part)) for zone, part in zones.items())
    return places, weights


def _fill(entry: Any, service: Service, one: ResolvedEndpoint) -> None:
    socket = entry.endpoint.address.socket_address
    socket.address, socket.port_value = one.address, one.port
    if one.dns:
        entry.endpoint.hostname = one.address
    if service.health is not None and service.health.port is not None:
        entry.endpoint.health_check_config.port_value = service.health.port
    # Envoy takes no weight below 1; an endpoint of weight 0 is drained instead.
    entry.load_balancing_weight.value = one.weight or 1


def _stable(one: ResolvedEndpoint) -> tuple[str, int, int]:
    """The order of files and hosts must not show in the bytes."""
    return one.address, one.port, one.weight


def _priorities(service: Service, resolved: Iterable[ResolvedEndpoint]) -> dict[str, int]:
    """Cloud -> priority, without a gap: as `order` says; clouds it does not name have none."""
    present = {one.cloud for one in resolved}
    if not service.steering.order:
        return dict.fromkeys(present, 0)
    order = [cloud for cloud in service.steering.order if cloud in present]
    return {cloud: at if service.steering.active_passive else 0 for at, cloud in enumerate(order)}


def _cloud_weight(service: Service, cloud: str) -> int:
    if service.steering.active_passive:
        return 1
    return service.steering.weights.get(cloud, 1)


def _weights(service: Service, places: dict[_Place, list[ResolvedEndpoint]]) -> dict[_Place, int]:
    """Weight of each locality within its priority.

    Without shares of clouds: what its endpoints weigh together, so that equal endpoints get equal loads. With
    them: the cloud's share, divided among its localities by what their endpoints weigh.
    """
    sums = {place: sum(one.weight for one in found) or 1 for place, found in places.items()}
    if service.steering.active_passive or not service.steering.weights:
        return sums
    clouds: dict[str, int] = {}
    for place, total in sums.items():
        clouds[place[1]] = clouds.get(place[1], 0) + total
    shares = {
        place: max(1, (_cloud_weight(service, place[1]) or 1) * _SHARE_SCALE * total // clouds[place[1]])
        for place, total in sums.items()
    }
    divisor = math.gcd(*shares.values())
    return {place: share // divisor for place, share in shares.items()}
