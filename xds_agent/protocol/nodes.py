"""NodeBook: what control remembers of every node the live revision holds, across streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xds_agent.protocol.outcomes import NodeState


@dataclass(slots=True)
class _Record:
    """A NodeState as it is written: thousands change with every revision."""

    connected: bool = False
    wanted: str = ""
    active: str = ""
    in_flight: str = ""
    pending_since: float | None = None
    last_error: str = ""

    def state(self, name: str) -> NodeState:
        return NodeState(
            name,
            self.connected,
            self.wanted,
            self.active,
            self.in_flight,
            self.pending_since,
            self.last_error,
        )


class NodeBook:
    """NodeState by name."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        # Pending since a moment whose time is not known yet.
        self._undated: set[str] = set()

    def states(self) -> dict[str, NodeState]:
        return {name: record.state(name) for name, record in self._records.items()}

    def state(self, name: str) -> NodeState | None:
        """Of one node, None when the live revision holds no such node."""
        record = self._records.get(name)
        return None if record is None else record.state(name)

    def publish(self, wanted: Mapping[str, str]) -> None:
        """Take node -> revision id; nodes that are missing are forgotten."""
        records = self._records
        for name in records.keys() - wanted.keys():
            del records[name]
        for name, revision in wanted.items():
            record = records.get(name)
            if record is None:
                record = records[name] = _Record()
            if record.wanted != revision:
                record.wanted = revision
                self._look(name, record)

    def connected(self, name: str, yes: bool) -> None:
        if (record := self._records.get(name)) is not None:
            record.connected = yes

    def sent(self, name: str, revision: str) -> None:
        if (record := self._records.get(name)) is not None:
            record.in_flight = revision

    def acknowledged(self, name: str, revision: str) -> None:
        if (record := self._records.get(name)) is not None:
            record.active, record.in_flight, record.last_error = revision, "", ""
            self._look(name, record)

    def refused(self, name: str, words: str) -> None:
        if (record := self._records.get(name)) is not None:
            record.in_flight, record.last_error, record.pending_since = "", words, None
            self._undated.discard(name)

    def lost(self, name: str) -> None:
        """The stream that carried it is gone, whatever was in flight on it."""
        if (record := self._records.get(name)) is not None:
            record.connected, record.in_flight = False, ""

    @property
    def needs_time(self) -> bool:
        return bool(self._undated)

    def date(self, now: float) -> None:
        """`now` is when what became pending since the last call did so."""
        for name in self._undated & self._records.keys():
            self._records[name].pending_since = now
        self._undated.clear()

    def _look(self, name: str, record: _Record) -> None:
        """Whether it is pending, and since when."""
        if record.active == record.wanted:
            record.pending_since = None
            self._undated.discard(name)
        elif record.pending_since is None:
            self._undated.add(name)
