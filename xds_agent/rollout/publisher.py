"""The one place that hands snapshots to the protocol core, and hears what the nodes answer.

Event-loop thread only, as the core and its transport are.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from xds_agent.protocol.boundary import Action
from xds_agent.protocol.control import ControlCore
from xds_agent.protocol.outcomes import Acknowledged, NodeState, Outcome, Refused
from xds_agent.snapshot.resource import Snapshot

Listener = Callable[[Outcome], None]


@dataclass(frozen=True)
class NodeView:
    """How one proxy stands to the revision that was published last."""

    state: str  # active | pending | refused | offline
    revision: str
    error: str = ""

    def as_dict(self) -> dict[str, str]:
        return {"state": self.state, "revision": self.revision, "error": self.error}


@dataclass
class Publisher:
    """Publishes to the core and carries its actions to the transport once there is one."""

    core: ControlCore = field(init=False)
    snapshots: Mapping[str, Snapshot] = field(init=False, default_factory=dict)
    listeners: list[Listener] = field(default_factory=list)
    # Refusals of what is published now: host -> what it said.
    refusals: dict[str, Refused] = field(init=False, default_factory=dict)
    # When what a host has not acknowledged yet was published (monotonic seconds).
    published_at: dict[str, float] = field(init=False, default_factory=dict)
    # When each host last connected, left, answered, or was given something new.
    since: dict[str, dt.datetime] = field(init=False, default_factory=dict)
    # Hosts whose stream is open but which have said nothing for 30 s.
    silent: set[str] = field(init=False, default_factory=set)
    _carry_out: Callable[[Iterable[Action]], None] | None = field(init=False, default=None)
    _changed: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.core = ControlCore(on_outcome=self._heard)

    def attach(self, carry_out: Callable[[Iterable[Action]], None]) -> None:
        """From now on actions go to this transport."""
        self._carry_out = carry_out

    def publish(self, snapshots: Mapping[str, Snapshot], number: int) -> None:
        """Make `snapshots` what each named host is to hold; hosts not named are orphans."""
        fresh: dict[str, Snapshot] = {}
        shared: dict[int, Snapshot] = {}
        now = time.monotonic()
        for name, snapshot in snapshots.items():
            current = self.snapshots.get(name)
            if current is not None and current.revision == snapshot.revision:
                fresh[name] = current
                continue
            # Hosts of one view go on sharing one object, hence one encoding.
            fresh[name] = shared.setdefault(id(snapshot), replace(snapshot, number=number))
            self.published_at[name] = now
            self.since[name] = dt.datetime.now(dt.UTC)
        self.snapshots = fresh
        self.refusals = {}
        actions = self.core.publish(fresh)
        self._changed.set()
        if self._carry_out is not None:
            self._carry_out(actions)

    def nodes(self) -> dict[str, NodeView]:
        """Every proxy of the published revision, by name."""
        known = self.core.nodes()
        return {
            name: self._view(name, snapshot.revision, known.get(name))
            for name, snapshot in sorted(self.snapshots.items())
        }

    async def settle(self, *, timeout_s: float, expected: Iterable[str] = (), grace_s: float = 0.0) -> None:
        """Wait until no connected node is pending, one has refused, or time is up.

        Nodes in `expected` that are not connected are waited for during `grace_s`: a host that is new to the
        site has been knocking and comes within its back-off.
        """
        start = time.monotonic()
        deadline, grace = start + timeout_s, start + min(grace_s, timeout_s)
        newcomers = set(expected)
        while not self.refusals:
            self._changed.clear()
            now = time.monotonic()
            states = {name: view.state for name, view in self.nodes().items()}
            pending = any(state == "pending" for state in states.values())
            awaited = now < grace and any(states.get(name) == "offline" for name in newcomers)
            if now >= deadline or not (pending or awaited):
                return
            until = deadline if pending and not awaited else min(grace, deadline)
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, until - now))
            except TimeoutError:
                continue

    def _view(self, name: str, wanted: str, node: NodeState | None) -> NodeView:
        refusal = self.refusals.get(name)
        active = node.active if node is not None else ""
        if refusal is not None:
            return NodeView("refused", active, refusal.words)
        if node is None or not node.connected or name in self.silent:
            return NodeView("offline", active)
        return NodeView("active" if active == wanted else "pending", active)

    def _heard(self, outcome: Outcome) -> None:
        if isinstance(outcome, Refused):
            snapshot = self.snapshots.get(outcome.node)
            if snapshot is not None and snapshot.revision == outcome.revision:
                self.refusals[outcome.node] = outcome
        elif isinstance(outcome, Acknowledged):
            snapshot = self.snapshots.get(outcome.node)
            if snapshot is not None and snapshot.revision == outcome.revision:
                self.refusals.pop(outcome.node, None)
        self.since[outcome.node] = dt.datetime.now(dt.UTC)
        self._changed.set()
        for listener in self.listeners:
            listener(outcome)
