"""Objects under measurement: any XDP program behind the entry program of bpf/bench_entry.bpf.c."""

from __future__ import annotations

import ctypes as c
import os
import shutil
import struct
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xds_agent.datapath.btf import Btf
from xds_agent.datapath.info import map_info
from xds_agent.datapath.layout import Layout
from xds_agent.datapath.libbpf import OpenOptions, TestRunOptions, check, library, possible_cpus

BUILD = Path(__file__).resolve().parents[1] / "bpf" / "build"
ENTRY = BUILD / "bench_entry.bpf.o"
_BPFFS = Path("/sys/fs/bpf")
_RESTORED = 54
# Hash, array, LRU hash.
_PER_CPU = {5, 6, 10}


class Object:
    """An object file loaded as it is. Maps that it wants pinned go to a folder of this run's own."""

    def __init__(self, path: Path, variables: Mapping[str, object] | None = None) -> None:
        lib, self._pins = library(), _BPFFS / f"bench-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        options = OpenOptions(
            sz=c.sizeof(OpenOptions), relaxed_maps=True, pin_root_path=str(self._pins).encode()
        )
        self._object = lib.bpf_object__open_file(str(path).encode(), c.byref(options))
        check(self._object, f"opening {path}")
        for name, value in (variables or {}).items():
            self._set(Btf.of_object(self._object), name, value)
        check(lib.bpf_object__load(self._object), f"loading {path}")

    def _set(self, btf: Btf, name: str, value: object) -> None:
        lib, size = library(), c.c_size_t()
        current = lib.bpf_object__next_map(self._object, None)
        while not lib.bpf_map__name(current).endswith(b".rodata"):
            current = lib.bpf_object__next_map(self._object, current)
        memory = lib.bpf_map__initial_value(current, c.byref(size))
        packed = Layout(btf, btf.variable(name)).pack(value)
        c.memmove(memory + btf.offset_in(".rodata", name), packed, len(packed))

    def program(self, name: str | None = None) -> int:
        """Descriptor of a program, the first if no name is given. Raises KeyError."""
        lib = library()
        current = lib.bpf_object__next_program(self._object, None)
        while current:
            if name is None or lib.bpf_program__name(current).decode() == name:
                return int(lib.bpf_program__fd(current))
            current = lib.bpf_object__next_program(self._object, current)
        raise KeyError(f"no program '{name}'")

    def map(self, name: str) -> int:
        return check(
            library().bpf_map__fd(library().bpf_object__find_map_by_name(self._object, name.encode())), name
        )

    def fill(self, maps: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        """Keys and values in hex, as they lie in memory; a per-CPU map gets the value for each CPU.

        Maps of maps, programs, devices and sockets hold what no file can name. Raises ValueError, OSError.
        """
        for name, entries in maps.items():
            try:
                info = map_info(self.map(name))
            except OSError as error:
                raise ValueError(f"no map '{name}' in the object") from error
            copies = possible_cpus() if info.type in _PER_CPU else 1
            for key, value in (map(bytes.fromhex, entry) for entry in entries):
                if (len(key), len(value)) != (info.key_size, info.value_size):
                    sizes = f"keys of {info.key_size} bytes and values of {info.value_size}"
                    raise ValueError(f"map {name} has {sizes}, not {len(key)} and {len(value)}")
                if copies > 1:
                    value = value.ljust((len(value) + 7) // 8 * 8, b"\0") * copies
                result = library().bpf_map_update_elem(self.map(name), key, value, 0)
                check(result, f"filling map {name}")

    def close(self) -> None:
        library().bpf_object__close(self._object)
        shutil.rmtree(self._pins, ignore_errors=True)


@dataclass
class Case:
    """A program that gets `frame` with sources under `flow_mask`."""

    name: str
    program_fd: int
    frame: bytes
    flow_mask: int = 0

    def __post_init__(self) -> None:
        head = self.frame[:_RESTORED]
        entry = {"flow_mask": self.flow_mask, "length": len(self.frame), "head": head}
        self._entry = Object(ENTRY, {"entry": entry})
        target = struct.pack("=I", self.program_fd)
        check(library().bpf_map_update_elem(self._entry.map("target"), bytes(4), target, 0), "entering")
        self._fd = self._entry.program("bench_entry")
        self._frame = c.create_string_buffer(self.frame, len(self.frame))

    def run(self, repeat: int) -> tuple[float, int]:
        """Nanoseconds of this thread's CPU per packet, and the last verdict."""
        options = TestRunOptions(sz=c.sizeof(TestRunOptions), repeat=repeat)
        options.data_in, options.data_size_in = c.cast(self._frame, c.c_void_p), len(self.frame)
        started = time.thread_time_ns()
        check(library().bpf_prog_test_run_opts(self._fd, c.byref(options)), f"running {self.name}")
        return (time.thread_time_ns() - started) / repeat, options.retval

    def close(self) -> None:
        self._entry.close()
