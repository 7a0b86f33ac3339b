"""Placements in the database: what was decided last, for control that starts again."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection, Mapping

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from xds_agent.steering.deciding import Decisions, Kept, Seat
from xds_agent.steering.world import Region
from xds_agent.steering.written import read, written
from xds_agent.store.schema import PlacementRow

log = logging.getLogger(__name__)


def keep(session: Session, changed: Mapping[Seat, Kept], gone: Collection[Seat]) -> None:
    """Write these, and forget those that are gone."""
    for (place, service), kept in changed.items():
        key = {"cloud": place.cloud, "region": place.region, "service": service}
        row = session.get(PlacementRow, key)
        since = dt.datetime.fromtimestamp(kept.since_s, dt.UTC)
        if row is None:
            row = PlacementRow(**key, placement=written(kept), since=since, reason=kept.reason)
            session.add(row)
        else:
            row.placement, row.since, row.reason = written(kept), since, kept.reason
    for place, service in gone:
        session.execute(
            delete(PlacementRow).where(
                PlacementRow.cloud == place.cloud,
                PlacementRow.region == place.region,
                PlacementRow.service == service,
            )
        )


def load(session: Session) -> Decisions:
    """Everything kept. What this version cannot read is left out, and decided anew."""
    found: dict[Region, dict[str, Kept]] = {}
    for row in session.scalars(select(PlacementRow)):
        try:
            kept = read(row.placement, since_s=row.since.timestamp(), reason=row.reason)
        except (KeyError, TypeError, ValueError) as error:
            log.error(
                "placement of %s in %s %s cannot be read: %r", row.service, row.cloud, row.region, error
            )
            continue
        found.setdefault(Region(row.cloud, row.region), {})[row.service] = kept
    return found
