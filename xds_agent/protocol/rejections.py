"""Rejections: Envoy's own count of refused cluster updates, which tells of a NACK it withholds (trap 1)."""

from __future__ import annotations

_POLL_MAX_S = 1.0


class Rejections:
    """The count before an apply, and when to look again during one."""

    def __init__(self, poll_s: float) -> None:
        self._first_poll_s = self._poll_s = poll_s
        self._count: int | None = None
        self._known = False

    @property
    def known(self) -> bool:
        """Whether an apply may begin: the count is there, or Envoy's admin does not answer."""
        return self._known

    def forget(self) -> None:
        """A new Envoy, or one whose refusals have just been withdrawn: what it counts now is not held against
        the next target."""
        self._count, self._known = None, False

    def note(self, count: int | None) -> None:
        """The count while nothing is being applied, None when it cannot be had."""
        self._count, self._known = count, True

    def grew(self, count: int | None) -> bool:
        return count is not None and self._count is not None and count > self._count

    def first_poll_s(self) -> float:
        """How long after clusters were sent to look for the first time."""
        self._poll_s = self._first_poll_s
        return self._poll_s

    def next_poll_s(self) -> float:
        """And then: twice as long each time."""
        self._poll_s = min(self._poll_s * 2, _POLL_MAX_S)
        return self._poll_s
