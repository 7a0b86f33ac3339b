"""The running datapath seen from another process: its maps by their pins, its types from the object.

Works whether the agent lives or not: what is pinned is what packets meet.
"""

from __future__ import annotations

import ctypes as c
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xds_agent.datapath import pins
from xds_agent.datapath.btf import Btf
from xds_agent.datapath.counters import Counters
from xds_agent.datapath.info import map_info
from xds_agent.datapath.layout import Layout
from xds_agent.datapath.libbpf import OpenOptions, check, library
from xds_agent.datapath.maps import Map
from xds_agent.datapath.objects import Kept
from xds_agent.node.datapath.attachment import MAPS

_PER_CPU = frozenset({5, 6, 10})
_OUTER = frozenset({12, 13})
# Ends of ranges.
_NO_REASONS = frozenset({"REASONS", "DROP_END", "SEND_END"})


class NotRunning(Exception):
    """There is no datapath to look at; the words say why and what to do."""


class Pinned:
    """As much of a Generation as reading counters needs. Close it."""

    def __init__(self, *, folder: Path, program: Path, layout: str) -> None:
        """`folder`: of the maps. Raises NotRunning, OSError."""
        self.kept = _kept(folder, layout)
        self.btf = _btf(program)
        self.reasons = {name: number for name, number in self.btf.enum("reason").items() if name != "REASONS"}
        self.maps = {name: self._map(name, fd) for name, fd in self.kept.fds.items()}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Pinned:
        """Of what the agent wrote down last."""
        if "layout" not in state:
            raise NotRunning(f"the datapath does not run: {state.get('problem') or 'it never started'}")
        return cls(folder=Path(state["pins"]) / MAPS, program=Path(state["program"]), layout=state["layout"])

    def enum(self, name: str) -> dict[str, int]:
        return self.btf.enum(name)

    @property
    def counters(self) -> Counters:
        return Counters(self)  # type: ignore[arg-type]

    def close(self) -> None:
        pins.close(self.kept)

    def _map(self, name: str, fd: int) -> Map:
        kind = map_info(fd).type
        number = self.btf.map_types("reals")[0]
        key, value = (number, number) if kind in _OUTER else self.btf.map_types(name)
        return Map(
            name, fd, key=Layout(self.btf, key), value=Layout(self.btf, value), per_cpu=kind in _PER_CPU
        )


def reason_names(program: Path) -> list[str]:
    """Lower case, as they are shown. Raises OSError."""
    return [name.lower() for name in _btf(program).enum("reason") if name not in _NO_REASONS]


def _kept(folder: Path, layout: str) -> Kept:
    wanted: Kept | None = None
    for one in pins.reopen(folder):
        if one.layout == layout:
            wanted = one
        else:
            pins.close(one)
    if wanted is None:
        raise NotRunning(f"no maps are pinned below {folder}: the datapath was detached, or never ran")
    return wanted


def _btf(program: Path) -> Btf:
    """Types of an object file; nothing is loaded. Raises OSError."""
    options = OpenOptions(sz=c.sizeof(OpenOptions))
    opened = library().bpf_object__open_file(str(program).encode(), c.byref(options))
    check(opened, f"opening {program}")
    try:
        return Btf.of_object(opened)
    finally:
        library().bpf_object__close(opened)
