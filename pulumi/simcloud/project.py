"""The project that runs pulumi/'s programs against simulated clouds: theirs, with plugins from this folder.

python -m simcloud.project --program pulumi --place .lab/pulumi      prints the folder to run the engine in
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
PLUGINS, ENVIRONMENT = HERE / "plugins", HERE.parent / ".venv"
CLOUDS = ("aws", "gcp", "azure-native")


def simulated(project: dict[str, Any], program: Path) -> dict[str, Any]:
    """A project like ``project``, run from another folder, with the simulated providers."""
    runtime = project.get("runtime", "python")
    runtime = runtime if isinstance(runtime, dict) else {"name": runtime}
    options = {**(runtime.get("options") or {}), "virtualenv": str(ENVIRONMENT)}
    return {
        **project,
        "main": str(program / str(project.get("main", "."))),
        "runtime": {**runtime, "options": options},
        "plugins": {"providers": [{"name": name, "path": str(PLUGINS / name)} for name in CLOUDS]},
    }


def prepare(program: Path, place: Path) -> Path:
    """Write the project into ``place`` and make the folders of its state; returns the project's folder."""
    folder = place / "project"
    for each in (folder, place / "state", place / "home", place / "world"):
        each.mkdir(parents=True, exist_ok=True)
    found = yaml.safe_load((program / "Pulumi.yaml").read_text())
    fresh = folder / f"Pulumi.yaml.{os.getpid()}"
    fresh.write_text(yaml.safe_dump(simulated(found, program.resolve()), sort_keys=False))
    fresh.replace(folder / "Pulumi.yaml")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description="The project that runs a program against simulated clouds.")
    parser.add_argument("--program", type=Path, required=True, help="the folder of the program's Pulumi.yaml")
    parser.add_argument("--place", type=Path, required=True, help="where project, state and clouds are kept")
    options = parser.parse_args()
    print(prepare(options.program, options.place))


if __name__ == "__main__":
    main()
