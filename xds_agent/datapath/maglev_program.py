"""Maglev's table, and a ring's step to one, by programs that the kernel runs for us (`bpf/maglev.bpf.c`): the
only compiler of an edge host is the one for BPF. Slot for slot what `maglev.populate` and `Ring.step` make.
"""

from __future__ import annotations

import contextlib
import ctypes as c
import mmap
from array import array
from itertools import chain
from operator import attrgetter
from pathlib import Path

from xds_agent.datapath.info import verified_instructions
from xds_agent.datapath.layout import Layout
from xds_agent.datapath.libbpf import TestRunOptions, Unavailable, check, library
from xds_agent.datapath.maglev import SLOTS, Chooser, Reals, Ring, choosers_of, populate
from xds_agent.datapath.objects import Object

_PLACE_BITS, _NUMBER_BYTES, _SLOT_BYTES = 15, 4, 8
_PROGRAMS = ("populate", "step")
_VARIABLES = ("run", "choosers", "turns", "table", "ring")


class MaglevProgram:
    """The loaded programs; called, they make a table. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Raises Unavailable (no file or that of another release, no libbpf, no right to load programs),
        OSError."""
        self._object = Object(path, "maglev")
        try:
            if missing := set(_PROGRAMS) - self._object.programs().keys():
                raise Unavailable(f"{path} is another release's: it has no {', '.join(sorted(missing))}")
            self._object.load()
            self._populate, self._step = map(self._object.fd, _PROGRAMS)
            self.instructions = sum(map(verified_instructions, (self._populate, self._step)))
            entry = next(entry for name, entry in self._object.maps.items() if name.endswith(".bss"))
            btf, lib = self._object.btf, library()
            self._at = {name: btf.offset_in(".bss", name) for name in _VARIABLES}
            self._run = Layout(btf, btf.number("run"))
            chooser = btf.resolved(btf.number("chooser"))
            # All of them __u32.
            self._fields = attrgetter(*(member.name for member in btf.members(chooser)))
            # More reals than that have no place in it.
            self.most = btf.size(btf.variable("choosers")) // chooser.size
            pages = -(-lib.bpf_map__value_size(entry) // mmap.PAGESIZE)
            self._memory = mmap.mmap(lib.bpf_map__fd(entry), pages * mmap.PAGESIZE)
        except BaseException:
            self._object.close()
            raise

    def __call__(self, reals: Reals, *, slots: int = SLOTS) -> array[int]:
        """As `maglev.populate`. Raises OSError."""
        if not reals or len(reals) > self.most:
            return array("I", populate(reals, slots=slots))
        self._write(choosers_of(reals, slots), slots)
        before, left = slots + 1, slots
        while left:
            if left >= before:
                raise OSError(f"making a table of {len(reals)} reals: {left} slots stay empty")
            before, left = left, _run(self._populate, "making a table of reals")
        return array("I", self._get("table", slots * _NUMBER_BYTES))

    def step(self, ring: Ring, table: array[int]) -> Ring:
        """What `Ring.step` makes of it, of `SLOTS` slots at most. Raises OSError."""
        slots = len(table)
        self._put("table", table.tobytes())
        self._put("ring", ring.words())
        self._put("run", self._run.pack({"slots": slots}))
        if _run(self._step, "stepping a ring"):
            raise OSError("stepping a ring: it did not come to its end")
        return Ring.of_words(self._get("ring", slots * _SLOT_BYTES))

    def _write(self, choosers: list[Chooser], slots: int) -> None:
        heaviest = max(one.weight for one in choosers)
        turns = sorted(
            -(-heaviest // one.weight) << _PLACE_BITS | place for place, one in enumerate(choosers)
        )
        self._put("choosers", array("I", chain.from_iterable(map(self._fields, choosers))).tobytes())
        self._put("turns", array("Q", turns).tobytes())
        self._put("table", bytes(slots * _NUMBER_BYTES))
        self._put("run", self._run.pack({
            "slots": slots, "choosers": len(choosers), "heaviest": heaviest, "left": slots,
            "alike": all(one.weight == heaviest for one in choosers),
        }))  # fmt: skip

    def _put(self, variable: str, data: bytes) -> None:
        at = self._at[variable]
        self._memory[at : at + len(data)] = data

    def _get(self, variable: str, size: int) -> bytes:
        at = self._at[variable]
        return self._memory[at : at + size]

    def close(self) -> None:
        with contextlib.suppress(ValueError):
            self._memory.close()
        self._object.close()


def _run(program_fd: int, doing: str) -> int:
    """What it returned."""
    options = TestRunOptions(sz=c.sizeof(TestRunOptions))
    check(library().bpf_prog_test_run_opts(program_fd, c.byref(options)), doing)
    return int(options.retval)
