"""How a command ends when it cannot do what was asked: one sentence, a remedy, a documented exit code."""

from __future__ import annotations

OK = 0
FAILED = 1
CHANGES = 2
UNREACHABLE = 3


class CliError(Exception):
    """Shown as 'xds-agent: words' with the remedy below; `code` is the exit code."""

    def __init__(self, words: str, remedy: str = "", code: int = FAILED) -> None:
        super().__init__(words)
        self.words = words
        self.remedy = remedy
        self.code = code
