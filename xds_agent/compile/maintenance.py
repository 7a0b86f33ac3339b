"""Maintenance windows: which endpoints are drained at a given time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from xds_agent.model import Maintenance, ResolvedEndpoint, Site

Windows = tuple[Maintenance, ...]


def active(site: Site, now: datetime | None) -> Windows:
    """Windows that are open at `now` (with its time zone); none when no time is given."""
    if now is None:
        return ()
    return tuple(
        one for one in site.edge.maintenance if (one.since is None or one.since <= now) and now < one.until
    )


def next_change(site: Site, now: datetime) -> datetime | None:
    """When a window next opens or closes, so that the site is compiled again; None when never."""
    edges = [edge for one in site.edge.maintenance for edge in (one.since, one.until) if edge is not None]
    return min((edge for edge in edges if edge > now), default=None)


def drained(endpoint: ResolvedEndpoint, windows: Sequence[Maintenance]) -> bool:
    """True when a window names what the endpoint is in: all that a window names must hold."""
    return any(_names(one, endpoint) for one in windows)


def _names(window: Maintenance, endpoint: ResolvedEndpoint) -> bool:
    wanted = (
        (window.cloud, endpoint.cloud),
        (window.region, endpoint.region),
        (window.zone, endpoint.zone),
        (window.host, endpoint.host),
    )
    named = [(name, is_) for name, is_ in wanted if name is not None]
    return bool(named) and all(name == is_ for name, is_ in named)
