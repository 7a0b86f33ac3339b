"""Work: what the agent is taking its Envoy through, and what is said of it when it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from xds_agent.protocol.converge import Converge, Verdict
from xds_agent.protocol.local_outcomes import Refused
from xds_agent.protocol.wire import named_in
from xds_agent.snapshot.diff import Diff
from xds_agent.snapshot.plan import NOTHING, Stage
from xds_agent.snapshot.resource import CLUSTER, Snapshot


class Kind(Enum):
    """A new target, a reconnect, the way back after a refusal, or the end of clusters that lingered."""

    APPLY = auto()
    RESYNC = auto()
    REVERT = auto()
    SWEEP = auto()


# Nobody waits for a verdict on these.
_UNASKED = frozenset({Kind.RESYNC, Kind.SWEEP})


@dataclass(slots=True)
class Work:
    """One convergence. `target` is what is being applied or was refused; `blame` why, in a revert; `later`
    what lingers behind it."""

    kind: Kind
    converge: Converge
    target: Snapshot
    later: Stage = NOTHING
    blame: Verdict | None = None

    @property
    def asked_for(self) -> bool:
        """Whether somebody waits for a verdict."""
        return self.kind not in _UNASKED

    def half_made(self, held: Snapshot) -> frozenset[str]:
        """Clusters that Envoy may hold half made, or refused without ever saying so, if this is cut off."""
        if not self.asked_for:
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

    def changed_from(
        self, held: Snapshot, lingering: Mapping[str, frozenset[str]]
    ) -> dict[str, frozenset[str]] | None:
        """All names in which the target can differ from an Envoy that has `held` and what lingers."""
        if self.changed is None or held is not self.since:
            return None
        both = self.changed.keys() | lingering.keys()
        return {t: self.changed.get(t, frozenset()) | lingering.get(t, frozenset()) for t in both}
