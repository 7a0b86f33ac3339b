"""What does not change while traffic flows: where regions are, and what a gigabyte between them costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import NamedTuple

from xds_agent.steering.regions import REGIONS

EARTH_RADIUS_KM = 6371.0
KM_PER_MS = 100.0
"""Light in fibre covers 100 km there and back in a millisecond. Real paths bend, so this is a lower bound."""


class Region(NamedTuple):
    """Where something stands. Empty texts: not said."""

    cloud: str
    region: str = ""

    def __str__(self) -> str:
        return f"{self.cloud} {self.region}".strip() or "no cloud"


@dataclass(frozen=True, slots=True)
class Fees:
    """Price of what leaves a region, in US dollars a gigabyte."""

    out_usd: float | None = None
    """To other clouds, and to the internet."""
    between_usd: float | None = None
    """To another region of the same cloud; None: as `out_usd`."""


@dataclass(frozen=True)
class World:
    """Geography and prices of one site."""

    places: Mapping[Region, tuple[float, float]] = field(default_factory=lambda: MappingProxyType({}))
    """(degrees north, degrees east) of regions the site places itself; they go before the known ones."""
    fees: Mapping[Region, Fees] = field(default_factory=lambda: MappingProxyType({}))

    def place(self, region: Region) -> tuple[float, float] | None:
        """Coordinates; None for a region nobody knows."""
        own = self.places.get(region)
        return own if own is not None else REGIONS.get(region.cloud, {}).get(region.region)

    def distance_km(self, one: Region, other: Region) -> float | None:
        """Great-circle distance; None when one of them is not known. A region is 0 km from itself."""
        # Asked for by every decision, of the same few pairs.
        found = self._distances_km.get((one, other), -1.0)
        if found is None or found >= 0.0:
            return found
        left, right = self.place(one), self.place(other)
        if one == other and one.cloud:
            found = 0.0
        else:
            found = None if left is None or right is None else great_circle_km(left, right)
        self._distances_km[one, other] = found
        return found

    @cached_property
    def _distances_km(self) -> dict[tuple[Region, Region], float | None]:
        return {}

    def usd_per_gb(self, origin: Region, target: Region) -> float | None:
        """Price of a gigabyte from `origin` to `target`; within a region nothing, None when not known."""
        if origin == target and origin.cloud:
            return 0.0
        fees = self.fees.get(origin) or self.fees.get(Region(origin.cloud))
        if fees is None:
            return None
        if origin.cloud == target.cloud and fees.between_usd is not None:
            return fees.between_usd
        return fees.out_usd


@lru_cache(maxsize=65_536)
def great_circle_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Distance over the surface of the earth (as a sphere: within 0.6 %), by the haversine formula."""
    north1, east1, north2, east2 = map(math.radians, (*one, *other))
    half = (
        math.sin((north2 - north1) / 2) ** 2
        + math.cos(north1) * math.cos(north2) * math.sin((east2 - east1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(half)))


def least_rtt_ms(distance_km: float) -> float:
    """Round trip that distance alone costs: what is believed until something has been measured."""
    return distance_km / KM_PER_MS
