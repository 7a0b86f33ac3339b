"""Requests through the site's real proxies, and the table of what each met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from lab.place import Place


@dataclass(frozen=True)
class Row:
    """One line of the table: what was asked of which proxy, what should come, what came."""

    check: str
    proxy: str
    expected: str
    met: str
    as_expected: bool

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(here: Place, say: Callable[[str], None], *, only: tuple[str, ...] = ()) -> list[Row]:
    """Run the checks (those whose name holds a word of ``only``, if given) and return their rows."""
    return []


def show(rows: list[Row], console: Console) -> None:
    table = Table("check", "proxy", "expected", "met", "")
    for row in rows:
        mark = "[green]ok[/]" if row.as_expected else "[red]NOT OK[/]"
        table.add_row(row.check, row.proxy, row.expected, row.met, mark)
    console.print(table)
