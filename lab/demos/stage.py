"""What a demonstration is, what it may use, and what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lab.checks import Site
from lab.place import Place


@dataclass(frozen=True)
class Shown:
    """One claim of a demonstration, what came of it on the lab, and whether that is as claimed."""

    claim: str
    came: str
    as_claimed: bool

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Stage:
    """The running lab, as a demonstration finds it. It leaves it as it was."""

    place: Place
    site: Site
    inventory: Path
    # Tells a person what is happening.
    say: Callable[[str], None]


@dataclass(frozen=True)
class Demo:
    """A demonstration. `story` says what it does step by step, for its --help."""

    name: str
    summary: str
    story: str
    play: Callable[[Stage], Iterable[Shown]]


def show(shown: list[Shown], console: Console) -> None:
    """A table of the claims, and a verdict."""
    table = Table("claim", "what came", "", show_lines=True)
    for one in shown:
        mark = "[green]ok[/]" if one.as_claimed else "[red]NOT SO[/]"
        table.add_row(one.claim, one.came.replace("[", r"\["), mark)
    console.print(table)
    wrong = sum(not one.as_claimed for one in shown)
    verdict = "[green]all as claimed[/]" if not wrong else f"[red]{wrong} of {len(shown)} not as claimed[/]"
    console.print(verdict)
