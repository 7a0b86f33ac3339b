"""What control of the running lab says of steering."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from lab.commands import podman
from lab.demos.stage import Stage
from lab.errors import LabError

PATIENCE_S = 180.0

Shares = Mapping[tuple[str, str], Mapping[str, float]]
"""(place, service) -> cloud -> part of the requests."""


def routes(stage: Stage, *words: str) -> list[dict[str, Any]]:
    """Rows of `xds-agent routes`."""
    return _asked(stage, "routes", *words)


def what_if(stage: Stage, *words: str) -> list[dict[str, Any]]:
    """Rows of `xds-agent what-if`."""
    return _asked(stage, "what-if", *words)


def shares(rows: list[dict[str, Any]]) -> Shares:
    """Where requests go by these rows."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if row["share"]:
            own = found.setdefault((row["seen_from"], row["service"]), {})
            own[row["cloud"]] = own.get(row["cloud"], 0.0) + row["share"]
    return found


def until(reached: Callable[[], bool], *, every_s: float = 0.1) -> float:
    """Wait; the time at which it was so. Raises LabError when it never is."""
    end = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > end:
            raise LabError("the lab did not come to rest", "script/lab ssh control1 xds-agent routes")
        time.sleep(every_s)
    return time.monotonic()


def _asked(stage: Stage, *command: str) -> list[dict[str, Any]]:
    control = stage.place.in_group("control")[0]
    said = json.loads(podman("exec", control.container, "xds-agent", *command, "--json"))
    return list(said["routes"])
