"""A ring buffer that programs write and one reader empties, by libbpf."""

from __future__ import annotations

import ctypes as c
import os

from xds_agent.datapath.libbpf import RING_CALLBACK, MapCreateOptions, check, library

RINGBUF = 27
# Of one look: a writer faster than the reader must not keep it for ever.
_MOST = 8192
_ENOUGH = -1  # any negative number ends a look; that record is taken all the same


class RingReader:
    """Makes a ring of its own. Hand `fd` to whoever writes it, `read`, `close`."""

    def __init__(self, name: str, size: int) -> None:
        """`size`: bytes, a power of two and a multiple of the page. Raises OSError."""
        options = MapCreateOptions(sz=c.sizeof(MapCreateOptions))
        made = library().bpf_map_create(RINGBUF, name.encode()[:15], 0, 0, size, c.byref(options))
        self.fd = check(made, f"creating a ring of {size} bytes")
        self._found: list[bytes] = []
        self._callback = RING_CALLBACK(self._take)  # libbpf keeps the pointer
        self._ring: int | None = library().ring_buffer__new(self.fd, self._callback, None, None)
        try:
            check(self._ring, f"mapping a ring of {size} bytes")
        except OSError:
            os.close(self.fd)
            raise

    def read(self) -> list[bytes]:
        """What has come since, at most some thousands. Never waits. Raises OSError."""
        assert self._ring is not None
        self._found = []
        result = library().ring_buffer__consume(self._ring)
        if result < 0 and result != _ENOUGH:
            check(result, "reading a ring")
        return self._found

    def close(self) -> None:
        if self._ring is not None:
            library().ring_buffer__free(self._ring)
            os.close(self.fd)
            self._ring = None

    def _take(self, _context: int | None, data: int, size: int) -> int:
        self._found.append(c.string_at(data, size))
        return _ENOUGH if len(self._found) >= _MOST else 0
