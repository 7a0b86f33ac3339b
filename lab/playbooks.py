"""Run a playbook on the lab and read its outcome as a program does."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.commands import attempt
from lab.errors import LabError
from lab.place import Place

# Ansible's results as one JSON document; it ignores the colours and widths of people.
MACHINE = {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_NOCOLOR": "1"}


@dataclass(frozen=True)
class Ended:
    """How a playbook ended: `message` is of the task that failed, empty when none did; `diff` with --diff."""

    succeeded: bool
    changed: int
    message: str = ""
    warnings: tuple[str, ...] = ()
    diff: str = ""


def run(playbook: str, here: Place, *extra: str) -> Ended:
    """Run ``playbooks/PLAYBOOK`` on the lab's inventory. LabError when Ansible itself cannot."""
    command = [
        Path(sys.executable).parent / "ansible-playbook", here.root / "playbooks" / playbook,
        "--inventory", here.root / "inventories" / "lab", *extra,
    ]  # fmt: skip
    done = attempt(command, environment=MACHINE)
    try:
        said = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError:
        words = (done.stderr or done.stdout).strip()[-2000:]
        raise LabError(f"{playbook} gave no result ({done.returncode}): {words}") from None
    changed = sum(int(host["changed"]) for host in said["stats"].values())
    message = "" if done.returncode == 0 else _message(said, done.stderr)
    return Ended(done.returncode == 0, changed, message, _warnings(said), _diff(said))


def _results(said: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (one for play in said["plays"] for task in play["tasks"] for one in task["hosts"].values())


def _warnings(said: dict[str, Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(words) for one in _results(said) for words in one.get("warnings", ())))


def _diff(said: dict[str, Any]) -> str:
    return "".join(str(part.get("prepared", "")) for one in _results(said) for part in one.get("diff") or ())


def _message(said: dict[str, Any], errors: str) -> str:
    for result in _results(said):
        if result.get("failed") and result.get("msg"):
            return str(result["msg"])
    return errors.strip()[-2000:] or "it failed without a word"
