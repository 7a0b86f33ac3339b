"""The tc programs: marks and HTB classes of what the kernel sends, and clients that come back with a cookie.

Attached by tcx links (Linux 6.6); below, by clsact filters, which stay without a pin.
"""

from __future__ import annotations

import ctypes as c
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xds_agent.datapath.info import cookies_missing, verified_instructions
from xds_agent.datapath.libbpf import check, library
from xds_agent.datapath.link import Link
from xds_agent.datapath.maps import Map
from xds_agent.datapath.objects import Object
from xds_agent.datapath.program import Generation

Direction = Literal["ingress", "egress"]
_TCX = {"ingress": 46, "egress": 47}  # BPF_TCX_INGRESS, BPF_TCX_EGRESS
_CLSACT = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}  # ffff:fff2, ffff:fff3
_HANDLE, _PRIORITY = 1, 49152
# Kernels before tcx do not know the attach type.
_NO_TCX = (errno.EINVAL, errno.EOPNOTSUPP)
# No such filter, no clsact to have it, no such interface.
_GONE = (errno.ENOENT, errno.EINVAL, errno.ENODEV)


@dataclass
class TcGeneration:
    """Both programs, with the maps of the XDP generation they belong to. `missing`: as Generation has it."""

    fds: dict[Direction, int]
    instructions: dict[Direction, int]
    maps: dict[str, Map]
    missing: tuple[str, ...]
    _object: Object

    def put_egress(self, service: int, *, htb_class: int = 0, dscp: int | None = None) -> None:
        """What leaves in the name of this service: its class (major << 16 | minor, 0: by DSCP) and its mark.

        Raises ValueError, OSError.
        """
        value = {"class": htb_class, "marked": dscp is not None, "dscp": dscp or 0}
        self.maps["service_egress"].put(service, value)

    def put_class(self, dscp: int, htb_class: int) -> None:
        """The class of what no service says a class for. Raises OSError."""
        self.maps["dscp_classes"].put(dscp, htb_class)

    def close(self) -> None:
        self._object.close()


def load_tc(path: Path, *, beside: Generation) -> TcGeneration:
    """Load both programs onto the maps of `beside`.

    Where the kernel cannot accept cookies, `ingress` is left out and `missing` says so.

    Raises:
        Unavailable: the object or libbpf is missing, or no right to load programs.
        OSError: the verifier's last lines.
    """
    opened = Object(path, "tc")
    try:
        missing = cookies_missing()
        directions: tuple[Direction, ...] = ("egress",) if missing else ("egress", "ingress")
        if missing:
            opened.leave_out("tc_ingress")
        opened.resize({"service_egress": beside.sizes.services})
        for name in opened.own_maps():
            if name in beside.maps:
                opened.reuse(name, beside.maps[name].fd)
        opened.load()
        fds = {direction: opened.fd(f"tc_{direction}") for direction in directions}
        walked = {direction: verified_instructions(fd) for direction, fd in fds.items()}
        return TcGeneration(fds, walked, opened.typed(), (missing,) if missing else (), opened)
    except BaseException:
        opened.close()
        raise


@dataclass
class _One:
    program_fd: int


class TcLink:
    """A program on one side of an interface: by a tcx link, or (`clsact`) by a filter without descriptor."""

    def __init__(self, link: Link | None, interface: int, direction: Direction) -> None:
        self._link, self._interface, self._direction = link, interface, direction

    @classmethod
    def attach(
        cls, generation: TcGeneration, interface: int, direction: Direction, *, tcx: bool = True
    ) -> TcLink:
        """Raises OSError, KeyError if that program is missing on this kernel."""
        fd = generation.fds[direction]
        if tcx:
            made = library().bpf_link_create(fd, interface, _TCX[direction], None)
            if made >= 0:
                return cls(Link(made), interface, direction)
            if c.get_errno() not in _NO_TCX and -made not in _NO_TCX:
                check(made, f"attaching to {direction} of interface {interface}")
        link = cls(None, interface, direction)
        link._filter(fd)
        return link

    @classmethod
    def open(cls, pin: Path, interface: int, direction: Direction) -> TcLink | None:
        """A pinned link, None if there is none."""
        link = Link.open(pin)
        return cls(link, interface, direction) if link else None

    @property
    def clsact(self) -> bool:
        return self._link is None

    def pin(self, path: Path) -> None:
        """Keep it beyond this process; a filter stays anyway."""
        if self._link:
            self._link.pin(path)

    def update(self, generation: TcGeneration) -> None:
        """From the next packet on, this generation's program runs."""
        fd = generation.fds[self._direction]
        if self._link:
            self._link.update(_One(fd))
        else:
            self._filter(fd)

    def close(self) -> None:
        """Give back the descriptor (which detaches a link that is not pinned); a filter stays."""
        if self._link:
            self._link.close()

    def attached(self) -> bool:
        """False once it was taken off, or its interface is gone. Raises OSError."""
        if self._link:
            return self._link.interface() == self._interface
        from pyroute2 import IPRoute, NetlinkError

        with IPRoute() as route:
            try:
                found = list(route.get_filters(index=self._interface, parent=_CLSACT[self._direction]))
            except NetlinkError as error:
                if error.code in _GONE:
                    return False
                raise OSError(error.code, f"filters of interface {self._interface}") from error
        return any(one["info"] >> 16 == _PRIORITY for one in found)

    def detach(self) -> None:
        """Off at once, whoever else holds it; what is off already is. Raises OSError."""
        if self._link:
            self._link.detach()
            return
        from pyroute2 import IPRoute, NetlinkError

        with IPRoute() as route:
            try:
                route.tc("del-filter", "bpf", self._interface, _HANDLE, **self._place())
            except NetlinkError as error:
                if error.code not in _GONE:
                    raise OSError(error.code, f"filter of interface {self._interface}") from error

    @classmethod
    def filter(cls, interface: int, direction: Direction) -> TcLink:
        """The filter that an earlier process may have left there."""
        return cls(None, interface, direction)

    def _filter(self, fd: int) -> None:
        from pyroute2 import IPRoute, NetlinkError

        with IPRoute() as route:
            try:
                route.tc("add", "clsact", self._interface)
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise OSError(error.code, f"clsact on interface {self._interface}") from error
            try:
                route.tc(
                    "replace-filter",
                    "bpf",
                    self._interface,
                    _HANDLE,
                    fd=os.dup(fd),
                    name=f"tc_{self._direction}",
                    direct_action=True,
                    **self._place(),
                )
            except NetlinkError as error:
                raise OSError(error.code, f"filter on {self._direction} of {self._interface}") from error

    def _place(self) -> dict[str, int]:
        return {"parent": _CLSACT[self._direction], "prio": _PRIORITY}
