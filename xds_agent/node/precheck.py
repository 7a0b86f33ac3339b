"""What no shadow can know: whether this host has the addresses and ports that a revision's listeners want.

Looked at before Envoy is given anything. Envoy would refuse most of it too, in words of its own; a port that
it could share with a stranger (SO_REUSEPORT) it would not, and clients would meet now the one, now the other.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from envoy.config.core.v3 import address_pb2
from envoy.config.listener.v3 import listener_pb2

from xds_agent.node import sockets
from xds_agent.node.envoy_link import Refusal
from xds_agent.node.sockets import Address, Listening
from xds_agent.snapshot.diff import compare
from xds_agent.snapshot.resource import LISTENER, Snapshot

# More names than this help nobody.
_SHOWN = 3


class Wanted(NamedTuple):
    """What one listener binds."""

    udp: bool
    address: str
    port: int

    def __str__(self) -> str:
        return f"{'UDP' if self.udp else 'TCP'} port {self.port}"


@dataclass(frozen=True)
class Host:
    """What the check asks of this host; `envoy` is (pid, uid) of ours, None while it is away."""

    envoy: tuple[int, int] | None
    listening: Callable[[], list[Listening]] = sockets.listening
    owner: Callable[[int], tuple[int, str] | None] = sockets.owner
    command_of: Callable[[int], str] = sockets.command_of


def needed(held: Snapshot, target: Snapshot) -> bool:
    """Whether any listener is another one: most revisions leave them alone."""
    return bool(compare(held.of_type(LISTENER), target.of_type(LISTENER)).updated)


def check(held: Snapshot, target: Snapshot, host: Host) -> Refusal | None:
    """Why this host cannot serve `target`, or None. Blocks for milliseconds."""
    before = {one for _, one in _wanted(held)}
    fresh = [(name, one) for name, one in _wanted(target) if one not in before]
    if not fresh:
        return None
    faults = [(name, words) for name, one in fresh if (words := _missing(one.address))]
    if host.envoy is not None:
        table = host.listening()
        faults += [(name, words) for name, one in fresh if (words := _taken(one, table, host))]
    if not faults:
        return None
    told = [f"listener {name} wants {words}" for name, words in faults]
    more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    names = tuple(dict.fromkeys(name for name, _ in faults))
    return Refusal(LISTENER, names, "; ".join(told[:_SHOWN]) + more)


def peer_of(path: str) -> tuple[int, int] | None:
    """(pid, uid) of the process that listens on a Unix socket; None when nobody does."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            client.connect(path)
            raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    except OSError:
        return None
    pid, uid, _ = (int.from_bytes(raw[at : at + 4], "little") for at in (0, 4, 8))
    return pid, uid


def _wanted(snapshot: Snapshot) -> Iterable[tuple[str, Wanted]]:
    for name, resource in sorted(snapshot.of_type(LISTENER).items()):
        listener = listener_pb2.Listener.FromString(resource.body.value)
        for address in (listener.address, *(one.address for one in listener.additional_addresses)):
            at = address.socket_address
            if at.port_value:
                udp = at.protocol == address_pb2.SocketAddress.UDP
                yield name, Wanted(udp, at.address, at.port_value)


def _missing(address: str) -> str:
    """Words where no network card here has the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            return (
                f"address {address}, which this host does not have; give it to a network card, or correct it"
            )
    return ""


def _taken(wanted: Wanted, table: Iterable[Listening], host: Host) -> str:
    """Words where another process than Envoy holds the port."""
    for one in table:
        if one.udp == wanted.udp and one.port == wanted.port and _meet(wanted, one.address):
            stranger = _stranger(one, host)
            if stranger:
                return f"{wanted}, on which {stranger} listens already; stop it, or choose another port"
    return ""


def _meet(wanted: Wanted, theirs: Address) -> bool:
    """Whether the two cannot be bound at once, as far as addresses say."""
    ours = ipaddress.ip_address(wanted.address or "0.0.0.0")
    if ours.version == theirs.version:
        return ours == theirs or ours.is_unspecified or theirs.is_unspecified
    # Whether a socket on :: takes IPv4 as well cannot be seen: trying tells, where we may try.
    return (ours.is_unspecified or theirs.is_unspecified) and _refused(wanted)


def _refused(wanted: Wanted) -> bool:
    kind = socket.SOCK_DGRAM if wanted.udp else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in wanted.address else socket.AF_INET
    try:
        with socket.socket(family, kind) as probe:
            # Connections that have ended and linger are nobody's.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0 if wanted.udp else 1)
            probe.bind((wanted.address, wanted.port))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def _stranger(one: Listening, host: Host) -> str:
    """Who holds the socket, in words; empty when that is Envoy, or an earlier one that drains."""
    assert host.envoy is not None
    pid, uid = host.envoy
    found = host.owner(one.inode)
    if found is None:
        return "" if one.uid == uid else f"a process of user {sockets.user_of(one.uid)}"
    if found[0] == pid or (one.uid == uid and found[1] == host.command_of(pid)):
        return ""
    return f"{found[1]} (pid {found[0]}, user {sockets.user_of(one.uid)})"
