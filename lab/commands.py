"""Run the machine's tools, and turn their failures into sentences."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lab.errors import LabError
from lab.place import ROOT

# Found through CONTAINERS_CONF: which runtime starts the hosts (see the file) must not depend on the machine.
ENVIRONMENT = {"CONTAINERS_CONF": str(ROOT / "containers.conf")}


def run(
    argv: Sequence[str | Path], *, remedy: str = "", timeout_s: float = 600, stdin: str | None = None
) -> str:
    """Run ``argv`` and return its output; LabError carries the tool's own words."""
    done = attempt(argv, timeout_s=timeout_s, stdin=stdin)
    if done.returncode:
        words = (done.stderr or done.stdout).strip()[-2000:]
        raise LabError(f"{' '.join(map(str, argv))} failed ({done.returncode}): {words}", remedy)
    return done.stdout


def attempt(
    argv: Sequence[str | Path], *, timeout_s: float = 600, stdin: str | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run ``argv`` whatever its exit code; LabError only if it is missing or does not end."""
    command = [str(part) for part in argv]
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**os.environ, **ENVIRONMENT, **environment},
            **({"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}),
        )
    except FileNotFoundError:
        raise LabError(
            f"{command[0]} is not installed", "script/lab up installs what the lab needs"
        ) from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(command)} did not end within {timeout_s:g} s") from None


def podman(*arguments: str | Path, timeout_s: float = 600) -> str:
    return run(["podman", *arguments], timeout_s=timeout_s)


def podman_json(*arguments: str) -> Any:
    return json.loads(podman(*arguments) or "[]")
