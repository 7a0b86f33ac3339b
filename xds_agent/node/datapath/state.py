"""What the datapath is, as a file for whoever asks (`xds-agent datapath status`): it outlives the agent."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xds_agent.datapath.program import Generation, Sizes
from xds_agent.node.datapath.network import Interface
from xds_agent.node.datapath.wanted import RealOf, Wanted, WantedService, differing
from xds_agent.node.datapath.writer import Writer

_BUFFER_BYTES = 1 << 18


def describe(
    *, revision: str, mode: str, folder: Path, program: Path, problem: str,
    interfaces: Iterable[Interface] = (), wanted: Wanted | None = None, writer: Writer | None = None,
    missing: str = "", preflight: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Everything that names of counters and numbers in maps need, but for the services."""
    found: dict[str, Any] = {
        "revision": revision, "mode": mode, "pins": str(folder), "program": str(program), "problem": problem,
        "missing": missing, "preflight": dict(preflight or {}), "interfaces": [
            {"name": one.name, "index": one.index, "driver": one.driver, "mtu": one.mtu} for one in interfaces
        ],
        "deny": 0, "exempt": 0, "timed": [],
    }  # fmt: skip
    if wanted is None or writer is None:
        return found
    found |= _generation(writer.generation)
    found["monitor"] = wanted.limits.monitor
    for networks, kind in wanted.lists:
        found[kind] += len(networks)
    found["timed"] = [{"network": str(network), "until": until} for network, until in wanted.timed]
    found["leaving"] = [str(key) for key in writer.leaving()]
    return found


def _generation(generation: Generation) -> dict[str, Any]:
    sizes: Sizes = generation.sizes
    return {
        "layout": generation.layout,
        "instructions": generation.instructions,
        "sizes": {"services": sizes.services, "reals": sizes.reals, "flows": sizes.flows},
    }


class ServiceTexts:
    """Services as the file says them, kept as JSON: an edit of one says that one anew, not thousands."""

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}
        self._writer: Writer | None = None
        self._services: Mapping[str, WantedService] = {}

    def of(self, wanted: Wanted, writer: Writer, why_down: Mapping[RealOf, str]) -> list[bytes]:
        """By name. What a writer touches while this is called is said with the next call."""
        if writer is not self._writer:
            self._texts, self._writer = {}, writer
        # Why a real gets nothing is in other words from one moment to the next.
        ill = {name for name, _ in why_down}
        for name in differing(self._services, wanted.services) | writer.touched() | ill:
            self._texts.pop(name, None)
        self._services = wanted.services
        found = []
        for name in sorted(wanted.services):
            text = self._texts.get(name)
            if text is None:
                said = _service(wanted.services[name], writer, why_down)
                text = json.dumps(said, separators=(",", ":")).encode()
                if name not in ill:
                    self._texts[name] = text
            found.append(text)
        return found


def _service(one: WantedService, writer: Writer, why_down: Mapping[RealOf, str]) -> dict[str, Any]:
    name = one.name
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


def write(path: Path, found: Mapping[str, Any], services: Sequence[bytes] = ()) -> None:
    """`services`: each as JSON. Whole or not at all; that it cannot be written stops nothing."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        with fresh.open("wb", buffering=_BUFFER_BYTES) as file:
            file.write(json.dumps(found).encode().removesuffix(b"}") + b', "services": [')
            file.writelines(services[:1])
            file.writelines(b",\n" + one for one in services[1:])
            file.write(b"]}")
        fresh.replace(path)


def read(path: Path) -> dict[str, Any] | None:
    """What was written last, None where there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
