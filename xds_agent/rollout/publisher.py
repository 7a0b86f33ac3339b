"""The one place that hands snapshots to the protocol core, and hears what the nodes answer.

Event-loop thread only, as the core and its transport are.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from xds_agent.protocol.boundary import Action
from xds_agent.protocol.control import ControlCore
from xds_agent.protocol.outcomes import Acknowledged, Connected, Disconnected, NodeState, Outcome, Refused
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
    # The time of day, for people only: it may be set while a change is on its way.
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    # When each host last connected, left, answered, or was given something new.
    since: dict[str, dt.datetime] = field(init=False, default_factory=dict)
    # The same in monotonic seconds.
    _moved_at: dict[str, float] = field(init=False, default_factory=dict)
    # Hosts whose stream is open but which have said nothing for 30 s.
    silent: set[str] = field(init=False, default_factory=set)
    # Nodes that are connected to control hosts which follow this one: control host -> node -> its state.
    elsewhere: dict[str, dict[str, NodeState]] = field(init=False, default_factory=dict)
    # Called whenever something is published.
    on_publish: list[Callable[[], None]] = field(init=False, default_factory=list)
    number: int = field(init=False, default=0)
    # Whether anything ever was.
    published: bool = field(init=False, default=False)
    _carry_out: Callable[[Iterable[Action]], None] | None = field(init=False, default=None)
    _changed: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    # Who moved since each of those looked that wait for something.
    _watching: list[set[str]] = field(init=False, default_factory=list)

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
            self._moved(name)
        # A refusal stands for as long as the host is wanted to hold what it refused.
        self.refusals = {
            name: refusal
            for name, refusal in self.refusals.items()
            if name in fresh and fresh[name].revision == refusal.revision
        }
        before = self.snapshots
        self.snapshots, self.number, self.published = fresh, number, True
        actions = self.core.publish(fresh)
        self._notice(*before, *fresh)
        if self._carry_out is not None:
            self._carry_out(actions)
        for told in self.on_publish:
            told()

    def nodes(self) -> dict[str, NodeView]:
        """Every proxy of the published revision, by name."""
        return {name: self._view(name) for name in sorted(self.snapshots)}

    def connected_to(self, follower: str, name: str) -> bool:
        """Whether a node is connected to a control host that follows this one."""
        state = self.elsewhere.get(follower, {}).get(name)
        return state is not None and state.connected

    def heard_from(self, follower: str, outcome: Outcome) -> None:
        """What a node answered to a control host that follows this one."""
        states = self.elsewhere.setdefault(follower, {})
        state = states.get(outcome.node, NodeState(outcome.node))
        if isinstance(outcome, Connected):
            state = replace(state, connected=True)
        elif isinstance(outcome, Disconnected):
            state = replace(state, connected=False)
        elif isinstance(outcome, Acknowledged):
            state = replace(state, active=outcome.revision)
        states[outcome.node] = state
        self._heard(outcome)

    def lost_follower(self, follower: str) -> None:
        """It follows no more: nobody knows how its nodes are."""
        for name, state in self.elsewhere.pop(follower, {}).items():
            if state.connected:
                self._heard(Disconnected(name, f"control {follower} was lost"))

    async def settle(
        self, *, timeout_s: float, names: Collection[str] | None = None,
        grace_s: Mapping[str, float] | None = None, refusals_wanted: int = 1,
    ) -> None:  # fmt: skip
        """Wait until none of `names` (all by default) is pending, so many have refused, or time is up.

        A node in `grace_s` that is not connected is waited for that long: it may be knocking, or restarting.
        """
        start = time.monotonic()
        deadline = start + timeout_s
        until_back = {name: start + min(grace, timeout_s) for name, grace in (grace_s or {}).items()}
        watched = None if names is None else frozenset(names)
        states: dict[str, str] = {}
        with self._noticing() as moved:
            await self._settled(states, moved, watched, deadline, until_back, refusals_wanted)

    async def _settled(
        self, states: dict[str, str], moved: set[str], watched: frozenset[str] | None, deadline: float,
        until_back: Mapping[str, float], refusals_wanted: int,
    ) -> None:  # fmt: skip
        while True:
            self._changed.clear()
            now = time.monotonic()
            # Thousands answer one by one: only who moved is looked at.
            for name in moved if watched is None else moved & watched:
                if name in self.snapshots:
                    states[name] = self._view(name).state
                else:
                    states.pop(name, None)
            moved.clear()
            kinds = list(states.values())
            waits = [
                until for name, until in until_back.items() if until > now and states.get(name) == "offline"
            ]
            if now >= deadline or kinds.count("refused") >= refusals_wanted:
                return
            if "pending" in kinds:
                waits.append(deadline)
            if not waits:
                return
            await self._woken(max(waits) - now)

    async def hold(self, names: Collection[str], *, for_s: float) -> None:
        """Wait so long, or until one of `names` refuses what it is to hold."""
        deadline = time.monotonic() + for_s
        while not self.refusals.keys() & set(names):
            self._changed.clear()
            now = time.monotonic()
            if now >= deadline:
                return
            await self._woken(deadline - now)

    def newly_pending(self, within_s: float) -> list[str]:
        """Nodes not yet where they should be that connected, or were given something, only just now."""
        recent = time.monotonic() - within_s
        return [
            name for name, view in self.nodes().items()
            if view.state == "pending" and name in self._moved_at and self._moved_at[name] >= recent
        ]  # fmt: skip

    def silence(self, name: str, *, silent: bool) -> None:
        """Its stream is open and says nothing any more, or does so again."""
        if silent == (name in self.silent):
            return
        (self.silent.add if silent else self.silent.discard)(name)
        self._notice(name)

    @contextmanager
    def _noticing(self) -> Iterator[set[str]]:
        """The names of all nodes first, later of those whose state may be another."""
        moved = set(self.snapshots)
        self._watching.append(moved)
        try:
            yield moved
        finally:
            # By identity: another one may be equal.
            self._watching = [one for one in self._watching if one is not moved]

    def _notice(self, *names: str) -> None:
        for moved in self._watching:
            moved.update(names)
        self._changed.set()

    def _moved(self, name: str) -> None:
        self.since[name] = self.now()
        self._moved_at[name] = time.monotonic()

    async def _woken(self, within_s: float) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), within_s)
        except TimeoutError:
            return

    def _here_or_elsewhere(self, name: str) -> NodeState | None:
        here = self.core.node(name)
        if here is not None and here.connected:
            return here
        found = (states.get(name) for states in self.elsewhere.values())
        return next((state for state in found if state is not None and state.connected), here)

    def _view(self, name: str) -> NodeView:
        wanted, node = self.snapshots[name].revision, self._here_or_elsewhere(name)
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
        self._moved(outcome.node)
        self._notice(outcome.node)
        for listener in self.listeners:
            listener(outcome)
