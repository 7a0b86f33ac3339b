"""What is asked of the pipeline and what it answers: values, and the errors each HTTP status stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from xds_agent.model import Problem
from xds_agent.rollout.publisher import NodeView
from xds_agent.rollout.skip.parts import Skipped


@dataclass(frozen=True)
class Change:
    """A site document somebody wants live. `tenants` is whose edge the asker may touch; None is all."""

    document: Mapping[str, Any] = field(repr=False)
    author: str
    reason: str = ""
    commit: str = ""
    dry_run: bool = False
    allow_removal: tuple[str, ...] = ()
    # For the acknowledgements of one wave.
    timeout_s: float = 60.0
    # Try again what was refused before.
    force: bool = False
    # Leave out what the shadow refuses, and go on with the rest.
    skip_bad: bool = False
    # What was left out of `document` for that.
    skipped: tuple[Skipped, ...] = ()
    # Only what was reviewed under this name (rollout/plan.py); empty: whatever it is.
    plan: str = ""
    # How long to wait for somebody else's change to end.
    wait_s: float = 0.0
    tenants: frozenset[str] | None = None


@dataclass(frozen=True)
class Answer:
    """How it went. `outcome` is dry-run, unchanged, live or refused."""

    outcome: Literal["dry-run", "unchanged", "live", "refused"]
    revision: str
    number: int | None
    changed: bool
    lines: Sequence[Mapping[str, Any]] = ()
    summary: str = ""
    nodes: Mapping[str, NodeView] = field(default_factory=dict)
    notes: Sequence[str] = ()
    problems: Sequence[Problem] = ()
    reverted_to: int | None = None
    # Proxies that the waves did not wait for: name -> why.
    left_out: Mapping[str, str] = field(default_factory=dict)
    # Name of the way from what is live to this (rollout/plan.py).
    plan: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "revision": self.revision,
            "number": self.number,
            "changed": self.changed,
            "lines": [dict(line) for line in self.lines],
            "summary": self.summary,
            "nodes": {name: node.as_dict() for name, node in self.nodes.items()},
            "notes": list(self.notes),
            "problems": [problem.as_dict() for problem in self.problems],
            "reverted_to": self.reverted_to,
            "left_out": dict(self.left_out),
            "plan": self.plan,
        }


class Conflict(Exception):
    """The change is valid and still may not go ahead now: `remedy` says what to do, `lines` what it does."""

    def __init__(self, error: str, remedy: str, lines: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(f"{error}; {remedy}")
        self.error = error
        self.remedy = remedy
        self.lines = lines


class NotEntitled(Exception):
    """The change touches what the asker's socket does not speak for."""

    def __init__(self, error: str, remedy: str) -> None:
        super().__init__(f"{error}; {remedy}")
        self.error = error
        self.remedy = remedy
