"""Faults on demand: ``create:Instance:2`` refuses the second instance that a run makes."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

OPERATIONS = ("create", "update", "delete", "read", "ask")
KINDS = ("error", "capacity", "throttle", "slow")
# How long a slow operation takes; how long a throttled caller waits before it asks again, and how often.
SLOW_S, BACKOFF_S, THROTTLED_TIMES = 30.0, 0.2, 3


class BadFault(ValueError):
    """A fault that nobody can mean; the text says which form one has."""


@dataclass(frozen=True)
class Fault:
    """The N-th ``operation`` on a resource of type ``word`` meets ``kind``; N 0 stands for every one."""

    operation: str
    word: str
    number: int
    kind: str = "error"

    @property
    def key(self) -> str:
        return f"{self.operation}:{self.word}:{self.number}:{self.kind}"


def parse(texts: Iterable[str]) -> tuple[Fault, ...]:
    """Read faults as a command line gives them; BadFault names the one that is wrong."""
    return tuple(_parse(text) for text in texts)


def _parse(text: str) -> Fault:
    parts = text.split(":")
    form = f"{text}: a fault is OPERATION:TYPE:N[:KIND], for example create:Instance:2:capacity"
    if len(parts) not in (3, 4) or not parts[2].isdigit() or not parts[1]:
        raise BadFault(form)
    operation, word, number = parts[:3]
    kind = parts[3] if len(parts) == 4 else "error"
    if operation not in OPERATIONS:
        raise BadFault(f"{form}; OPERATION is one of {', '.join(OPERATIONS)}")
    if kind not in KINDS:
        raise BadFault(f"{form}; KIND is one of {', '.join(KINDS)}")
    return Fault(operation, word, int(number), kind)


class Counter:
    """Counts the calls of one run across the engine's plugin processes (it starts one for each provider)."""

    def __init__(self, folder: Path, run: str) -> None:
        self._file = folder / "faults.json"
        self._run = run

    def due(self, faults: tuple[Fault, ...], operation: str, word: str) -> Fault | None:
        """The fault that this call meets; counts the call."""
        watched = [fault for fault in faults if (fault.operation, fault.word) == (operation, word)]
        if not watched:
            return None
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            held.seek(0)
            text = held.read()
            kept = json.loads(text) if text else {}
            counts = kept.get("counts", {}) if kept.get("run") == self._run else {}
            number = counts[f"{operation}:{word}"] = counts.get(f"{operation}:{word}", 0) + 1
            held.seek(0)
            held.truncate()
            json.dump({"run": self._run, "counts": counts}, held)
        return next((fault for fault in watched if fault.number in (0, number)), None)
