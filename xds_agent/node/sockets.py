"""Who listens on this host: the kernel's tables of sockets, read without any privilege."""

from __future__ import annotations

import ipaddress
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
# State of a listening TCP socket; a bound UDP socket that is connected to nobody has the other.
_STATES = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}
_WORD = 8
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Listening:
    """One socket that waits for others."""

    udp: bool
    address: Address
    port: int
    uid: int
    inode: int


def listening(proc: Path = _PROC) -> list[Listening]:
    """Every such socket of this network namespace; tables that the kernel does not have are left out."""
    return [one for table in _STATES for one in _table(proc, table)]


def owner(inode: int, proc: Path = _PROC) -> tuple[int, str] | None:
    """(pid, command) of a process that holds the socket; None where we may not look."""
    wanted = f"socket:[{inode}]"
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        try:
            if any(str(one.readlink()) == wanted for one in (process / "fd").iterdir()):
                return int(process.name), command_of(int(process.name), proc)
        except OSError:
            continue
    return None


def command_of(pid: int, proc: Path = _PROC) -> str:
    """The process' name; empty when it is gone."""
    try:
        return (proc / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def user_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _table(proc: Path, name: str) -> Iterator[Listening]:
    try:
        lines = (proc / "net" / name).read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _STATES[name]:
            address, _, port = fields[1].partition(":")
            yield Listening(
                name.startswith("udp"), _address(address), int(port, 16), int(fields[7]), int(fields[9])
            )


def _address(text: str) -> Address:
    """The kernel prints each word of four bytes as a number of this machine."""
    words = [text[at : at + _WORD] for at in range(0, len(text), _WORD)]
    packed = b"".join(bytes.fromhex(word)[::-1] for word in words)
    return ipaddress.ip_address(packed)
