"""Maintenance for the moment: windows that a person opens and closes, beside those of the inventory."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from xds_agent.compile.maintenance import drained
from xds_agent.model import Maintenance, Problem, Site
from xds_agent.rollout.change import Conflict
from xds_agent.store import audit, windows

if TYPE_CHECKING:
    from xds_agent.rollout.pipeline import Pipeline


_AGAIN = "control tries again within minutes, without who refused"


class Windows:
    """`load` before anything is published; `open` and `close` return once connected proxies follow."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._by_name: dict[str, Maintenance] = {}

    @property
    def named(self) -> Mapping[str, Maintenance]:
        """Windows that are not over, by name."""
        now = self._pipeline.now()
        return {name: one for name, one in self._by_name.items() if now < one.until}

    async def load(self) -> None:
        def read() -> dict[str, dict[str, Any]]:
            with self._pipeline.store.read() as session:
                return windows.load(session)

        stored = await asyncio.to_thread(read)
        self._by_name = {name: Maintenance.model_validate(one) for name, one in stored.items()}
        self._use()

    async def open(self, given: Mapping[str, Any], author: str) -> str:
        """Open a window; its name. Raises Conflict for one that makes no sense or that would leave services
        without any endpoint, whom it names."""
        pipeline = self._pipeline
        live = pipeline.live
        if live is None:
            raise Conflict("nothing is live yet", "run playbooks/routes.yml first")
        try:
            window = Maintenance.model_validate(given)
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise Conflict(f"this is no window: {faults}", "see `xds-agent evacuate --help`") from error
        if window.until <= pipeline.now():
            raise Conflict(
                f"it would be over already ({window.until:%Y-%m-%d %H:%M} UTC)", "give a later end"
            )
        _check_names(live.site, window)
        others = [one for one in live.site.edge.maintenance if one is not self._by_name.get(name_of(window))]
        lonely = [one.message for one in left_alone(live.site, [*others, window], pipeline.now(), of=window)]
        if lonely:
            raise Conflict("; ".join(lonely), "move them first, or except them: --allow-outage NAME")
        name = name_of(window)
        await self._change(name, window, author, f"{author} evacuates {name}: {window.reason}")
        return name

    async def close(self, name: str, author: str) -> None:
        """End it now. Raises Conflict when there is no such window."""
        if name not in self.named:
            names = ", ".join(self.named) or "none"
            raise Conflict(f"there is no window {name} opened by hand", f"open are: {names}")
        await self._change(name, None, author, f"{author} ends the maintenance of {name}")

    async def _change(self, name: str, window: Maintenance | None, author: str, reason: str) -> None:
        def write() -> None:
            now = self._pipeline.now()
            with self._pipeline.store.write() as session:
                self._pipeline.ledger.fence(session)
                detail: dict[str, Any] = {}
                if window is None:
                    windows.remove(session, name)
                else:
                    detail = window.model_dump(mode="json", exclude_none=True)
                    windows.put(session, name, detail, author=author, now=now)
                action = "maintenance.opened" if window is not None else "maintenance.closed"
                audit.append(session, actor=author, action=action, subject=name, detail=detail, now=now)

        await asyncio.to_thread(write)
        if window is None:
            self._by_name.pop(name, None)
        else:
            self._by_name[name] = window
        self._use()
        await self._pipeline.updates.refresh(reason)
        if refused := self._pipeline.updates.refused:
            raise Conflict(f"it is noted, and proxies do not follow yet: {refused}", _AGAIN)

    def _use(self) -> None:
        self._pipeline.builder.windows = tuple(self._by_name.values())


def name_of(window: Maintenance) -> str:
    """What it takes out, which is its name: `cloud=gcp`, `host=backend-aws1`, `cloud=aws,zone=us-east-1a`."""
    parts = (("cloud", window.cloud), ("region", window.region), ("zone", window.zone), ("host", window.host))
    return ",".join(f"{key}={value}" for key, value in parts if value is not None)


def joined(site: Site, by_hand: Iterable[Maintenance], now: dt.datetime) -> Site:
    """The site with windows opened by hand beside its own."""
    more = tuple(one for one in by_hand if now < one.until)
    if not more:
        return site
    edge = site.edge.model_copy(update={"maintenance": (*site.edge.maintenance, *more)})
    return dataclasses.replace(site, edge=edge)


def left_alone(
    site: Site, open_: Iterable[Maintenance], now: dt.datetime, of: Maintenance | None = None
) -> Iterator[Problem]:
    """Services with no endpoint left while these windows are open, and which no window excepts.

    `of`: only those that this window touches.
    """
    found = [one for one in open_ if now < one.until]
    excepted = {name for one in found for name in one.allow_outage}
    for service in site.edge.services:
        endpoints = [one for one in site.endpoints_of(service) if one.weight]
        if not endpoints or service.name in excepted:
            continue
        left = [one for one in endpoints if not drained(one, found)]
        mine = of is None or any(drained(one, (of,)) for one in endpoints)
        if not left and mine:
            words = f"service {service.name} would have no endpoint left"
            yield Problem("maintenance", words, f"except it: allow_outage: [{service.name}]")


def _check_names(site: Site, window: Maintenance) -> None:
    """What nobody stands in cannot be drained: a misspelled name must not look like success."""
    if not name_of(window):
        raise Conflict("the window names nothing", "give a cloud, region, zone or host")
    endpoints = [one for service in site.edge.services for one in site.endpoints_of(service)]
    if not any(drained(one, (window,)) for one in endpoints):
        clouds = ", ".join(sorted({one.cloud for one in endpoints if one.cloud})) or "none"
        raise Conflict(f"no endpoint stands in {name_of(window)}", f"clouds with endpoints are: {clouds}")
