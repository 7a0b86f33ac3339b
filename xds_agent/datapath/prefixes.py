"""Networks by the million, packed: what access lists are made of, without an object for each. Pure."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network
_ADDRESS_BYTES = {4: 4, 6: 16}
# Of a key of the kernel's tries: an int of the machine.
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Per network the address as it is on the wire and a byte of length, one after the other."""

    ipv4: bytes = b""
    ipv6: bytes = b""

    @classmethod
    def of(cls, networks: Iterable[Network]) -> Prefixes:
        packed: dict[int, list[bytes]] = {4: [], 6: []}
        for one in networks:
            packed[one.version].append(one.network_address.packed + bytes([one.prefixlen]))
        return cls(b"".join(packed[4]), b"".join(packed[6]))

    @property
    def problem(self) -> str:
        """Why this is no list of networks; "" if it is one."""
        for version, packed in self._versions:
            size = _ADDRESS_BYTES[version]
            if len(packed) % (size + 1):
                return f"{len(packed)} bytes are no list of networks of IPv{version}"
            if max(packed[size :: size + 1], default=0) > size * 8:
                return f"a network of IPv{version} is longer than /{size * 8}"
        return ""

    def __len__(self) -> int:
        return self.count(4) + self.count(6)

    def count(self, version: int) -> int:
        """Of one IP version."""
        return len(self.ipv4 if version == 4 else self.ipv6) // (_ADDRESS_BYTES[version] + 1)

    def __iter__(self) -> Iterator[Network]:
        for version, packed in self._versions:
            size, kind = _ADDRESS_BYTES[version], IPv4Network if version == 4 else IPv6Network
            for at in range(0, len(packed), size + 1):
                yield kind((packed[at : at + size], packed[at + size]), strict=False)

    @property
    def _versions(self) -> tuple[tuple[int, bytes], ...]:
        return (4, self.ipv4), (6, self.ipv6)

    def lengths4(self) -> bytes:
        return self.ipv4[4::5]

    def addresses4(self) -> array[int]:
        """IPv4 addresses as numbers."""
        found = array("I", _columns(self.ipv4, 5, [0, 1, 2, 3]))
        if sys.byteorder == "little":
            found.byteswap()
        return found

    def keys(self, version: int) -> bytes:
        """As the tries of the kernel have them: the length as an int of the machine, then the address."""
        size = _ADDRESS_BYTES[version]
        packed = self.ipv4 if version == 4 else self.ipv6
        lengths: list[int | None] = [None] * _LENGTH_BYTES
        lengths[0 if sys.byteorder == "little" else -1] = size
        return _columns(packed, size + 1, [*lengths, *range(size)])


def _columns(rows: bytes, width: int, columns: list[int | None]) -> bytes:
    """These columns of rows of bytes, None for zeros."""
    found = bytearray(len(rows) // width * len(columns))
    for at, column in enumerate(columns):
        if column is not None:
            found[at :: len(columns)] = rows[column::width]
    return bytes(found)
