"""What the clouds' networks do with packets, as JSON for whoever carries them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from simcloud.fronts import fronts
from simcloud.names import names
from simcloud.outbound import outbound
from simcloud.packets import Guarded, guarded
from simcloud.routes import public_addresses, subnets
from simcloud.world import Store, World

CLOUDS = ("aws", "gcp", "azure-native")


def fabric(folder: Path) -> dict[str, Any]:
    """``machines`` with the rules before them, ``subnets`` with their routes, ``public`` addresses of
    machines and those that they send from (``outbound``), ``fronts`` (ports of balancers), ``names`` of DNS.
    """
    worlds = {name: Store(folder, name).read() for name in CLOUDS}
    found = machines_of(folder)
    return {
        "machines": [asdict(machine) for machines in found.values() for machine in machines],
        "subnets": [asdict(subnet) for name, world in worlds.items() for subnet in subnets(name, world)],
        "public": _of_all(public_addresses, worlds),
        "outbound": _of_all(outbound, worlds),
        "names": [asdict(one) for name, world in worlds.items() for one in names(name, world)],
        "fronts": [asdict(front) for name, world in worlds.items() for front in fronts(name, world)],
    }


def _of_all(
    addresses: Callable[[str, World], Mapping[str, str]], worlds: Mapping[str, World]
) -> dict[str, str]:
    return dict(pair for name, world in worlds.items() for pair in addresses(name, world).items())


def machines_of(folder: Path) -> dict[str, list[Guarded]]:
    """Cloud -> its machines with their rules."""
    found = {}
    for name in CLOUDS:
        module = importlib.import_module(f"simcloud.{name.partition('-')[0]}")
        found[name] = guarded(module.CLOUD, Store(folder, name).read())
    return found
