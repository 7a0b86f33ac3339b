"""One BPF map: typed by BTF, reached by its file descriptor."""

from __future__ import annotations

import ctypes as c
import errno
import mmap
import os
from collections.abc import Iterator, Sequence

from xds_agent.datapath.layout import Layout, Value
from xds_agent.datapath.libbpf import MapCreateOptions, check, library, possible_cpus

LPM_TRIE, ARRAY = 11, 2
_BATCH = 4096
BPF_F_NO_PREALLOC, BPF_F_MMAPABLE = 1, 1 << 10


class Map:
    """A map with the layouts of its keys and values. `close` is for whoever created or opened it."""

    def __init__(self, name: str, fd: int, *, key: Layout, value: Layout, per_cpu: bool = False) -> None:
        self.name, self.fd, self.key, self.value, self.per_cpu = name, fd, key, value, per_cpu

    def put(self, key: Value, value: Value) -> None:
        """Insert or replace. Raises OSError; E2BIG and ENOSPC mean that the map is full."""
        self.put_raw(self.key.pack(key), self.value.pack(value))

    def put_raw(self, key: bytes, value: bytes) -> None:
        doing = f"writing to map {self.name}"
        check(library().bpf_map_update_elem(self.fd, key, value, 0), doing)

    def get(self, key: Value) -> Value | None:
        """The value, None where there is none. Per-CPU maps: a list, one value per possible CPU."""
        cpus = possible_cpus() if self.per_cpu else 1
        # Per-CPU values lie 8 bytes aligned, whatever their size.
        stride = (self.value.size + 7) // 8 * 8 if self.per_cpu else self.value.size
        found = c.create_string_buffer(stride * cpus)
        result = library().bpf_map_lookup_elem(self.fd, self.key.pack(key), found)
        if result < 0 and (c.get_errno() == errno.ENOENT or result == -errno.ENOENT):
            return None
        check(result, f"reading map {self.name}")
        if not self.per_cpu:
            return self.value.unpack(found.raw)
        return [self.value.unpack(found.raw[cpu * stride :]) for cpu in range(cpus)]

    def delete(self, key: Value) -> bool:
        """Whether there was such a key."""
        result = library().bpf_map_delete_elem(self.fd, self.key.pack(key))
        if result < 0 and (c.get_errno() == errno.ENOENT or result == -errno.ENOENT):
            return False
        check(result, f"deleting from map {self.name}")
        return True

    def keys(self) -> Iterator[Value]:
        """All keys; what is deleted meanwhile may restart the walk (as the kernel has it)."""
        current: bytes | None = None
        following = c.create_string_buffer(self.key.size)
        while library().bpf_map_get_next_key(self.fd, current, following) == 0:
            current = following.raw
            yield self.key.unpack(current)

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values, packed, thousands by one system call. Per-CPU values: one after the other,
        8 bytes aligned. Raises OSError."""
        stride = (self.value.size + 7) // 8 * 8 * possible_cpus() if self.per_cpu else self.value.size
        keys, values = c.create_string_buffer(self.key.size * _BATCH), c.create_string_buffer(stride * _BATCH)
        place, given = c.create_string_buffer(max(8, self.key.size)), None
        ended = False
        while not ended:
            count = c.c_uint(_BATCH)
            result = library().bpf_map_lookup_batch(self.fd, given, place, keys, values, c.byref(count), None)
            ended = result < 0 and errno.ENOENT in (c.get_errno(), -result)
            if not ended:
                check(result, f"reading map {self.name}")
            found, held = keys.raw, values.raw
            for index in range(count.value):
                key, value = index * self.key.size, index * stride
                yield found[key : key + self.key.size], held[value : value + stride]
            given = place

    def put_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Many packed pairs by one system call. Raises OSError that says how far it came."""
        self.put_packed(b"".join(keys), b"".join(values), len(keys))

    def put_packed(self, keys: bytes, values: bytes, count: int) -> None:
        """As `put_many`, of keys and values that lie one after the other."""
        if not count:
            return
        done = c.c_uint(count)
        result = library().bpf_map_update_batch(self.fd, keys, values, c.byref(done), None)
        check(result, f"writing {count} entries to map {self.name} ({done.value} written)")

    def close(self) -> None:
        os.close(self.fd)


def create_map(name: str, kind: int, *, key: Layout, value: Layout, entries: int, flags: int = 0) -> Map:
    """A map of its own, to be put into an array of maps. Close it after that: the outer map holds it."""
    options = MapCreateOptions(sz=c.sizeof(MapCreateOptions), map_flags=flags)
    fd = library().bpf_map_create(kind, name.encode()[:15], key.size, value.size, entries, c.byref(options))
    return Map(name, check(fd, f"creating map {name} of {entries} entries"), key=key, value=value)


def open_map(number: int, outer: Map, *, value: Layout) -> Map:
    """The inner map of that number, which is what reading an outer map gives. Close it."""
    fd = check(library().bpf_map_get_fd_by_id(number), f"opening inner map {number} of {outer.name}")
    return Map(outer.name, fd, key=outer.key, value=value)


def mapped(table: Map, size: int) -> mmap.mmap:
    """The memory of an mmapable array; writes are seen by the program at once."""
    return mmap.mmap(table.fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
