"""What the kernel says about a loaded program or map (bpf_obj_get_info_by_fd)."""

from __future__ import annotations

import ctypes as c
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xds_agent.datapath.libbpf import check, library

# Byte offsets in struct bpf_prog_info and bpf_map_info of linux/bpf.h, which only ever grow at the end.
_PROGRAM_SIZE, _VERIFIED_AT, _ID_AT, _RUN_TIME_AT, _RUNS_AT = 256, 216, 4, 192, 200
_TAG_AT, _TAG_BYTES = 8, 8
_RUN_TIME = 0  # BPF_STATS_RUN_TIME


@dataclass(frozen=True, slots=True)
class MapInfo:
    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int


def _info(fd: int, size: int) -> bytes:
    buffer, length = c.create_string_buffer(size), c.c_uint(size)
    check(
        library().bpf_obj_get_info_by_fd(fd, buffer, c.byref(length)), "asking the kernel about a BPF object"
    )
    return buffer.raw


def _number(raw: bytes, at: int) -> int:
    return c.c_uint.from_buffer_copy(raw, at).value


def map_info(fd: int) -> MapInfo:
    raw = _info(fd, 96)
    return MapInfo(*(_number(raw, at) for at in (0, 4, 8, 12, 16)))


def verified_instructions(program_fd: int) -> int:
    """Instructions the verifier processed; the kernel's bound is one million."""
    return _number(_info(program_fd, _PROGRAM_SIZE), _VERIFIED_AT)


_KERNEL_TYPES = Path("/sys/kernel/btf/vmlinux")
_ACCEPT = b"\0bpf_sk_assign_tcp_reqsk\0"


@cache
def cookies_missing() -> str | None:
    """Why this kernel cannot accept connections by cookies, None if it can."""
    if _KERNEL_TYPES.exists() and _ACCEPT in _KERNEL_TYPES.read_bytes():
        return None
    return "SYN cookies: this kernel cannot accept them (bpf_sk_assign_tcp_reqsk, Linux 6.12 has it)"


@dataclass(frozen=True, slots=True)
class RunTime:
    """What a program took since it was loaded, as far as somebody kept the kernel counting."""

    runs: int
    ns: int


def keep_run_time() -> int:
    """The kernel counts run times while this descriptor is open (some 20 ns per packet). Raises OSError."""
    return check(library().bpf_enable_stats(_RUN_TIME), "asking the kernel to count run times")


def run_time(program_fd: int) -> RunTime:
    raw = _info(program_fd, _PROGRAM_SIZE)
    nanoseconds, runs = (c.c_ulonglong.from_buffer_copy(raw, at).value for at in (_RUN_TIME_AT, _RUNS_AT))
    return RunTime(runs, nanoseconds)


def program_tag(fd: int) -> bytes:
    """Equal for programs of the same instructions, whatever their maps and constants."""
    return _info(fd, _PROGRAM_SIZE)[_TAG_AT : _TAG_AT + _TAG_BYTES]


def object_id(fd: int) -> int:
    """The kernel's number of a program or map."""
    return _number(_info(fd, 32), _ID_AT)
