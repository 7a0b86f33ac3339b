"""A refused change without what the shadow refuses of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from xds_agent.model import join_secrets
from xds_agent.rollout.change import Answer, Change
from xds_agent.rollout.skip.parts import Skipped
from xds_agent.rollout.skip.trials import Trials

if TYPE_CHECKING:
    from xds_agent.rollout.pipeline import Pipeline


async def leave_out(pipeline: Pipeline, change: Change, refused: Answer) -> tuple[Change, list[Skipped]]:
    """(the change with less in it, what is not). Raises NotFound where no part alone is to blame."""
    # It is a shadow that refused.
    assert pipeline.shadows is not None
    live = pipeline.live
    values = await asyncio.to_thread(pipeline.ledger.values, live.fingerprints) if live else {}
    old = join_secrets(live.document, values) if live else {"edge": {}}
    before = live.snapshots if live else {}
    trials = Trials(pipeline.shadows, pipeline.build, old, change.document, before)
    async with pipeline.hand.lent():
        document, skipped = await trials.run("; ".join(one.message for one in refused.problems))
    less = replace(change, document=document, skip_bad=False, force=True, skipped=tuple(skipped))
    return less, skipped
