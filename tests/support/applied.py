"""Changes applied to a pipeline of the unit tests, and what came of them."""

from __future__ import annotations

import copy
from typing import Any

from xds_agent.rollout.change import Change
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.store import revisions


def change(document: dict[str, Any], **more: Any) -> Change:
    return Change(document=document, author="ada", timeout_s=5.0, **more)


def edited(document: dict[str, Any]) -> dict[str, Any]:
    """The same site with another port of its first endpoint."""
    new = copy.deepcopy(document)
    new["edge"]["services"][0]["endpoints"][0]["port"] = 9090
    return new


def history(pipeline: Pipeline) -> list[tuple[int, str]]:
    """(number, outcome) of every revision, oldest first."""
    with pipeline.store.read() as session:
        return [(row.number, row.outcome) for row in reversed(revisions.history(session))]


async def settled(pipeline: Pipeline) -> dict[str, str]:
    """Node -> its state, once none is on its way."""
    await pipeline.publisher.settle(timeout_s=5.0)
    return {name: view.state for name, view in pipeline.publisher.nodes().items()}
