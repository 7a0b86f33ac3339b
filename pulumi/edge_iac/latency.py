"""Which region of the cloud that keeps the DNS stands for a place of any cloud."""

from __future__ import annotations

from collections.abc import Iterable

from edge_iac.catalogue.regions import ZONES
from xds_agent.steering.regions import REGIONS
from xds_agent.steering.world import great_circle_km

Place = tuple[str, str]
"""(cloud, region)."""


def aws_regions_for(places: Iterable[Place]) -> dict[Place, str]:
    """Place -> region of AWS: itself, else the nearest that no other place has (Route 53 takes each once)."""
    return _nearest("aws", places)


def gcp_regions_for(places: Iterable[Place]) -> dict[Place, str]:
    """Place -> region of Google Cloud, likewise."""
    return _nearest("gcp", places)


def _nearest(keeper: str, places: Iterable[Place]) -> dict[Place, str]:
    taken: dict[Place, str] = {}
    known = [one for one in ZONES[keeper] if one in REGIONS[keeper]]
    for cloud, region in sorted(set(places), key=lambda place: (place[0] != keeper, place)):
        if cloud == keeper:
            taken[cloud, region] = region
            continue
        here = REGIONS[cloud][region]
        free = [one for one in known if one not in taken.values()]
        taken[cloud, region] = min(free, key=lambda one: (great_circle_km(here, REGIONS[keeper][one]), one))
    return taken


def azure_regions_for(places: Iterable[Place]) -> dict[Place, str]:
    """Place -> region of Azure, likewise."""
    return _nearest("azure", places)
