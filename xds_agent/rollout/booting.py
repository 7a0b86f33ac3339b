"""The live revision after a start: compiled again from what is stored, and served as proxies hold it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from xds_agent.model import join_secrets
from xds_agent.rollout.build import Live
from xds_agent.rollout.remade import as_held
from xds_agent.store import SealError, StoreError
from xds_agent.store.revisions import Stored

if TYPE_CHECKING:
    from xds_agent.rollout.pipeline import Pipeline

log = logging.getLogger(__name__)


async def served_again(pipeline: Pipeline, stored: Stored, *, leading: bool) -> Live:
    """What is live by this stored revision. Raises whatever keeps it from being compiled, and StoreError."""
    values = await asyncio.to_thread(pipeline.ledger.values, stored.fingerprints)
    built = await pipeline.build(join_secrets(stored.document, values), serving=True)
    if built.prepared.issued and leading:
        await asyncio.to_thread(pipeline.ledger.keep_certificates, built.prepared.issued)
    live = replace(built.live(stored.number), id=stored.id)
    try:
        return await _as_held(pipeline, live, leading=leading)
    except (SealError, ValueError) as error:
        # Damaged rows stay so; a database that only does not answer now is another thing, and raised.
        log.error("what proxies hold is not known, they get what this version makes of it: %s", error)
        return live


async def _as_held(pipeline: Pipeline, live: Live, *, leading: bool) -> Live:
    """A newer compiler's bytes reach proxies in waves, and not because control was started again."""
    ledger, compiler = pipeline.ledger, pipeline.compiler
    about = await asyncio.to_thread(ledger.served_by)
    if about is not None and about.number != live.number:
        # Written by a version that keeps no such thing.
        about = None
    if about is not None and about.compiler == compiler:
        return live
    if about is not None:
        live = as_held(live, about, await asyncio.to_thread(ledger.served), compiler)
    if leading and live.behind is None:
        try:
            await asyncio.to_thread(ledger.keep_served, live.number, compiler, live.snapshots)
        except StoreError as error:
            log.error("what proxies hold is not written down, the next change does it: %s", error)
    return live
