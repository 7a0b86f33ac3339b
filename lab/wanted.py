"""What the lab's inventory asks for, where a check compares with it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from lab.commands import run
from lab.errors import LabError
from lab.place import Place

ANSWER = re.compile(r"^\S+ \| SUCCESS => (\{.*\})$", re.M)


def split(place: Place, prefix: str) -> dict[str, float]:
    """Service -> share (0 to 1) of requests to ``prefix``, overlays and all; {} without a split."""
    inventory = place.root / "inventories" / "lab"
    said = run(
        [
            Path(sys.executable).parent / "ansible", "control", "--inventory", inventory, "--one-line",
            "--module-name", "ansible.builtin.debug",
            "--args", "msg={{ edge.routes | default([]) | to_json }}",
        ],
        remedy="the inventory has a mistake: ansible-playbook playbooks/validate.yml names it",
    )  # fmt: skip
    found = ANSWER.search(said)
    if not found:
        raise LabError(f"cannot read the routes of the inventory: {said.strip()[-500:]}")
    message = json.loads(found[1])["msg"]
    return share_of(json.loads(message) if isinstance(message, str) else message, prefix)


def share_of(routes: list[dict[str, object]], prefix: str) -> dict[str, float]:
    """The split of the route with ``prefix``, as shares that sum to 1."""
    for route in routes:
        weights = route.get("split")
        if route.get("prefix") == prefix and isinstance(weights, dict):
            total = sum(weights.values())
            return {service: weight / total for service, weight in weights.items()} if total else {}
    return {}
