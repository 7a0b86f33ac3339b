"""What ControlCore tells its owner. Callbacks run inside the core and must not call back into it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Connected:
    """A stream of a known node was admitted."""

    node: str
    stream: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A stream of a known node closed."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The node's Envoy has this revision active."""

    node: str
    revision: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The node refused this revision and serves its last good one. `type_url` is empty where no resource can
    be blamed."""

    node: str
    revision: str
    type_url: str
    names: tuple[str, ...]
    words: str


@dataclass(frozen=True, slots=True)
class Orphan:
    """A node asked whose name the live revision does not hold; it got nothing."""

    node: str
    reason: str


Outcome = Connected | Disconnected | Acknowledged | Refused | Orphan


@dataclass(frozen=True, slots=True)
class NodeState:
    """What control knows of one node. Revisions are ids, empty where there is none; `pending_since` is
    monotonic seconds of the core's clock, None while nothing is pending."""

    name: str
    connected: bool = False
    wanted: str = ""
    active: str = ""
    in_flight: str = ""
    pending_since: float | None = None
    last_error: str = ""
