"""How answers look: tables and sentences for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

# Where nobody looks at a terminal, a table must not be cut to 80 columns.
_PIPE_WIDTH = 250
_MISSING = "-"


def show_json(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def show_error(words: str, remedy: str = "") -> None:
    """On stderr: what is wrong, and what to do about it."""
    typer.secho(f"xds-agent: {words}", err=True, fg=typer.colors.RED)
    if remedy:
        typer.echo(f"  {remedy}", err=True)


def show_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; None and empty texts are shown as '-'."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        cells = [Text(_MISSING if cell in (None, "") else str(cell)) for cell in row]
        for cell in cells:
            cell.stylize(_STYLES.get(cell.plain, ""))
        table.add_row(*cells)
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    Console(width=width, highlight=False, soft_wrap=False).print(table)


_STYLES = {"active": "green", "yes": "green", "refused": "bold red", "offline": "yellow", "pending": "cyan"}


def show_changes(answer: Mapping[str, Any]) -> None:
    """The words of a change, grouped by the proxies they reach; the closing sentence last."""
    groups: dict[str, list[str]] = {}
    for line in answer.get("lines", ()):
        groups.setdefault(", ".join(line.get("proxies") or ()), []).append(str(line["text"]))
    for proxies, texts in groups.items():
        typer.secho(f"{proxies or 'the site'}:", bold=True)
        for text in texts:
            typer.echo(f"  {text}")
    typer.echo(str(answer.get("summary") or "nothing changes"))


def show_problems(problems: Iterable[Mapping[str, Any]]) -> None:
    """On stderr, one line each, as compilers write them: file:line: path: message; fix."""
    for problem in problems:
        typer.echo(problem_line(problem), err=True)


def problem_line(problem: Mapping[str, Any]) -> str:
    """'inventories/lab/edge/services/shop.yml:41: services[shop].port: 99999 is not a port; ...'."""
    where = place(problem.get("origin"))
    parts = [part for part in (where, str(problem.get("path") or "")) if part]
    text = ": ".join([*parts, str(problem.get("message") or "")])
    fix = problem.get("fix")
    return f"{text}; {fix}" if fix else text


def show_notes(notes: Iterable[str]) -> None:
    """What an inventory says and this version does not act on."""
    for note in notes:
        typer.secho(f"note: {note}", err=True, fg=typer.colors.YELLOW)


def moment(text: object) -> str:
    """An ISO time as '2026-11-25 03:05:14' in UTC; anything else as it is."""
    if not isinstance(text, str) or not text:
        return ""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    if when.tzinfo is not None:
        when = when.astimezone(UTC)
    return when.strftime("%Y-%m-%d %H:%M:%S")


def place(origin: object) -> str:
    """'shop.yml:41:7' -> 'shop.yml:41'; empty for None."""
    text = str(origin or "")
    head, _, last = text.rpartition(":")
    return head if last.isdigit() and head.rpartition(":")[2].isdigit() else text
