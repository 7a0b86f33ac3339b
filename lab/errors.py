"""What went wrong, and what to do about it."""

from __future__ import annotations


class LabError(Exception):
    """A failure a user can act on: what happened, and the remedy."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
