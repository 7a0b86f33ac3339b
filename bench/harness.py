"""What every benchmark shares: run it, print figures beside their goals, write the JSON.

A benchmark is a module of this folder with `NAME`, `GOALS` (key -> (operator, number)) and
`measure(*, quick: bool) -> dict[str, float]`. A missed goal is shown in red and changes the exit code only
with --strict: machines differ, and a figure is to be read, not to stop a build.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import math
import operator
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}
Goal = tuple[str, float]

_RED, _GREEN, _PLAIN = "\033[31m", "\033[32m", "\033[0m"
# What a benchmark has and its helpers have not.
_MARK = "\nGOALS"


def names() -> list[str]:
    """Benchmarks there are."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if _MARK in path.read_text())


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "arch": platform.machine(),
        "python": platform.python_version(),
    }


def report(name: str, figures: Mapping[str, float], goals: Mapping[str, Goal]) -> dict[str, Any]:
    """The JSON of a run; not-a-number stands for a figure that could not be taken."""
    return {
        "name": name,
        "figures": {key: None if math.isnan(value) else value for key, value in figures.items()},
        "goals": {key: list(goal) for key, goal in goals.items()},
        "machine": machine(),
    }


def missed(figures: Mapping[str, float], goals: Mapping[str, Goal]) -> list[str]:
    """Keys whose goal is not met; a goal without a figure (a --quick run) is not judged."""
    return [
        key
        for key, (sign, limit) in goals.items()
        if key in figures and not OPERATORS[sign](figures[key], limit)
    ]


def table(figures: Mapping[str, float], goals: Mapping[str, Goal], *, colour: bool) -> str:
    """Figures for people, one a line."""
    red = set(missed(figures, goals))
    width = max((len(key) for key in figures), default=0)
    lines = []
    for key, value in figures.items():
        shown = "-" if math.isnan(value) else f"{value:,.3f}".rstrip("0").rstrip(".")
        goal = f"goal {goals[key][0]} {goals[key][1]:g}" if key in goals else ""
        verdict = "" if key not in goals else "missed" if key in red else "met"
        line = f"{key:<{width}}  {shown:>14}  {goal:<16} {verdict}".rstrip()
        if colour and verdict:
            line = f"{_RED if key in red else _GREEN}{line}{_PLAIN}"
        lines.append(line)
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark. Exit 0, or 1 with --strict and a missed goal."""
    parser = argparse.ArgumentParser(prog="script/bench", description="Run one benchmark.")
    parser.add_argument("name", choices=names())
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--peer",
        metavar="PEER",
        help="time this server (HOST:PORT) or XDP object (path) beside ours, where there is one",
    )
    parser.add_argument(
        "--peer-maps",
        metavar="FILE",
        help='JSON, {"MAP": [["KEY", "VALUE"], ...]} in hex: what to fill the maps of that XDP object with',
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what was measured, as SVG")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a goal is missed")
    options = parser.parse_args(argv)
    module = importlib.import_module(f"bench.{options.name}")
    possible = ("peer", "peer_maps", "plot")
    more = {key: given for key in possible if (given := getattr(options, key)) is not None}
    for key in more.keys() - inspect.signature(module.measure).parameters.keys():
        parser.error(f"{options.name} has no --{key.replace('_', '-')}")
    try:
        figures, goals = module.measure(quick=options.quick, **more), module.GOALS
    except (FileNotFoundError, ValueError) as error:
        if not more:
            raise
        parser.error(str(error))
    print(table(figures, goals, colour=sys.stdout.isatty()))
    if options.json is not None:
        options.json.write_text(json.dumps(report(module.NAME, figures, goals), indent=2) + "\n")
    return 1 if options.strict and missed(figures, goals) else 0


if __name__ == "__main__":
    sys.exit(main())
