"""An edit of the lab's inventory for as long as a demonstration lasts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from lab import playbooks
from lab.demos.stage import Stage
from lab.errors import LabError

Apply = Callable[[Mapping[str, Any]], None]


@contextmanager
def edited(stage: Stage, name: str, *, folder: str = "") -> Iterator[Apply]:
    """A way to bring a text live as edge/demo-NAME.yml; in the end it is gone, here and on the proxies.

    `folder`: below edge/; "overlays" is for changes of what other files say.
    """
    path = stage.inventory.parent / "edge" / folder / f"demo-{name}.yml"
    services: set[str] = set()
    applied = False

    def apply(edge: Mapping[str, Any]) -> None:
        nonlocal applied
        services.update(one["name"] for one in edge.get("services", ()))
        write(path, edge)
        applied = True
        _play(stage, path, *(meant(services) if folder else ()))

    try:
        yield apply
    finally:
        take_away(path)
        if applied:
            stage.say("taking the edit back")
            _play(stage, path, *meant(services))


def meant(services: Iterable[str]) -> tuple[str, ...]:
    """For ansible-playbook: of these services fewer endpoints, or nothing, may be left."""
    return "--extra-vars", json.dumps({"allow_removal": sorted(services)})


def as_it_is(stage: Stage) -> None:
    """The inventory live without any edit of a demonstration. Raises LabError."""
    stage.say("bringing the inventory live as it is")
    ended = playbooks.run("routes.yml", stage.place)
    if not ended.succeeded:
        raise LabError(f"routes.yml fails without any edit: {ended.message}")


def write(path: Path, edge: Mapping[str, Any]) -> None:
    """The file of an edit, in a folder that may be new."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(dict(edge), sort_keys=False))


def take_away(path: Path) -> None:
    """The file, and its folder if nothing else is in it."""
    path.unlink(missing_ok=True)
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


def _play(stage: Stage, path: Path, *extra: str) -> None:
    ended = playbooks.run("routes.yml", stage.place, *extra)
    if not ended.succeeded:
        raise LabError(f"routes.yml failed with {path.name}: {ended.message}")
