"""NodeBook: what control remembers of every node the live revision holds, across streams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from xds_agent.protocol.outcomes import NodeState


class NodeBook:
    """NodeState by name."""

    def __init__(self) -> None:
        self._states: dict[str, NodeState] = {}
        # Pending since a moment whose time is not known yet.
        self._undated: set[str] = set()

    def states(self) -> dict[str, NodeState]:
        return dict(self._states)

    def publish(self, wanted: Mapping[str, str]) -> None:
        """Take node -> revision id; nodes that are missing are forgotten."""
        for name in self._states.keys() - wanted.keys():
            del self._states[name]
        for name, revision in wanted.items():
            before = self._states.get(name, NodeState(name))
            if before.wanted != revision:
                self._states[name] = self._pending(replace(before, wanted=revision))
            elif name not in self._states:
                self._states[name] = before

    def connected(self, name: str, yes: bool) -> None:
        if name in self._states:
            self._states[name] = replace(self._states[name], connected=yes)

    def sent(self, name: str, revision: str) -> None:
        if name in self._states:
            self._states[name] = replace(self._states[name], in_flight=revision)

    def acknowledged(self, name: str, revision: str) -> None:
        if name in self._states:
            state = replace(self._states[name], active=revision, in_flight="", last_error="")
            self._states[name] = self._pending(state)

    def refused(self, name: str, words: str) -> None:
        if name in self._states:
            self._states[name] = replace(
                self._states[name], in_flight="", last_error=words, pending_since=None
            )
            self._undated.discard(name)

    def lost(self, name: str) -> None:
        """The stream that carried it is gone, whatever was in flight on it."""
        if name in self._states:
            self._states[name] = replace(self._states[name], connected=False, in_flight="")

    @property
    def needs_time(self) -> bool:
        return bool(self._undated)

    def date(self, now: float) -> None:
        """`now` is when what became pending since the last call did so."""
        for name in self._undated & self._states.keys():
            self._states[name] = replace(self._states[name], pending_since=now)
        self._undated.clear()

    def names(self) -> Iterable[str]:
        return self._states.keys()

    def _pending(self, state: NodeState) -> NodeState:
        if state.active == state.wanted:
            self._undated.discard(state.name)
            return replace(state, pending_since=None)
        if state.pending_since is None:
            self._undated.add(state.name)
        return state
