"""An edit of the lab's inventory for as long as a demonstration lasts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from lab import playbooks
from lab.demos.stage import Stage
from lab.errors import LabError

Apply = Callable[[Mapping[str, Any]], None]


@contextmanager
def edited(stage: Stage, name: str) -> Iterator[Apply]:
    """A way to bring a text live as edge/demo-NAME.yml; in the end it is gone, here and on the proxies."""
    path = stage.inventory.parent / "edge" / f"demo-{name}.yml"
    services: set[str] = set()

    def apply(edge: Mapping[str, Any]) -> None:
        services.update(one["name"] for one in edge.get("services", ()))
        path.write_text(yaml.safe_dump(dict(edge), sort_keys=False))
        _play(stage, path)

    try:
        yield apply
    finally:
        path.unlink(missing_ok=True)
        if services:
            stage.say("taking the edit back")
            _play(stage, path, "--extra-vars", json.dumps({"allow_removal": sorted(services)}))


def _play(stage: Stage, path: Path, *extra: str) -> None:
    ended = playbooks.run("routes.yml", stage.place, *extra)
    if not ended.succeeded:
        raise LabError(f"routes.yml failed with {path.name}: {ended.message}")
