"""Ports for tests to listen on, each handed out once.

What the kernel chooses (port 0) anybody may be given next, as the near end of a connection too: before the
test listens there, and while what listened there restarts. These lie below the kernel's own (from 32768
on, as Linux comes), and each worker of pytest-xdist has a range of its own.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket

FIRST = 20_000
EACH = 4_000
RANGES = 3
# Runs beside one another on this machine begin at different places.
_numbers = itertools.count(os.getpid() * 97)


def range_of(worker: str) -> range:
    """The ports of a worker ("gw0"), or of a run without workers ("")."""
    start = FIRST + EACH * (int(worker.removeprefix("gw") or RANGES - 1) % RANGES)
    return range(start, start + EACH)


def free_port() -> int:
    """One that nobody has on any address, for TCP or for UDP, and that is handed out to nobody else."""
    ours = range_of(os.environ.get("PYTEST_XDIST_WORKER", ""))
    for _ in ours:
        port = ours[next(_numbers) % EACH]
        if not _is_taken(port):
            return port
    raise OSError(errno.EADDRINUSE, f"all ports from {ours.start} to {ours.stop - 1} are taken")


def _is_taken(port: int) -> bool:
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                with socket.socket(family, kind) as probe:
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind((address, port))
            except OSError as error:
                # A machine without IPv6 says something else.
                if error.errno == errno.EADDRINUSE:
                    return True
    return False
