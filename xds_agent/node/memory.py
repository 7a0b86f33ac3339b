"""How the C library keeps memory: what was large and is free goes back to the host."""

from __future__ import annotations

import contextlib
import ctypes

# Numbers of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BYTES, _KEPT_BYTES = 1 << 20, 8 << 20


def give_back_large() -> None:
    """From now on. glibc would raise its idea of "large" to 32 MiB with the first such block that is freed,
    and keep for ever what loading a program took, some thirty mebibytes."""
    # Another C library has no such call.
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
