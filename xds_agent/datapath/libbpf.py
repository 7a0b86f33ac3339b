"""libbpf by ctypes: only what the datapath calls, each failure an OSError with the kernel's own words.

libbpf reports through `errno` or a negative return value, depending on its age; `check` reads both.
"""

from __future__ import annotations

import ctypes as c
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_PRINT = c.CFUNCTYPE(c.c_int, c.c_int, c.c_char_p, c.c_void_p)

RING_CALLBACK = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_size_t)

_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "libbpf_set_print": (c.c_void_p, [_PRINT]),
    "bpf_object__open_file": (c.c_void_p, [c.c_char_p, c.c_void_p]),
    "bpf_object__load": (c.c_int, [c.c_void_p]),
    "bpf_object__close": (None, [c.c_void_p]),
    "bpf_object__next_program": (c.c_void_p, [c.c_void_p, c.c_void_p]),
    "bpf_object__next_map": (c.c_void_p, [c.c_void_p, c.c_void_p]),
    "bpf_object__find_map_by_name": (c.c_void_p, [c.c_void_p, c.c_char_p]),
    "bpf_program__name": (c.c_char_p, [c.c_void_p]),
    "bpf_program__fd": (c.c_int, [c.c_void_p]),
    "bpf_program__set_autoload": (c.c_int, [c.c_void_p, c.c_bool]),
    "bpf_program__attach_xdp": (c.c_void_p, [c.c_void_p, c.c_int]),
    "bpf_program__pin": (c.c_int, [c.c_void_p, c.c_char_p]),
    "bpf_map__name": (c.c_char_p, [c.c_void_p]),
    "bpf_map__fd": (c.c_int, [c.c_void_p]),
    "bpf_map__type": (c.c_int, [c.c_void_p]),
    "bpf_map__key_size": (c.c_uint, [c.c_void_p]),
    "bpf_map__value_size": (c.c_uint, [c.c_void_p]),
    "bpf_map__max_entries": (c.c_uint, [c.c_void_p]),
    "bpf_map__map_flags": (c.c_uint, [c.c_void_p]),
    "bpf_map__set_max_entries": (c.c_int, [c.c_void_p, c.c_uint]),
    "bpf_map__initial_value": (c.c_void_p, [c.c_void_p, c.POINTER(c.c_size_t)]),
    "bpf_map__inner_map": (c.c_void_p, [c.c_void_p]),
    "bpf_map__reuse_fd": (c.c_int, [c.c_void_p, c.c_int]),
    "bpf_map__pin": (c.c_int, [c.c_void_p, c.c_char_p]),
    "bpf_link__fd": (c.c_int, [c.c_void_p]),
    "bpf_link__pin": (c.c_int, [c.c_void_p, c.c_char_p]),
    "bpf_link__destroy": (c.c_int, [c.c_void_p]),
    "bpf_link_detach": (c.c_int, [c.c_int]),
    "bpf_link_update": (c.c_int, [c.c_int, c.c_int, c.c_void_p]),
    "bpf_link_create": (c.c_int, [c.c_int, c.c_int, c.c_int, c.c_void_p]),
    "bpf_map_create": (c.c_int, [c.c_int, c.c_char_p, c.c_uint, c.c_uint, c.c_uint, c.c_void_p]),
    "bpf_map_update_elem": (c.c_int, [c.c_int, c.c_void_p, c.c_void_p, c.c_ulonglong]),
    "bpf_map_lookup_elem": (c.c_int, [c.c_int, c.c_void_p, c.c_void_p]),
    "bpf_map_delete_elem": (c.c_int, [c.c_int, c.c_void_p]),
    "bpf_map_get_next_key": (c.c_int, [c.c_int, c.c_void_p, c.c_void_p]),
    "bpf_map_update_batch": (c.c_int, [c.c_int, c.c_void_p, c.c_void_p, c.POINTER(c.c_uint), c.c_void_p]),
    "bpf_map_lookup_batch": (
        c.c_int,
        [c.c_int, c.c_void_p, c.c_void_p, c.c_void_p, c.c_void_p, c.POINTER(c.c_uint), c.c_void_p],
    ),
    "bpf_prog_test_run_opts": (c.c_int, [c.c_int, c.c_void_p]),
    "bpf_map_get_fd_by_id": (c.c_int, [c.c_uint]),
    "bpf_prog_get_fd_by_id": (c.c_int, [c.c_uint]),
    "bpf_obj_get": (c.c_int, [c.c_char_p]),
    "bpf_obj_pin": (c.c_int, [c.c_int, c.c_char_p]),
    "bpf_obj_get_info_by_fd": (c.c_int, [c.c_int, c.c_void_p, c.POINTER(c.c_uint)]),
    "bpf_object__btf": (c.c_void_p, [c.c_void_p]),
    "btf__raw_data": (c.c_void_p, [c.c_void_p, c.POINTER(c.c_uint)]),
    "bpf_enable_stats": (c.c_int, [c.c_int]),
    "libbpf_num_possible_cpus": (c.c_int, []),
    "ring_buffer__new": (c.c_void_p, [c.c_int, RING_CALLBACK, c.c_void_p, c.c_void_p]),
    "ring_buffer__consume": (c.c_int, [c.c_void_p]),
    "ring_buffer__free": (None, [c.c_void_p]),
}


class OpenOptions(c.Structure):
    """bpf_object_open_opts up to what we set."""

    _fields_ = [
        ("sz", c.c_size_t),
        ("object_name", c.c_char_p),
        ("relaxed_maps", c.c_bool),
        ("pin_root_path", c.c_char_p),
        ("reserved", c.c_uint),
        ("kconfig", c.c_char_p),
        ("btf_custom_path", c.c_char_p),
    ]


