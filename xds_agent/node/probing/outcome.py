"""How one probe ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answered:
    """All is well. `rtt_ms` is the path's round trip; None where this probe could not measure it."""

    rtt_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Not well. `firm`: somebody said so (refused, a bad status), as against silence."""

    words: str
    firm: bool
    rtt_ms: float | None = None
    """Who says that it is not well is as far away as who says that it is."""


@dataclass(frozen=True, slots=True)
class Unable:
    """This host could not ask (no capability, no socket, no route of its own): nothing is known by it."""

    words: str


Outcome = Answered | Failed | Unable
