"""This host's network as the datapath needs it: addresses, next hops and their MACs, the gateway. Netlink.

Everything here blocks for milliseconds (a resolution: up to a second): call it off the event loop.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

Address = IPv4Address | IPv6Address
_DISCARD_PORT = 9
_RESOLVE_S = 1.0
_STEP_S = 0.02
_REACHABLE, _STALE, _DELAY, _PROBE, _PERMANENT, _NOARP = 0x02, 0x04, 0x08, 0x10, 0x80, 0x40
# Written down: the kernel asks nobody.
_STATIC = _PERMANENT | _NOARP
_KNOWN = _REACHABLE | _STALE | _DELAY | _PROBE | _STATIC
_GROUP = 0x01  # in the first byte of a MAC
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_FIRST_GLOBAL_SCOPE = 253  # RT_SCOPE_LINK: what is beyond it is of one host


class NetworkError(Exception):
    """The host's network is not as the revision needs it; the words name what and the remedy."""


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface."""

    name: str
    index: int
    mtu: int
    mac: bytes
    driver: str
    addresses: tuple[Address, ...]
    """Usable beyond the link, the primary one of each IP version first."""
    xdp: int
    """Number of the XDP program that is attached, 0 for none."""

    def source(self, version: int) -> Address | None:
        """The address that packets to reals are sent from."""
        return next((one for one in self.addresses if one.version == version), None)


@dataclass(frozen=True, slots=True)
class Hop:
    """The way to an address."""

    index: int
    gateway: Address | None
    """None: it is on the link."""


@dataclass(frozen=True, slots=True)
class _Neighbour:
    mac: bytes
    state: int


class Network:
    """A netlink socket, opened for one batch of questions (`with Network() as network`)."""

    def __enter__(self) -> Network:
        # Imported here: pyroute2 takes a fifth of a second, which no boot without a datapath should wait for.
        from pyroute2 import IPRoute

        self._netlink: Any = IPRoute()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Raises NetworkError where the kernel would not answer: callers know of no other."""
        from pyroute2.netlink.exceptions import NetlinkError

        self._netlink.close()
        if isinstance(error, NetlinkError):
            raise NetworkError(f"the kernel did not say how the network is: {error}") from error

    def interface(self, name: str) -> Interface:
        """Raises NetworkError when there is none of that name."""
        from xds_agent.node.abilities import driver_of

        links = list(self._netlink.get_links(ifname=name)) if name in self._names() else []
        if not links:
            known = ", ".join(sorted(self._names() - {"lo"})) or "none"
            raise NetworkError(f"there is no interface {name} (there are: {known}); correct xdp_interfaces")
        link = links[0]
        info = link.get_attr("IFLA_LINKINFO")
        kind = info.get_attr("IFLA_INFO_KIND") if info else None
        return Interface(
            name=name,
            index=link["index"],
            mtu=link.get_attr("IFLA_MTU") or 0,
            mac=bytes.fromhex((link.get_attr("IFLA_ADDRESS") or "").replace(":", "")),
            # A virtual one says its kind itself, also in a namespace whose /sys is that of another.
            driver=kind or driver_of(name) or "",
            addresses=tuple(self._addresses(link["index"])),
            xdp=_program(link),
        )

    def _names(self) -> set[str]:
        return {link.get_attr("IFLA_IFNAME") for link in self._netlink.get_links()}

    def _addresses(self, index: int) -> list[Address]:
        found = []
        for entry in self._netlink.get_addr(index=index):
            if entry["scope"] >= _FIRST_GLOBAL_SCOPE:
                continue
            found.append(ipaddress.ip_address(entry.get_attr("IFA_LOCAL") or entry.get_attr("IFA_ADDRESS")))
        return found

    def add_address(self, index: int, address: Address) -> None:
        """Make `address` one of this host's: neighbours are answered for it. Raises NetworkError."""
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            self._netlink.addr("replace", index=index, address=str(address), prefixlen=address.max_prefixlen)
        except NetlinkError as error:
            raise NetworkError(f"the vip {address} cannot be set: {error}") from error

    def remove_address(self, address: Address) -> None:
        """From whatever interface has it as a host's address of its own. Raises NetworkError."""
        from pyroute2.netlink.exceptions import NetlinkError

        for entry in list(self._netlink.get_addr(address=str(address), prefixlen=address.max_prefixlen)):
            try:
                self._netlink.addr(
                    "del", index=entry["index"], address=str(address), prefixlen=address.max_prefixlen
                )
            except NetlinkError as error:
                raise NetworkError(f"the vip {address} cannot be taken away: {error}") from error

    def hop(self, address: Address) -> Hop | None:
        """The way to `address`, None where there is no route."""
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            [route] = self._netlink.route("get", dst=str(address), family=_FAMILIES[address.version])
        except (NetlinkError, ValueError):
            return None
        gateway = route.get_attr("RTA_GATEWAY")
        return Hop(route.get_attr("RTA_OIF"), ipaddress.ip_address(gateway) if gateway else None)

    def source(self, address: Address, index: int) -> Address | None:
        """The address of this host that the kernel asks the neighbour `address` from, None if it has none."""
        from pyroute2.netlink.exceptions import NetlinkError

        family = _FAMILIES[address.version]
        try:
            [route] = self._netlink.route("get", dst=str(address), oif=index, family=family)
        except (NetlinkError, ValueError):
            return None
        found = route.get_attr("RTA_PREFSRC")
        return ipaddress.ip_address(found) if found else None

    def gateways(self, indices: Iterable[int]) -> list[tuple[Address, int]]:
        """Default gateways over these interfaces, with the interface."""
        wanted, found = set(indices), []
        for family in _FAMILIES.values():
            for route in self._netlink.get_default_routes(family=family):
                gateway, index = route.get_attr("RTA_GATEWAY"), route.get_attr("RTA_OIF")
                if gateway and index in wanted:
                    found.append((ipaddress.ip_address(gateway), index))
        return found

    def macs(self, hops: Iterable[tuple[Address, int]], *, wait: bool) -> dict[tuple[Address, int], bytes]:
        """MACs of neighbours that are known; those that are not are asked for, with `wait` up to a second."""
        wanted = set(hops)
        deadline = time.monotonic() + _RESOLVE_S
        while True:
            # Before the look: one that was made in time may be old by now, where this process stood still.
            late = time.monotonic() > deadline
            known = self._neighbours()
            found = {hop: known[hop].mac for hop in wanted if hop in known}
            missing = wanted - found.keys()
            if not missing or late:
                return found
            for address, index in missing:
                _knock(address, index)
            if not wait:
                return found
            time.sleep(_STEP_S)

    def _neighbours(self) -> dict[tuple[Address, int], _Neighbour]:
        found = {}
        for entry in self._netlink.get_neighbours():
            mac = entry.get_attr("NDA_LLADDR")
            if mac and entry["state"] & _KNOWN and entry["family"] in _FAMILIES.values():
                address = ipaddress.ip_address(entry.get_attr("NDA_DST"))
                one = _Neighbour(bytes.fromhex(mac.replace(":", "")), entry["state"])
                found[address, entry["ifindex"]] = one
        return found

    def neighbours_on(self, index: int) -> list[Address]:
        """Those on the link that can be asked, first who answered last: the kernel knows a MAC of theirs."""
        found = [
            (address, one)
            for (address, there), one in self._neighbours().items()
            if there == index and not address.is_multicast and not one.state & _NOARP
            and any(one.mac) and not one.mac[0] & _GROUP
        ]  # fmt: skip
        return [address for address, _ in sorted(found, key=lambda pair: not pair[1].state & _REACHABLE)]

    def is_static(self, address: Address, index: int) -> bool:
        """True where the neighbour's MAC was written down: the kernel never asks for it."""
        one = self._neighbours().get((address, index))
        return one is not None and bool(one.state & _STATIC)

    def probe(self, address: Address, index: int) -> None:
        """Have the kernel ask a neighbour again whether it is there; `is_reachable` tells. One that was
        written down stays as it is: asked, it would be lost where it answers nobody."""
        one = self._neighbours().get((address, index))
        if one is None:
            _knock(address, index)
            return
        if one.state & _STATIC:
            return
        with contextlib.suppress(Exception):
            self._netlink.neigh(
                "replace", dst=str(address), ifindex=index, lladdr=one.mac.hex(":"), state="probe"
            )

    def is_reachable(self, address: Address, index: int) -> bool:
        """True once the neighbour has answered since it was last probed; always of one written down."""
        for entry in self._netlink.get_neighbours(ifindex=index):
            if entry.get_attr("NDA_DST") == str(address):
                return bool(entry["state"] & (_REACHABLE | _STATIC))
        return False


def index_of(name: str) -> int:
    """Number of an interface, 0 if there is none."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def _program(link: Any) -> int:
    xdp = link.get_attr("IFLA_XDP")
    if not xdp or not xdp.get_attr("IFLA_XDP_ATTACHED"):
        return 0
    for name in ("IFLA_XDP_PROG_ID", "IFLA_XDP_DRV_PROG_ID", "IFLA_XDP_SKB_PROG_ID"):
        if number := xdp.get_attr(name):
            return int(number)
    return 0


def _knock(address: Address, index: int) -> None:
    """A datagram to the discard port: the kernel has to find the neighbour first."""
    with socket.socket(_FAMILIES[address.version], socket.SOCK_DGRAM) as sender, contextlib.suppress(OSError):
        where: tuple[Any, ...] = (str(address), _DISCARD_PORT)
        sender.sendto(b"", where if address.version == 4 else (*where, 0, index))
