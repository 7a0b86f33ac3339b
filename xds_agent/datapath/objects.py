"""A BPF object file: opened, maps sized and shared, constants set, loaded. For every program alike."""

from __future__ import annotations

import ctypes as c
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from xds_agent.datapath.btf import Btf
from xds_agent.datapath.info import map_info
from xds_agent.datapath.layout import Layout, Value
from xds_agent.datapath.libbpf import OpenOptions, Unavailable, check, library, words
from xds_agent.datapath.maps import Map

_PER_CPU = frozenset({5, 6, 10})
_ARRAY_OF_MAPS = 12
# Two system calls want it; EPERM without it.
_NEEDS = "loading BPF programs needs root (or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)"


@dataclass(frozen=True, slots=True)
class Kept:
    """Maps to take over: descriptors, the layout of each, and a name for all of them together. What a
    restarted agent finds pinned."""

    layout: str
    fds: Mapping[str, int]
    layouts: Mapping[str, str]


class Object:
    """One opened file. `close` gives back everything that is not pinned or attached."""

    def __init__(self, path: Path, name: str) -> None:
        """Raises Unavailable (no file, no libbpf), OSError (not an object)."""
        if not path.exists():
            raise Unavailable(f"{path} is not there (make -C bpf builds it)")
        self.path = path
        options = OpenOptions(sz=c.sizeof(OpenOptions), object_name=name.encode())
        self._pointer: int | None = library().bpf_object__open_file(str(path).encode(), c.byref(options))
        check(self._pointer, f"opening {path}, which has to be a BPF object with its types (BTF)")
        try:
            self.btf = Btf.of_object(self._pointer)
            self.maps = self._maps()
        except BaseException:
            self.close()
            raise

    def _maps(self) -> dict[str, int]:
        lib, found = library(), {}
        current = lib.bpf_object__next_map(self._pointer, None)
        while current:
            found[lib.bpf_map__name(current).decode()] = current
            current = lib.bpf_object__next_map(self._pointer, current)
        return found

    def own_maps(self) -> dict[str, int]:
        """Without those that libbpf makes of sections, which belong to one generation."""
        return {name: entry for name, entry in self.maps.items() if "." not in name}

    def nested_maps(self) -> list[str]:
        """Names of the maps that hold maps."""
        plain = set(self.plain_maps())
        return [name for name in self.own_maps() if name not in plain]

    def plain_maps(self) -> list[str]:
        """Names of the maps that hold values, not other maps."""
        kind = library().bpf_map__type
        return [name for name, entry in self.own_maps().items() if kind(entry) != _ARRAY_OF_MAPS]

    def programs(self) -> dict[str, int]:
        """Programs by name."""
        lib, found = library(), {}
        current = lib.bpf_object__next_program(self._pointer, None)
        while current:
            found[lib.bpf_program__name(current).decode()] = current
            current = lib.bpf_object__next_program(self._pointer, current)
        return found

    def fd(self, program: str) -> int:
        return int(library().bpf_program__fd(self.programs()[program]))

    def leave_out(self, program: str) -> None:
        """Do not load that program."""
        check(library().bpf_program__set_autoload(self.programs()[program], False), f"leaving out {program}")

    def resize(self, entries: Mapping[str, int]) -> None:
        for name, count in entries.items():
            check(library().bpf_map__set_max_entries(self.maps[name], count), f"sizing map {name}")

    def rows(self, name: str) -> int:
        return int(library().bpf_map__max_entries(self.maps[name]))

    def set_constant(self, name: str, value: Value) -> None:
        """A `const volatile` variable, fixed from here on."""
        packed = Layout(self.btf, self.btf.variable(name)).pack(value)
        entry = next(found for label, found in self.maps.items() if label.endswith(".rodata"))
        size = c.c_size_t()
        memory = library().bpf_map__initial_value(entry, c.byref(size))
        c.memmove(memory + self.btf.offset_in(".rodata", name), packed, len(packed))

    def share(
        self, predecessor: Kept | None, layouts: Mapping[str, str], *, anew: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Take over the predecessor's maps where they are the same; the names of those that start empty."""
        if predecessor is None:
            return ()
        fresh = []
        for name, entry in self.own_maps().items():
            fd = predecessor.fds.get(name)
            same = fd is not None and predecessor.layouts.get(name) == layouts[name] and _same(fd, entry)
            if fd is None or name in anew or not same:
                fresh.append(name)
                continue
            self.reuse(name, fd)
        return tuple(fresh)

    def reuse(self, name: str, fd: int) -> None:
        """That map is this one: its size does not count then."""
        check(library().bpf_map__reuse_fd(self.maps[name], fd), f"sharing map {name}")

    def load(self) -> None:
        """Raises Unavailable without the right, OSError with the verifier's last lines where it refuses."""
        with words() as said:
            result = library().bpf_object__load(self._pointer)
            if result >= 0:
                return
            if c.get_errno() == 1 or result == -1:
                raise Unavailable(_NEEDS)
            lines = "".join(said).splitlines()
            last = [line for line in lines if not re.match(r"^(-- |libbpf: prog|libbpf: failed)", line)]
            check(result, f"loading {self.path}; " + " | ".join(last[-3:]))

    def typed(self) -> dict[str, Map]:
        """The loaded maps with their layouts."""
        lib, found = library(), {}
        for name, entry in self.own_maps().items():
            kind = lib.bpf_map__type(entry)
            if kind == _ARRAY_OF_MAPS:
                # Keys and values are numbers; any __u32 shows how they lie.
                key = value = self.btf.number_type()
            else:
                key, value = self.btf.map_types(name)
            found[name] = Map(
                name,
                lib.bpf_map__fd(entry),
                key=Layout(self.btf, key),
                value=Layout(self.btf, value),
                per_cpu=kind in _PER_CPU,
            )
        return found

    def close(self) -> None:
        if self._pointer is not None:
            library().bpf_object__close(self._pointer)
            self._pointer = None


def _same(fd: int, entry: int) -> bool:
    info, lib = map_info(fd), library()
    return (info.type, info.key_size, info.value_size, info.max_entries) == (
        lib.bpf_map__type(entry),
        lib.bpf_map__key_size(entry),
        lib.bpf_map__value_size(entry),
        lib.bpf_map__max_entries(entry),
    )
