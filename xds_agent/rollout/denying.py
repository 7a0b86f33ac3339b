"""`xds-agent deny`: a network shut out at once, beside the inventory and for a time."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress

from xds_agent.model.checks.datapath import whom_it_shuts_out
from xds_agent.rollout.change import Conflict
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.store import audit, denials
from xds_agent.store.denials import Denial

_AGAIN = "run it again: who refused is left out then"


async def deny(pipeline: Pipeline, denial: Denial, *, force: bool) -> tuple[str, Denial | None]:
    """Shut a network out. Returns its canonical form, and what was in force for it before.

    Raises Conflict with the remedy, StoreError."""
    live = pipeline.live
    if live is None:
        raise Conflict("nothing is live yet", "run playbooks/routes.yml first")
    if not live.site.datapath_hosts:
        raise Conflict(
            "no host has a datapath, so nothing would be denied", "give hosts of group l4 xdp_interfaces"
        )
    network = _network(denial.network)
    inside = whom_it_shuts_out(live.site.edge, live.site.hosts, network)
    if inside and not force:
        raise Conflict(f"{network} {inside}", "deny less, or insist with --force")
    kept = Denial(str(network), denial.until, denial.author, denial.reason)
    before = await asyncio.to_thread(_keep, pipeline, kept)
    until = f"{denial.until:%Y-%m-%d %H:%M:%S} UTC"
    await pipeline.updates.refresh(
        f"{network} is denied by hand until {until} by {denial.author}: {denial.reason}"
    )
    if pipeline.updates.refused:
        raise Conflict(f"{network} is noted and not denied yet: {pipeline.updates.refused}", _AGAIN)
    return str(network), before


async def lift(pipeline: Pipeline, written: str, author: str) -> bool:
    """End a denial before its time; whether there was one. Raises Conflict, StoreError."""
    network = str(_network(written))

    def gone() -> bool:
        with pipeline.store.write() as session:
            pipeline.ledger.fence(session)
            found = denials.lift(session, network)
            if found:
                audit.append(
                    session, actor=author, action="denial.lift", subject=network, detail={},
                    now=pipeline.now(),
                )  # fmt: skip
            return found

    found = await asyncio.to_thread(gone)
    if found:
        await pipeline.updates.refresh(f"{network} is no longer denied by hand: lifted by {author}")
    return found


async def listed(pipeline: Pipeline) -> list[dict[str, str]]:
    """What is denied by hand now: drift from the inventory."""

    def read() -> list[Denial]:
        with pipeline.store.read() as session:
            return denials.current(session, pipeline.now())

    return [
        {"network": one.network, "until": one.until.isoformat(timespec="seconds"), "author": one.author,
         "reason": one.reason}
        for one in await asyncio.to_thread(read)
    ]  # fmt: skip


def forget_ended(pipeline: Pipeline, now: dt.datetime) -> bool:
    """Whether some were over; hosts have let them go by themselves. Blocks; raises StoreError."""
    with pipeline.store.read() as session:
        if not denials.ended(session, now):
            return False
    with pipeline.store.write() as session:
        for network in denials.forget_ended(session, now):
            audit.append(session, actor="control", action="denial.end", subject=network, detail={}, now=now)
    return True


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise Conflict(f"{text} is no network", "write it as 203.0.113.0/24") from error


def _keep(pipeline: Pipeline, denial: Denial) -> Denial | None:
    """What it replaces."""
    with pipeline.store.write() as session:
        pipeline.ledger.fence(session)
        current = {one.network: one for one in denials.current(session, pipeline.now())}
        denials.put(session, denial)
        detail = {"until": denial.until.isoformat(timespec="seconds"), "reason": denial.reason}
        audit.append(
            session, actor=denial.author, action="denial.add", subject=denial.network, detail=detail,
            now=pipeline.now(),
        )  # fmt: skip
    return current.get(denial.network)