class TestRunOptions(c.Structure):
    """bpf_test_run_opts."""

    __test__ = False  # pytest would take it for a test
    _fields_ = [
        ("sz", c.c_size_t),
        ("data_in", c.c_void_p),
        ("data_out", c.c_void_p),
        ("data_size_in", c.c_uint),
        ("data_size_out", c.c_uint),
        ("ctx_in", c.c_void_p),
        ("ctx_out", c.c_void_p),
        ("ctx_size_in", c.c_uint),
        ("ctx_size_out", c.c_uint),
        ("retval", c.c_uint),
        ("repeat", c.c_int),
        ("duration", c.c_uint),
        ("flags", c.c_uint),
        ("cpu", c.c_uint),
        ("batch_size", c.c_uint),
    ]


class MapCreateOptions(c.Structure):
    """bpf_map_create_opts up to what we set."""

    _fields_ = [
        ("sz", c.c_size_t),
        ("btf_fd", c.c_uint),
        ("btf_key_type_id", c.c_uint),
        ("btf_value_type_id", c.c_uint),
        ("btf_vmlinux_value_type_id", c.c_uint),
        ("inner_map_fd", c.c_uint),
        ("map_flags", c.c_uint),
        ("map_extra", c.c_ulonglong),
        ("numa_node", c.c_uint),
        ("map_ifindex", c.c_uint),
    ]


class Unavailable(RuntimeError):
    """This host cannot load BPF programs; the text says what is missing."""


_said: list[str] = []
_libc = c.CDLL(None)


def _collect(_level: int, text: bytes, arguments: int) -> int:
    """libbpf prints with a va_list; the C library turns it into text, of whatever length: the log of the
    verifier may have megabytes, and its reason stands at the end."""
    said = c.c_void_p()
    size = _libc.vasprintf(c.byref(said), c.c_char_p(text), c.c_void_p(arguments))
    if size >= 0:
        _said.append(c.string_at(said.value or 0, size).decode(errors="replace"))
        _libc.free(said)
    return int(size)


_COLLECT = _PRINT(_collect)  # libbpf keeps the pointer: it must live as long as the process


_library: c.CDLL | None = None


def library() -> c.CDLL:
    """The library, its functions typed. Raises Unavailable where it is not installed."""
    global _library
    if _library is None:
        try:
            loaded = c.CDLL("libbpf.so.1", use_errno=True)
        except OSError as error:
            raise Unavailable("libbpf.so.1 is not installed (Debian package libbpf1)") from error
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
        loaded.libbpf_set_print(_COLLECT)
        _library = loaded
    return _library


@contextmanager
def words() -> Iterator[list[str]]:
    """Collects what libbpf prints meanwhile: the verifier's log is among it."""
    _said.clear()
    yield _said


def check(result: int | None, doing: str) -> int:
    """The result, or OSError that says what was being done. Pointers: None is failure."""
    if result is not None and result >= 0:
        return result
    code = -result if result is not None and result < -1 else c.get_errno() or errno.EINVAL
    raise OSError(code, f"{doing}: {os.strerror(code)}")


def test_run(
    program_fd: int, frame: bytes, *, repeat: int = 1, flags: int = 0, batch: int = 0, room: int = 0
) -> tuple[int, bytes]:
    """Run a program on a frame: its verdict and, given `room` bytes for it, the frame afterwards."""
    options = TestRunOptions(sz=c.sizeof(TestRunOptions), repeat=repeat, flags=flags, batch_size=batch)
    given = c.create_string_buffer(frame, len(frame))
    options.data_in, options.data_size_in = c.cast(given, c.c_void_p), len(frame)
    taken = c.create_string_buffer(room) if room else None
    if taken is not None:
        options.data_out, options.data_size_out = c.cast(taken, c.c_void_p), room
    check(library().bpf_prog_test_run_opts(program_fd, c.byref(options)), "running a program on a packet")
    return options.retval, b"" if taken is None else taken.raw[: options.data_size_out]


_CONTEXT_BYTES, _PRIORITY_AT = 192, 32  # struct __sk_buff of linux/bpf.h


def test_run_tc(program_fd: int, frame: bytes) -> tuple[int, bytes, int]:
    """A tc program on one frame: what it returned, the frame afterwards, and skb->priority."""
    options = TestRunOptions(sz=c.sizeof(TestRunOptions), repeat=1)
    given, taken = c.create_string_buffer(frame, len(frame)), c.create_string_buffer(len(frame) + 256)
    options.data_in, options.data_size_in = c.cast(given, c.c_void_p), len(frame)
    options.data_out, options.data_size_out = c.cast(taken, c.c_void_p), len(taken)
    context, after = c.create_string_buffer(_CONTEXT_BYTES), c.create_string_buffer(_CONTEXT_BYTES)
    options.ctx_in, options.ctx_size_in = c.cast(context, c.c_void_p), _CONTEXT_BYTES
    options.ctx_out, options.ctx_size_out = c.cast(after, c.c_void_p), _CONTEXT_BYTES
    check(library().bpf_prog_test_run_opts(program_fd, c.byref(options)), "running a tc program on a packet")
    priority = c.c_uint.from_buffer_copy(after.raw, _PRIORITY_AT).value
    return c.c_int(options.retval).value, taken.raw[: options.data_size_out], priority


def possible_cpus() -> int:
    """CPUs a per-CPU map has values for: possible ones, not those online."""
    return check(library().libbpf_num_possible_cpus(), "counting possible CPUs")
