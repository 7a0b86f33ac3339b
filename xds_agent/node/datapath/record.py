"""What this host was found well with, on a disk that outlives a boot: one program and its cards."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

# Object, kernel and mode.
_WHAT_WORDS = 3


class Record:
    """One line: `what` was proved, in three words, and the cards."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def cards(self, what: str) -> frozenset[str]:
        """Those that `what` was proved on; none where another is on record."""
        known, cards = self._read()
        return cards if known == what else frozenset()

    def holds(self, what: str) -> bool:
        """Whether `what` is on record, on whatever cards."""
        return bool(what) and self._read()[0] == what

    def write(self, what: str, cards: Iterable[str]) -> None:
        """Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(f"{self._path.name}.fresh")
        fresh.write_text(" ".join((what, *sorted(cards))), encoding="ascii")
        fresh.replace(self._path)

    def add(self, card: str) -> None:
        """What is on record was proved on this one too. Raises OSError."""
        what, cards = self._read()
        if what and card not in cards:
            self.write(what, cards | {card})

    def drop(self, card: str) -> None:
        """It is to be proved anew on this one. Raises OSError."""
        what, cards = self._read()
        if card in cards:
            self.write(what, cards - {card})

    def _read(self) -> tuple[str, frozenset[str]]:
        try:
            words = self._path.read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return "", frozenset()
        return " ".join(words[:_WHAT_WORDS]), frozenset(words[_WHAT_WORDS:])
