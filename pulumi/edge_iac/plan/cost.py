"""What a site costs per month by the price book, thing by thing, without traffic."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from edge_iac.catalogue import prices
from edge_iac.plan.model import Plan, Region


@dataclass(frozen=True, slots=True)
class Cost:
    """A line of the estimate."""

    cloud: str
    region: str
    what: str
    count: int
    usd_per_month: float
    """Of all of them."""


def costs_of(plan: Plan) -> tuple[Cost, ...]:
    """Every line of the estimate, region by region."""
    return tuple(cost for region in plan.regions for cost in _of_region(region))


def total_usd(costs: tuple[Cost, ...]) -> float:
    """USD per month of all lines."""
    return round(sum(cost.usd_per_month for cost in costs), 2)


def _of_region(region: Region) -> list[Cost]:
    cloud, month = region.cloud, prices.HOURS_PER_MONTH
    found: list[Cost] = []

    def add(what: str, count: int, each_usd: float) -> None:
        if count:
            found.append(Cost(cloud, region.name, what, count, round(count * each_usd, 2)))

    kinds = Counter((host.pool, host.instance.name) for host in region.hosts)
    for (pool, kind), count in sorted(kinds.items()):
        hourly = prices.instance_usd_per_hour(cloud, region.name, kind)
        add(f"{pool} ({kind})", count, hourly * month)
    disk_gb = sum(host.disk_gb for host in region.hosts)
    add("disk GB", disk_gb, prices.DISK_USD_PER_GB_MONTH[cloud])
    add("public addresses", _addresses(region), prices.ADDRESS_USD_PER_HOUR[cloud] * month)
    add("load balancer", int(region.front), prices.BALANCER_USD_PER_HOUR[cloud] * month)
    add("NAT", _nats(region), prices.NAT_USD_PER_HOUR[cloud] * month)
    return found


def _used_inner(region: Region) -> int:
    return sum(1 for subnet in region.in_tier("inner") if subnet.name in region.used_subnets)


def _addresses(region: Region) -> int:
    hosts = sum(1 for host in region.hosts if host.public)
    gateways = _used_inner(region) if region.cloud != "gcp" else 0
    return hosts + len(region.idle) + len(region.vips) + gateways


def _nats(region: Region) -> int:
    if region.cloud == "gcp":
        return sum(1 for host in region.hosts if not host.public)
    return _used_inner(region)
