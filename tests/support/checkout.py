"""A second checkout of the tree, with a lab of its own: tests edit and break that, never the user's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.place import digest_of

ROOT = Path(__file__).resolve().parent.parent.parent
# Environments are shared by a link; the rest is either made again or belongs to the user.
LEFT_BEHIND = shutil.ignore_patterns(
    ".venv*",
    ".lab",
    ".git",
    "__pycache__",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
    ".ansible",
    # Demonstrations' files of a while.
    "demo-*.yml",
)
# Where molecule's scenario `fleet`, which may run beside, writes for a while.
OVERLAYS = ROOT / "molecule" / "fleet" / "inventory" / "edge"


def _left_behind(folder: str, names: list[str]) -> set[str]:
    fleeting = {OVERLAYS.name} if Path(folder) == OVERLAYS.parent else set()
    return LEFT_BEHIND(folder, names) | fleeting


def _copied(source: str, target: str) -> None:
    """What is gone by now was no part of the tree: whoever runs beside made it, and removed it."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(source, target)


@dataclass(frozen=True)
class Checkout:
    """A copy of the tree; commands run in it as a user would run them."""

    root: Path

    @classmethod
    def copied_to(cls, folder: Path) -> Checkout:
        shutil.copytree(ROOT, folder, symlinks=True, ignore=_left_behind, copy_function=_copied)
        for environment in (".venv", ".venv-envoy", "pulumi/.venv"):
            if (ROOT / environment).exists():
                (folder / environment).symlink_to(ROOT / environment)
        return cls(folder)

    def run(
        self, *command: str, timeout_s: float = 900, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the checkout, whatever its exit code."""
        return subprocess.run(
            [str(self.root / command[0]), *command[1:]],
            cwd=self.root,
            env=_environment() | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def must(self, *command: str, timeout_s: float = 900, **environment: str) -> str:
        """Run a command that has to succeed; its output. The assertion shows what it said."""
        done = self.run(*command, timeout_s=timeout_s, **environment)
        assert done.returncode == 0, (
            f"{' '.join(command)} gave {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout

    def must_json(self, *command: str, timeout_s: float = 900) -> Any:
        return json.loads(self.must(*command, timeout_s=timeout_s))

    def playbook(self, *arguments: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        return self.run(".venv/bin/ansible-playbook", *arguments, timeout_s=timeout_s)


def _environment() -> Mapping[str, str]:
    """What a fresh login of root has: nothing of pytest's own environment."""
    kept = {name: os.environ[name] for name in ("HOME", "XDG_CACHE_HOME") if name in os.environ}
    return kept | {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
    }


def podman_json(*arguments: str) -> Any:
    done = subprocess.run(
        ["podman", *arguments, "--format", "json"], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout or "[]")


def held_by(root: Path) -> dict[str, list[str]]:
    """What this machine holds for the checkout at ``root``: containers, networks, routing rules."""
    label = f"label=marchproxy.checkout={root}"
    containers = [entry["Names"][0] for entry in podman_json("ps", "--all", "--filter", label)]
    networks = [entry["name"] for entry in podman_json("network", "ls", "--filter", label)]
    rules = subprocess.run(
        ["iptables", "-w", "-t", "nat", "-S", "POSTROUTING"], capture_output=True, text=True, check=True
    )
    subnets = [
        subnet["subnet"]
        for entry in podman_json("network", "ls", "--filter", label)
        for subnet in entry["subnets"]
    ]
    ours = [
        line
        for line in rules.stdout.splitlines()
        if _prefix(root) in line or any(net in line for net in subnets)
    ]
    return {"containers": containers, "networks": networks, "rules": ours}


def _prefix(root: Path) -> str:
    return f"mp{digest_of(root)}-"
