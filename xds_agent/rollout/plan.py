"""A reviewed change: what is live without secrets, for review elsewhere, and the name of a plan. Pure.

A plan is named by what it starts from and what it leads to, so that whoever applies it gets what was reviewed
or a refusal that says which of the two has moved. The values of secrets are no part of the name, since nobody
can review them; where they stand is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xds_agent.rollout.build import Live
from xds_agent.rollout.change import Conflict
from xds_agent.store.revisions import CONTENT, content_id

FORMAT = "marchproxy-live/1"
NOTHING = "0" * 16


def plan_of(live: Mapping[str, Any] | None, new: Mapping[str, Any]) -> str:
    """Name of the way from one document to another; both hold references in place of secrets."""
    return f"{_name(live) if live is not None else NOTHING}-{_name(new)}"


def check_plan(reviewed: str, actual: str, live: Live | None) -> None:
    """Raises Conflict when this is not what was reviewed."""
    if reviewed in ("", actual):
        return
    start, dash, end = reviewed.partition("-")
    now_start, _, now_end = actual.partition("-")
    if end == now_end == now_start:
        # It is live already.
        return
    if not dash or len(reviewed) != len(actual):
        raise Conflict(
            f"{reviewed} is no plan", "take it from --check, or from xds-agent diff --against live.json"
        )
    moved = []
    if start != now_start:
        number = f" (revision {live.number} now)" if live is not None else ""
        moved.append(f"what is live has moved{number}")
    if end != now_end:
        moved.append("the inventory has moved")
    raise Conflict(
        f"this is not the plan that was reviewed: {' and '.join(moved)}",
        f"review it again with --check --diff; it is plan {actual} now",
    )


def export(live: Live) -> dict[str, Any]:
    """What is live, with references in place of secrets, and its files and lines: live.json."""
    document = {key: live.document.get(key) for key in (*CONTENT, "secret_paths")}
    document["origins"] = dict(live.document.get("origins") or {})
    return {"format": FORMAT, "number": live.number, "name": _name(live.document), "document": document}


def stand_in(reference: str) -> str:
    """What stands where a secret is that nobody here knows; the same for the same place."""
    return f"$secret:{reference}"


def _name(document: Mapping[str, Any]) -> str:
    return content_id(document, {})
