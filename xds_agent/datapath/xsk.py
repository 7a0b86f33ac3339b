"""AF_XDP: packets that a program redirects to a socket, one for each queue of an interface.

The socket's memory (linux/if_xdp.h) is a field of chunks and four rings. Chunks go round: we put free ones
into the fill ring, the kernel copies packets into them and names them in the receive ring. Nothing is sent.
"""

from __future__ import annotations

import ctypes as c
import errno
import fcntl
import mmap
import os
import socket
import struct
import time
from dataclasses import dataclass

AF_XDP, SOL_XDP = 44, 283
_MMAP_OFFSETS, _RX_RING, _UMEM_REG, _FILL_RING, _COMPLETION_RING, _STATISTICS, _OPTIONS = 1, 2, 4, 5, 6, 7, 8
_COPY, _USE_NEED_WAKEUP = 1 << 1, 1 << 3
_IS_ZERO_COPY = 1
_RX_AT, _FILL_AT = 0, 0x1_0000_0000
CHUNK_BYTES = 4096
_DESCRIPTOR, _ADDRESS, _INDEX = struct.Struct("=QII"), struct.Struct("=Q"), struct.Struct("=I")
# The kernel gives a queue back some time after its socket was closed.
BUSY_S = 5.0
_PAUSE_S = 0.02
_ETHTOOL, _GET_CHANNELS = 0x8946, 0x3C
# struct xdp_statistics; the kernel's words for what a socket did not get.
_STATISTICS_NAMES = (
    "rx_dropped", "rx_invalid_descs", "tx_invalid_descs", "rx_ring_full", "rx_fill_ring_empty_descs",
    "tx_ring_empty_descs",
)  # fmt: skip


class QueueTaken(OSError):
    """Another socket has the queue."""


@dataclass(frozen=True, slots=True)
class Received:
    """A frame, and what the program wrote in front of it."""

    metadata: bytes
    frame: bytes


class _Ring:
    """One ring: as a mapping of indices and entries. Indices run freely; they are masked for use.

    Between reading an index and reading what it speaks of the interpreter runs for far longer than a
    processor looks ahead.
    """

    def __init__(self, fd: int, offsets: tuple[int, ...], entries: int, *, entry: struct.Struct, at: int):
        self._producer, self._consumer, self._start, _flags = offsets
        self._entry, self._mask = entry, entries - 1
        self._memory = mmap.mmap(
            fd, self._start + entries * entry.size, mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=at
        )

    def take(self, most: int) -> list[tuple[int, ...]]:
        """Entries that the kernel put in; the places are the kernel's again."""
        [head], [tail] = self._index(self._producer), self._index(self._consumer)
        count = min((head - tail) & 0xFFFFFFFF, most)
        found = [self._entry.unpack_from(self._memory, self._place(tail + n)) for n in range(count)]
        _INDEX.pack_into(self._memory, self._consumer, (tail + count) & 0xFFFFFFFF)
        return found

    def put(self, values: list[int]) -> None:
        """For the kernel to take; the ring holds as many as there are chunks."""
        [head] = self._index(self._producer)
        for n, value in enumerate(values):
            self._entry.pack_into(self._memory, self._place(head + n), value)
        _INDEX.pack_into(self._memory, self._producer, (head + len(values)) & 0xFFFFFFFF)

    def _index(self, at: int) -> tuple[int, ...]:
        return _INDEX.unpack_from(self._memory, at)

    def _place(self, index: int) -> int:
        return self._start + (index & self._mask) * self._entry.size

    def close(self) -> None:
        self._memory.close()


