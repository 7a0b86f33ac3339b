"""Attach to a NIC by a pinned bpf_link: it survives its owner, and one update exchanges the program."""

from __future__ import annotations

import ctypes as c
import errno
import os
import struct
from pathlib import Path
from typing import Protocol

from xds_agent.datapath.libbpf import check, library

BPF_XDP = 37
# Of linux/if_link.h.
SKB_MODE, NATIVE_MODE = 1 << 1, 1 << 2
# struct bpf_link_info: type, id and program, then what is XDP's.
_INFO_INTERFACE = 16


class _LinkOptions(c.Structure):
    """bpf_link_create_opts and bpf_link_update_opts start alike: size, flags."""

    _fields_ = [("sz", c.c_size_t), ("flags", c.c_uint), ("second", c.c_uint), ("rest", c.c_ulonglong * 4)]


class Program(Protocol):
    """Whatever has a loaded program: a Generation, a Decap, one that was kept."""

    @property
    def program_fd(self) -> int: ...


class Link:
    """An attached program. Closing the descriptor of an unpinned link detaches it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def attach(cls, generation: Program, interface: int, *, native: bool = True) -> Link:
        """Attach to an interface by index.

        Raises OSError: EBUSY if another program is there, EOPNOTSUPP if the driver has no native XDP.
        """
        options = _LinkOptions(sz=c.sizeof(_LinkOptions), flags=NATIVE_MODE if native else SKB_MODE)
        fd = library().bpf_link_create(generation.program_fd, interface, BPF_XDP, c.byref(options))
        return cls(check(fd, f"attaching to interface {interface}"))

    @classmethod
    def open(cls, pin: Path) -> Link | None:
        """A pinned link, None if there is none."""
        fd = library().bpf_obj_get(str(pin).encode())
        if fd < 0 and (c.get_errno() == errno.ENOENT or fd == -errno.ENOENT):
            return None
        return cls(check(fd, f"opening {pin}"))

    @classmethod
    def take_off(cls, pin: Path) -> bool:
        """What is pinned there goes off its interface at once, the pin first. False if there was none.

        A pin that is removed alone, as the last to hold its link, leaves it to the kernel when the program
        goes. Raises OSError.
        """
        link = cls.open(pin)
        if link is None:
            return False
        try:
            pin.unlink(missing_ok=True)
            link.detach()
        finally:
            link.close()
        return True

    def pin(self, path: Path) -> None:
        """Keep it beyond this process. The folder must be on bpffs."""
        path.parent.mkdir(parents=True, exist_ok=True)
        check(library().bpf_obj_pin(self.fd, str(path).encode()), f"pinning {path}")

    def update(self, generation: Program) -> None:
        """From the next packet on, this generation runs; none is missed and none runs through neither."""
        check(library().bpf_link_update(self.fd, generation.program_fd, None), "updating the link")

    def detach(self) -> None:
        """Off the interface at once, whoever else holds the link."""
        check(library().bpf_link_detach(self.fd), "detaching the link")

    def program_id(self) -> int:
        """The kernel's number of the program that runs."""
        return int(struct.unpack_from("=III", self._info())[2])

    def interface(self) -> int:
        """Number of the interface it is attached to, 0 once it is detached (or the interface gone)."""
        return int(struct.unpack_from("=I", self._info(), _INFO_INTERFACE)[0])

    def _info(self) -> bytes:
        raw, length = c.create_string_buffer(64), c.c_uint(64)
        check(library().bpf_obj_get_info_by_fd(self.fd, raw, c.byref(length)), "asking about a link")
        return raw.raw

    def close(self) -> None:
        os.close(self.fd)
