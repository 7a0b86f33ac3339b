"""Work: what the agent is taking its Envoy through, and what is said of it when it fails."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from xds_agent.protocol.converge import Converge, Verdict
from xds_agent.protocol.local_outcomes import Refused
from xds_agent.protocol.wire import named_in
from xds_agent.snapshot.diff import Diff
from xds_agent.snapshot.resource import CLUSTER, Snapshot


class Kind(Enum):
    """A new target, a reconnect, or the way back after a refusal."""

    APPLY = auto()
    RESYNC = auto()
    REVERT = auto()


@dataclass(slots=True)
class Work:
    """One convergence. `target` is what is being applied or was refused; `blame` why, in a revert."""

    kind: Kind
    converge: Converge
    target: Snapshot
    blame: Verdict | None = None

    def half_made(self, held: Snapshot) -> frozenset[str]:
        """Clusters that Envoy may hold half made, or refused without ever saying so, if this is cut off."""
        if self.kind is Kind.RESYNC:
            return frozenset()
        return Diff.between(held, self.target).names().get(CLUSTER, frozenset())

    def reverted(self, failure: Verdict | None) -> Refused:
        """The refusal, once the revert is over; `failure` says that it failed as well."""
        assert self.blame is not None
        words, names, late = self.blame.words, self.blame.names, self.converge.late_words
        if late and late not in words:
            words, names = f"{words}; then: {late}", named_in(late, names) if names else names
        if failure is not None:
            words += f"; taking Envoy back failed too: {failure.words}"
        return Refused(self.target, self.blame.type_url, names, words)

    def cut_off(self, reason: str) -> Refused:
        """The refusal, when Envoy's stream ended in the middle of the revert."""
        assert self.blame is not None
        words = f"{self.blame.words} (then Envoy's stream ended: {reason})"
        return Refused(self.target, self.blame.type_url, self.blame.names, words)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A target whose turn has not come. `changed` holds all names that differ from `since`, where known."""

    target: Snapshot
    changed: dict[str, frozenset[str]] | None = None
    since: Snapshot | None = None

    def changed_from(self, held: Snapshot) -> dict[str, frozenset[str]] | None:
        return self.changed if held is self.since else None
