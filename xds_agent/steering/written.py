"""Decisions as plain values for the store, and back. Infinite times become None, which JSON knows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from xds_agent.steering.deciding import Kept
from xds_agent.steering.values import Placed, Placement, Standing
from xds_agent.steering.world import Region


def written(kept: Kept) -> dict[str, Any]:
    """All that the next decision, and whoever asks why, must know of this one."""
    made = kept.placement
    return {
        "placed": [[*one.region, one.priority, one.weight, one.share, one.reason] for one in made.placed],
        "left_out": [[*region, why] for region, why in made.left_out],
        "notes": list(made.notes),
        "plan": [[[*region, weight] for region, weight in tier] for tier in made.plan],
        "standings": [[*region, one.up, _finite(one.since_s)] for region, one in made.standings],
        "challenged_since_s": made.challenged_since_s,
        "moved_s": _finite(made.moved_s),
    }


def read(value: Mapping[str, Any], *, since_s: float, reason: str) -> Kept:
    """Raises KeyError, TypeError or ValueError for what `written` never wrote."""
    placed = tuple(
        Placed(Region(cloud, region), priority, weight, share, why)
        for cloud, region, priority, weight, share, why in value["placed"]
    )
    made = Placement(
        placed=placed,
        left_out=tuple((Region(cloud, region), why) for cloud, region, why in value["left_out"]),
        notes=tuple(value["notes"]),
        plan=tuple(
            tuple((Region(cloud, region), weight) for cloud, region, weight in tier) for tier in value["plan"]
        ),
        standings=tuple(
            (Region(cloud, region), Standing(up, _infinite(since)))
            for cloud, region, up, since in value["standings"]
        ),
        challenged_since_s=value["challenged_since_s"],
        moved_s=_infinite(value["moved_s"]),
    )
    return Kept(made, since_s, reason, tuple((one.region, one.priority, one.weight) for one in placed))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _infinite(value: float | None) -> float:
    return -math.inf if value is None else float(value)