class Socket:
    """Bound to one queue. `close` gives the queue back."""

    def __init__(self, interface: int, queue: int, *, chunks: int = 1024, zero_copy: bool = False) -> None:
        """`chunks`: packets that may wait, a power of two. `zero_copy`: where the driver offers it, which
        means that it stops the queue for a moment now and when the socket closes; else the kernel copies.

        Raises:
            QueueTaken: by another socket, for longer than the kernel needs to give one back.
            OSError: no such queue, no CAP_NET_RAW.
        """
        self.interface, self.queue = interface, queue
        deadline = time.monotonic() + BUSY_S
        while not self._open(chunks, zero_copy=zero_copy):
            if time.monotonic() > deadline:
                words = f"queue {queue} of interface {interface} belongs to another AF_XDP socket"
                raise QueueTaken(errno.EBUSY, words)
            time.sleep(_PAUSE_S)

    def _open(self, chunks: int, *, zero_copy: bool) -> bool:
        """False while the queue is busy."""
        self._socket = socket.socket(AF_XDP, socket.SOCK_RAW, 0)
        self._rings: list[_Ring] = []
        self._memory = mmap.mmap(-1, chunks * CHUNK_BYTES)
        try:
            self._set_up(chunks)
            # Neither flag: the kernel asks the driver for zero copy, and copies where it has none.
            self._bind(_USE_NEED_WAKEUP | (0 if zero_copy else _COPY))
        except OSError as error:
            self.close()
            if error.errno == errno.EBUSY:
                return False
            raise
        return True

    def _set_up(self, chunks: int) -> None:
        one, view = self._socket, c.c_char.from_buffer(self._memory)
        address = c.addressof(view)
        del view  # or the mapping could not be closed
        region = struct.pack("=QQIIII", address, len(self._memory), CHUNK_BYTES, 0, 0, 0)
        one.setsockopt(SOL_XDP, _UMEM_REG, region)
        for ring in (_FILL_RING, _COMPLETION_RING, _RX_RING):
            one.setsockopt(SOL_XDP, ring, chunks)
        offsets = struct.unpack("=16Q", one.getsockopt(SOL_XDP, _MMAP_OFFSETS, 128))
        self._received = _Ring(one.fileno(), offsets[0:4], chunks, entry=_DESCRIPTOR, at=_RX_AT)
        self._rings.append(self._received)
        self._free = _Ring(one.fileno(), offsets[8:12], chunks, entry=_ADDRESS, at=_FILL_AT)
        self._rings.append(self._free)
        self._free.put([number * CHUNK_BYTES for number in range(chunks)])

    def _bind(self, flags: int) -> None:
        # Python's bind knows no AF_XDP.
        address = struct.pack("=HHIII", AF_XDP, flags, self.interface, self.queue, 0)
        if _libc().bind(self._socket.fileno(), address, len(address)) != 0:
            code = c.get_errno()
            where = f"queue {self.queue} of interface {self.interface}"
            raise OSError(code, f"binding an AF_XDP socket to {where}: {os.strerror(code)}")

    @property
    def mode(self) -> str:
        """How packets come into our memory: "copy" or "zero copy"."""
        [options] = struct.unpack("=I", self._socket.getsockopt(SOL_XDP, _OPTIONS, 4))
        return "zero copy" if options & _IS_ZERO_COPY else "copy"

    def fileno(self) -> int:
        """For poll, which also wakes a driver that has no chunks left."""
        return self._socket.fileno()

    def receive(self, metadata: int, most: int = 1024) -> list[Received]:
        """What has come, with so many bytes of metadata in front of each frame. Never waits."""
        found, chunks = [], []
        for at, length, _ in self._received.take(most):
            frame = self._memory[at : at + length]
            found.append(Received(self._memory[at - metadata : at], frame))
            chunks.append(at & ~(CHUNK_BYTES - 1))
        self._free.put(chunks)
        return found

    def statistics(self) -> dict[str, int]:
        """What the kernel could not hand over, by its own names."""
        raw = self._socket.getsockopt(SOL_XDP, _STATISTICS, 8 * len(_STATISTICS_NAMES))
        values = struct.unpack(f"={len(raw) // 8}Q", raw)
        return dict(zip(_STATISTICS_NAMES, values, strict=False))

    def close(self) -> None:
        for ring in self._rings:
            ring.close()
        self._rings = []
        self._socket.close()
        self._memory.close()


def queues_of(name: str) -> list[int]:
    """Receive queues of an interface of this network namespace. Raises OSError."""
    # struct ethtool_channels: command, four maxima, then rx, tx, other, combined.
    channels = c.create_string_buffer(struct.pack("=9I", _GET_CHANNELS, *[0] * 8), 36)
    request = struct.pack("16sP16x", name.encode(), c.addressof(channels))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            fcntl.ioctl(asker, _ETHTOOL, request)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise OSError(error.errno, f"asking {name} for its queues: {error.strerror}") from error
            return [0]  # a driver with nothing to choose
    numbers = struct.unpack("=9I", channels.raw)
    return list(range(max(1, numbers[5] + numbers[8])))


def _libc() -> c.CDLL:
    library = c.CDLL(None, use_errno=True)
    library.bind.argtypes = [c.c_int, c.c_char_p, c.c_uint]
    return library
