"""Records of one struct, by the thousand: what BTF says is compiled once into a format of `struct`."""

from __future__ import annotations

import struct
import sys
from typing import Any

from xds_agent.datapath.btf import Btf

_LETTERS = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Record:
    """Reads a flat struct: numbers, and arrays or unions as bytes."""

    def __init__(self, btf: Btf, name: str) -> None:
        """Raises KeyError for a struct the object has not."""
        number = btf.number(name)
        self.size = btf.size(number)
        self._names: list[str] = []
        swapped, text, at = [], "=", 0
        for member in btf.members(btf.resolved(number)):
            size = btf.size(member.type)
            whole = btf.is_number(btf.resolved(member.type))
            text += f"{member.offset - at}x" + (_LETTERS[size] if whole else f"{size}s")
            if whole and size > 1 and btf.is_big_endian(member.type) and sys.byteorder == "little":
                swapped.append((len(self._names), size))
            self._names.append(member.name)
            at = member.offset + size
        self._struct, self._swapped = struct.Struct(f"{text}{self.size - at}x"), tuple(swapped)

    def read(self, data: bytes, at: int = 0) -> dict[str, Any]:
        """Fields by name. Raises struct.error for fewer bytes than it has."""
        values = list(self._struct.unpack_from(data, at))
        for index, size in self._swapped:
            values[index] = int.from_bytes(values[index].to_bytes(size, "little"), "big")
        return dict(zip(self._names, values, strict=True))
