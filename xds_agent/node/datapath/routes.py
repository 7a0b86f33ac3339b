"""Next hops of reals, asked for once each, and again after the kernel said that routes changed."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Mapping

from xds_agent.node.datapath.network import Address, Hop, Network
from xds_agent.node.datapath.wanted import Wanted, WantedService, differing
from xds_agent.node.datapath.ways import Ways

# Links, addresses, routes and rules of both IP versions, next hop objects.
_ROUTING = 1 << 0 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 31
# Disciplines, classes and filters of tc.
SHAPING = 1 << 3
_READ_BYTES = 65_536
# Asked again at each look whatever was said: not everything is announced (an ICMP redirect is not).
_AGAIN = 8


class NetlinkEvents:
    """Says whether links, addresses or routes may have changed; or what else the kernel announces to `groups`
    (RTMGRP). Never wrong in saying that they have not."""

    def __init__(self, groups: int = _ROUTING) -> None:
        self._groups = groups
        self._socket: socket.socket | None = None
        self._count = 0

    def count(self) -> int:
        """Another number than before if anything may have changed since."""
        if self._socket is None:
            self._count += 1
            with contextlib.suppress(OSError):
                self._open()
            return self._count
        try:
            while self._socket.recv(_READ_BYTES):
                self._count += 1
        except BlockingIOError:
            pass
        except OSError:
            # More came than the buffer holds.
            self._count += 1
        return self._count

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> None:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            opened.bind((0, self._groups))
        except OSError:
            opened.close()
            raise
        self._socket = opened


class Routes:
    """Hops of the reals of one revision after another. For one thread at a time."""

    def __init__(self, events: NetlinkEvents) -> None:
        self._events, self._seen = events, -1
        self._hops: dict[Address, Hop | None] = {}
        self._services: Mapping[str, WantedService] = {}
        # How many services send to each.
        self._users: dict[Address, int] = {}

    def ways(
        self, wanted: Wanted, indices: Collection[int], *, known: Mapping[Address, bytes], wait: bool
    ) -> Ways:
        """`known`: MACs that need not be asked for; `wait`: for those of neighbours that nobody knows, up to
        a second. Raises NetworkError, OSError."""
        self._follow(wanted.services)
        seen = self._events.count()
        if seen != self._seen:
            self._hops.clear()
            known = {}
        asked = [one for one in self._users if one not in self._hops]
        unknown = any(one not in known for one in self._users)
        if asked or unknown:
            with Network() as network:
                again = [] if asked else list(self._hops)[:_AGAIN]
                for one in (*asked, *again):
                    # Taken out first: what was asked about last comes last.
                    self._hops.pop(one, None)
                    self._hops[one] = network.hop(one)
                ways = Ways.over(network, self._found(), indices, wanted=self._users, known=known, wait=wait)
        else:
            macs = {one: known[one] for one in self._users}
            ways = Ways(self._found(), macs, frozenset(indices), frozenset(self._users))
        self._seen = seen
        return ways

    def _found(self) -> dict[Address, Hop]:
        return {one: hop for one in self._users if (hop := self._hops[one]) is not None}

    def _follow(self, services: Mapping[str, WantedService]) -> None:
        before, differ = self._services, differing(self._services, services)
        # Those that come first: what old and new have in common is not asked about again.
        for name in differ & services.keys():
            self._count(services[name], 1)
        for name in differ & before.keys():
            self._count(before[name], -1)
        self._services = services

    def _count(self, one: WantedService, step: int) -> None:
        if one.forward == "echo":
            return
        for address in {real.key.address for real in one.reals}:
            count = self._users.get(address, 0) + step
            if count:
                self._users[address] = count
                continue
            del self._users[address]
            self._hops.pop(address, None)
