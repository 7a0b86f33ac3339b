"""What the clouds' networks do with packets, as JSON for whoever carries them."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from simcloud.packets import Guarded, guarded
from simcloud.world import Store

CLOUDS = ("aws", "gcp", "azure-native")


def fabric(folder: Path) -> dict[str, Any]:
    """``machines``: every machine of every cloud, with the rules before it."""
    found = machines_of(folder)
    return {"machines": [asdict(machine) for machines in found.values() for machine in machines]}


def machines_of(folder: Path) -> dict[str, list[Guarded]]:
    """Cloud -> its machines with their rules."""
    found = {}
    for name in CLOUDS:
        module = importlib.import_module(f"simcloud.{name.partition('-')[0]}")
        found[name] = guarded(module.CLOUD, Store(folder, name).read())
    return found
