"""The narrow boundary between the protocol core and whatever transport carries it.

The core is pure: it takes events, returns actions, knows no socket and no clock of its own. A transport
(grpc.aio today) turns its callbacks into events and carries the actions out, and can be exchanged without
touching a protocol rule. `Send` takes many streams and one blob, so that equal responses are encoded once;
a blocked stream holds at most one frame, and the core coalesces until `Writable`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol


class Method(Enum):
    """Which of the two ADS methods opened the stream."""

    DELTA = "DeltaAggregatedResources"
    SOTW = "StreamAggregatedResources"


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream was opened. `identity` is the name its certificate proves, None on a trusted Unix socket."""

    stream: int
    method: Method
    identity: str | None = None
    serial: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """One serialized (Delta)DiscoveryRequest arrived."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Writable:
    """The frame last sent on this stream has left: one more may go."""

    stream: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The stream is gone."""

    stream: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; `now` is monotonic seconds."""

    now: float


Event = Opened | Message | Writable | Closed | Tick


@dataclass(frozen=True, slots=True)
class Send:
    """Write one serialized (Delta)DiscoveryResponse to each of these streams."""

    streams: tuple[int, ...]
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Close:
    """End a stream with a gRPC status code (an int of grpc.StatusCode.value[0]) and words for its peer."""

    stream: int
    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Wake:
    """Deliver a Tick at or soon after this monotonic time."""

    at: float


Action = Send | Close | Wake


class Core(Protocol):
    """What a transport drives."""

    def handle(self, event: Event) -> list[Action]: ...
