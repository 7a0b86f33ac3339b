"""What a person sees while the lab works: one line per step, on stderr, so that stdout may carry JSON."""

from __future__ import annotations

import time

from rich.console import Console

# Through a pipe there is no screen to fit a table into.
WIDE = 150
out = Console() if Console().is_terminal else Console(width=WIDE)
err = Console(stderr=True, highlight=False)
if not err.is_terminal:
    err = Console(stderr=True, highlight=False, width=WIDE)


class Progress:
    """Lines with the seconds since the start, so that a slow step shows."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        err.print(f"[dim]{self.seconds:6.1f} s[/]  {text}", soft_wrap=True)

    def note(self, text: str) -> None:
        err.print(f"          [yellow]{text}[/]", soft_wrap=True)
