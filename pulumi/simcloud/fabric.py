"""What the clouds' networks do with packets, as JSON for whoever carries them."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from simcloud.packets import Guarded, guarded
from simcloud.routes import public_addresses, subnets
from simcloud.world import Store

CLOUDS = ("aws", "gcp", "azure-native")


def fabric(folder: Path) -> dict[str, Any]:
    """``machines`` with the rules before them, ``subnets`` with their routes, ``public`` addresses."""
    worlds = {name: Store(folder, name).read() for name in CLOUDS}
    found = machines_of(folder)
    return {
        "machines": [asdict(machine) for machines in found.values() for machine in machines],
        "subnets": [asdict(subnet) for name, world in worlds.items() for subnet in subnets(name, world)],
        "public": {
            private: public
            for name, world in worlds.items()
            for private, public in public_addresses(name, world).items()
        },
    }


def machines_of(folder: Path) -> dict[str, list[Guarded]]:
    """Cloud -> its machines with their rules."""
    found = {}
    for name in CLOUDS:
        module = importlib.import_module(f"simcloud.{name.partition('-')[0]}")
        found[name] = guarded(module.CLOUD, Store(folder, name).read())
    return found
