"""The clients' network: a namespace of its own, routed to the clouds: client, edge and backend are apart."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from lab.commands import attempt, run
from lab.place import Place

T = TypeVar("T")
_NEWNET = 0x40000000
_NUMBER = 9
# Last octets: an ordinary client, one that sends too much, one that is denied (protection.yml).
ORDINARY, GREEDY, DENIED = 2, 3, 66


def namespace(place: Place) -> str:
    return f"{place.prefix}-clients"


def address(place: Place, last: int) -> str:
    """Address of a client."""
    return f"10.{place.octet}.{_NUMBER}.{last}"


def ensure(place: Place) -> None:
    """Make the namespace and its way to the clouds, if it is not there."""
    name, here = namespace(place), near(place)
    if Path(f"/run/netns/{name}").exists() and Path(f"/sys/class/net/{here}").exists():
        return
    remove(place)
    run(["ip", "netns", "add", name])
    run(["ip", "link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", name])
    run(["ip", "addr", "add", f"{address(place, 1)}/24", "dev", here])
    run(["ip", "link", "set", here, "up"])
    inside = ["ip", "-n", name]
    for last in (ORDINARY, GREEDY, DENIED):
        run([*inside, "addr", "add", f"{address(place, last)}/24", "dev", "eth0"])
    for device in ("lo", "eth0"):
        run([*inside, "link", "set", device, "up"])
    run([*inside, "route", "add", "default", "via", address(place, 1)])
    # What XDP forwards is not summed by anybody on its way: the sender has to.
    run(["ip", "netns", "exec", name, "ethtool", "-K", "eth0", "tx", "off"])


def remove(place: Place) -> None:
    attempt(["ip", "link", "del", near(place)])
    if Path(f"/run/netns/{namespace(place)}").exists():
        attempt(["ip", "netns", "del", namespace(place)])


def range_of(place: Place) -> str:
    """Addresses of all clients."""
    return f"{address(place, 0)}/24"


def near(place: Place) -> str:
    """The end of their wire on this machine; at most 15 characters, in which the digest tells labs apart."""
    return f"{place.prefix.split('-')[0]}-cl" if place.name == "lab" else f"{place.prefix.split('-')[0]}-c2"


def inside(place: Place, work: Callable[[], T]) -> T:
    """Do ``work`` in the clients' namespace; sockets stay where they were made."""
    found: list[T] = []
    failed: list[BaseException] = []

    def there() -> None:
        try:
            with Path(f"/run/netns/{namespace(place)}").open("rb") as entry:
                if ctypes.CDLL(None, use_errno=True).setns(entry.fileno(), _NEWNET):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            found.append(work())
        except BaseException as problem:
            failed.append(problem)

    thread = threading.Thread(target=there)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def connected(place: Place, last: int, target: tuple[str, int], *, timeout_s: float) -> socket.socket:
    """A TCP connection from a client."""
    return inside(
        place,
        lambda: socket.create_connection(target, timeout=timeout_s, source_address=(address(place, last), 0)),
    )


def datagrams(place: Place, last: int, *, timeout_s: float) -> socket.socket:
    """A UDP socket of a client."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address(place, last), 0))
        made.settimeout(timeout_s)
        return made

    return inside(place, make)


def pings(place: Place, last: int, *, timeout_s: float) -> socket.socket:
    """A raw ICMP socket of a client."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        made.bind((address(place, last), 0))
        made.settimeout(timeout_s)
        return made

    return inside(place, make)
