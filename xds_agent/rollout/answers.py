"""What is said of a change when it ends, or of what it would do. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from xds_agent.model import Problem
from xds_agent.rollout import material
from xds_agent.rollout.build import Built, Live
from xds_agent.rollout.change import Answer
from xds_agent.rollout.publisher import NodeView
from xds_agent.rollout.release import OFFLINE, Release
from xds_agent.rollout.waves import WavePlan

Views = Mapping[str, NodeView]


def dry(built: Built, plan: WavePlan, opened: Sequence[dict[str, object]], name: str, nodes: Views) -> Answer:
    """What the change would do; `opened` counts the connections it would close, `name` is the plan's."""
    return Answer(
        outcome="dry-run", revision=built.id, number=None, changed=True, lines=[*built.lines, *opened],
        summary=built.summary, nodes=nodes, notes=_notes(built) + _plan_notes(plan), plan=name,
    )  # fmt: skip


def unchanged(built: Built, live: Live, nodes: Views, plan: str = "") -> Answer:
    """The document is live already."""
    behind = [live.behind.words] if live.behind is not None else []
    return Answer(
        outcome="unchanged", revision=live.id, number=live.number, changed=False,
        summary="nothing changes", nodes=nodes, notes=_notes(built) + behind, plan=plan,
    )  # fmt: skip


def live(built: Built, number: int, plan: WavePlan, release: Release, nodes: Views) -> Answer:
    """Every wave holds it."""
    tolerated = [f"{words}; tolerated (rollout.tolerate)" for words in release.tolerated.values()]
    return Answer(
        outcome="live", revision=built.id, number=number, changed=True, lines=built.lines,
        summary=built.summary, nodes=nodes,
        notes=_notes(built) + _plan_notes(plan) + tolerated + release.notes,
        left_out={**plan.left_out, **release.tolerated},
    )  # fmt: skip


def refused(
    built: Built, number: int, before: Live | None, problems: Sequence[Problem], nodes: Views
) -> Answer:
    """It was refused; `before` is what is live again."""
    return Answer(
        outcome="refused", revision=before.id if before else "", number=number, changed=False,
        lines=built.lines, summary=built.summary, nodes=nodes, notes=_notes(built),
        problems=list(problems), reverted_to=before.number if before else None,
    )  # fmt: skip


def _notes(built: Built) -> list[str]:
    return [note.render() for note in built.site.not_acted_on] + material.stand_in_notes(built.prepared)


def _plan_notes(plan: WavePlan) -> list[str]:
    """The plan for people, without who is offline: every answer says that of its own."""
    told = {name: why for name, why in plan.left_out.items() if why != OFFLINE}
    return replace(plan, left_out=told).lines()
