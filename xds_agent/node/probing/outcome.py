"""How one probe ended."""

from __future__ import annotations

import errno
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

# What says that this host cannot ask, not that nobody answers.
_OURS = frozenset(
    {
        errno.EACCES, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EMFILE, errno.ENETDOWN,
        errno.ENETUNREACH, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPERM,
    }
)  # fmt: skip
_FIRM = {errno.ECONNREFUSED: "connection refused", errno.ECONNRESET: "connection reset"}


def of_error(error: OSError, rtt_ms: float | None = None) -> Outcome:
    """What an error of a socket says of the one who was asked."""
    if error.errno in _FIRM:
        return Failed(_FIRM[error.errno], firm=True, rtt_ms=rtt_ms)
    words = error.strerror or str(error)
    return Unable(words) if error.errno in _OURS else Failed(words, firm=False, rtt_ms=rtt_ms)


def silence(timeout_s: float, rtt_ms: float | None = None) -> Outcome:
    """Nothing came in time."""
    return Failed(f"no answer within {timeout_s * 1000:.0f} ms", firm=False, rtt_ms=rtt_ms)
