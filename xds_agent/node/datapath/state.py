"""What the datapath is, as a file for whoever asks (`xds-agent datapath status`): it outlives the agent."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xds_agent.datapath.program import Generation, Sizes
from xds_agent.node.datapath.network import Interface
from xds_agent.node.datapath.wanted import RealOf, Wanted
from xds_agent.node.datapath.writer import Writer


def describe(
    *, revision: str, mode: str, folder: Path, program: Path, problem: str,
    interfaces: Iterable[Interface] = (),
    wanted: Wanted | None = None, writer: Writer | None = None, why_down: Mapping[RealOf, str] | None = None,
    missing: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Everything that names of counters and numbers in maps need."""
    found: dict[str, Any] = {
        "revision": revision, "mode": mode, "pins": str(folder), "program": str(program), "problem": problem,
        "missing": missing, "interfaces": [
            {"name": one.name, "index": one.index, "driver": one.driver, "mtu": one.mtu} for one in interfaces
        ],
        "services": [], "deny": 0, "exempt": 0, "timed": [],
    }  # fmt: skip
    if wanted is None or writer is None:
        return found
    found |= _generation(writer.generation)
    found["monitor"] = wanted.limits.monitor
    for networks, kind in wanted.lists:
        found[kind] += len(networks)
    found["timed"] = [{"network": str(network), "until": until} for network, until in wanted.timed]
    found["services"] = [_service(name, wanted, writer, why_down or {}) for name in sorted(wanted.services)]
    found["leaving"] = [str(key) for key in writer.leaving()]
    return found


def _generation(generation: Generation) -> dict[str, Any]:
    sizes: Sizes = generation.sizes
    return {
        "layout": generation.layout,
        "instructions": generation.instructions,
        "sizes": {"services": sizes.services, "reals": sizes.reals, "flows": sizes.flows},
    }


def _service(name: str, wanted: Wanted, writer: Writer, why_down: Mapping[RealOf, str]) -> dict[str, Any]:
    one = wanted.services[name]
    moved = sum(ring.moved for ring in writer.rings.of_service(name))
    return {
        "name": name, "id": writer.services.get(name), "forward": one.forward,
        "served": writer.is_served(name),
        "without_real": "pass" if one.pass_without_real else "drop", "moved_slots": moved,
        "fronts": [
            {"address": str(front.address), "port": front.port, "protocol": front.protocol}
            for front in one.fronts
        ],
        "reals": [
            {
                "number": writer.reals.get(real.key), "address": str(real.key.address), "port": real.key.port,
                "weight": real.weight, "priority": real.priority,
                "state": "down" if (name, real.key) in why_down else writer.real_state(real.key),
                "why": why_down.get((name, real.key), ""),
            }
            for real in one.reals
        ],
    }  # fmt: skip


def write(path: Path, found: Mapping[str, Any]) -> None:
    """Whole or not at all; that it cannot be written stops nothing."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(found), encoding="utf-8")
        fresh.replace(path)


def read(path: Path) -> dict[str, Any] | None:
    """What was written last, None where there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
