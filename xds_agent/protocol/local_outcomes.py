"""What LocalCore tells the node agent. Callbacks run inside the core and must not call back into it."""

from __future__ import annotations

from dataclasses import dataclass

from xds_agent.snapshot.resource import Snapshot


@dataclass(frozen=True, slots=True)
class EnvoyConnected:
    """A stream became the one that counts: poll /ready, then call `rejected(count)` and `ready(True)`."""

    stream: int


@dataclass(frozen=True, slots=True)
class EnvoyGone:
    """The last stream closed."""

    reason: str


@dataclass(frozen=True, slots=True)
class PollRejected:
    """Fetch cluster_manager.cds.update_rejected now and call `rejected(count)`."""


@dataclass(frozen=True, slots=True)
class Active:
    """Everything of `snapshot` is acknowledged by a live Envoy."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Refused:
    """Envoy refused or stalled, and is back on the last good set unless `words` say otherwise. `type_url` is
    empty where no resource can be blamed."""

    snapshot: Snapshot
    type_url: str
    names: tuple[str, ...]
    words: str


@dataclass(frozen=True, slots=True)
class Complained:
    """Envoy refused part of what it already was to hold, while nothing new was being applied."""

    type_url: str
    names: tuple[str, ...]
    words: str


LocalOutcome = EnvoyConnected | EnvoyGone | PollRejected | Active | Refused | Complained
