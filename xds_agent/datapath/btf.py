"""Types of a BPF object, read from its BTF (Documentation/bpf/btf.rst of the kernel).

Only what map layouts are made of: integers, arrays, structs, unions, enums, and what leads to them.
"""

from __future__ import annotations

import ctypes as c
import struct
from dataclasses import dataclass

from xds_agent.datapath.libbpf import check, library

_MAGIC = 0xEB9F
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM = 1, 2, 3, 4, 5, 6
_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _FUNC_PROTO, _VAR, _DATASEC = 8, 9, 10, 11, 13, 14, 15
_FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = 16, 17, 18, 19
_THROUGH = frozenset({_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG})
# Bytes that follow a type's head, per member (or once).
_PER_MEMBER = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}
_ONCE = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}


@dataclass(frozen=True, slots=True)
class Type:
    """One type. `size` is a size in bytes or the number of another type, by kind."""

    kind: int
    name: str
    members: int
    size: int
    body: bytes
    flag: bool


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    type: int
    offset: int


class Btf:
    """All types of an object, by number and by name."""

    def __init__(self, raw: bytes) -> None:
        magic, _version, _flags, head, types, types_size, strings, strings_size = struct.unpack_from(
            "=HBBIIIII", raw
        )
        if magic != _MAGIC:
            raise ValueError(f"not BTF of this machine's byte order: magic {magic:#x}")
        self._strings = raw[head + strings : head + strings + strings_size]
        self.types = [Type(0, "void", 0, 0, b"", False)]
        at, end = head + types, head + types + types_size
        while at < end:
            name, info, size = struct.unpack_from("=III", raw, at)
            kind, members = info >> 24 & 0x1F, info & 0xFFFF
            follows = _PER_MEMBER.get(kind, 0) * members + _ONCE.get(kind, 0)
            body = raw[at + 12 : at + 12 + follows]
            self.types.append(Type(kind, self._text(name), members, size, body, bool(info >> 31)))
            at += 12 + follows
        self._named = {(entry.kind, entry.name): number for number, entry in enumerate(self.types)}

    @classmethod
    def of_object(cls, opened: int) -> Btf:
        """BTF of an object that libbpf has opened, which fills in where variables lie. Raises OSError."""
        pointer, size = library().bpf_object__btf(opened), c.c_uint()
        check(pointer, "reading the object's BTF")
        return cls(c.string_at(library().btf__raw_data(pointer, c.byref(size)), size.value))

    def _text(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def number(self, name: str) -> int:
        """The struct or union of that name. Raises KeyError."""
        for kind in (_STRUCT, _UNION):
            if (kind, name) in self._named:
                return self._named[kind, name]
        raise KeyError(f"the object has no type '{name}'")

    def variable(self, name: str) -> int:
        """The global variable of that name (maps are variables). Raises KeyError."""
        if (_VAR, name) not in self._named:
            raise KeyError(f"the object has no variable '{name}'")
        return self._named[_VAR, name]

    def number_type(self) -> int:
        """An unsigned integer of 32 bits. Raises KeyError."""
        for number, entry in enumerate(self.types):
            if entry.kind == _INT and entry.size == 4 and not entry.body[3] & 1:
                return number
        raise KeyError("the object has no 32-bit unsigned integer")

    def offset_in(self, section: str, variable: str) -> int:
        """Where a variable lies in its section (.rodata, .bss). Raises KeyError."""
        wanted, entry = self.variable(variable), self.types[self._named[_DATASEC, section]]
        for number, offset, _size in struct.iter_unpack("=III", entry.body):
            if number == wanted:
                return int(offset)
        raise KeyError(f"{section} has no variable '{variable}'")

    def resolved(self, number: int) -> Type:
        """The type behind typedefs and qualifiers."""
        while self.types[number].kind in _THROUGH or self.types[number].kind == _VAR:
            number = self.types[number].size
        return self.types[number]

    def members(self, entry: Type) -> list[Member]:
        """Fields of a struct or union with their offsets in bytes."""
        fields = struct.iter_unpack("=III", entry.body)
        return [Member(self._text(name), kind, (bits & 0xFFFFFF) // 8) for name, kind, bits in fields]

    def element(self, entry: Type) -> tuple[int, int]:
        """Of an array: number of the element's type, count."""
        kind, _index, count = struct.unpack("=III", entry.body)
        return kind, count

    def pointed(self, number: int) -> int:
        """What a pointer points to."""
        return self.types[number].size

    def enum(self, name: str) -> dict[str, int]:
        """An enum's names and numbers, in the order of the source. Raises KeyError."""
        if (_ENUM, name) not in self._named:
            raise KeyError(f"the object has no enum '{name}'")
        values = struct.iter_unpack("=II", self.types[self._named[_ENUM, name]].body)
        return {self._text(text): number for text, number in values}

    def size(self, number: int) -> int:
        """Bytes of a type."""
        entry = self.resolved(number)
        if entry.kind == _ARRAY:
            element, count = self.element(entry)
            return self.size(element) * count
        return entry.size

    def is_array(self, entry: Type) -> bool:
        return entry.kind == _ARRAY

    def is_record(self, entry: Type) -> bool:
        return entry.kind in (_STRUCT, _UNION)

    def is_number(self, entry: Type) -> bool:
        return entry.kind in (_INT, _ENUM)

    def is_big_endian(self, number: int) -> bool:
        """Whether the field was declared in network order (__be16, __be32, __sum16)."""
        while self.types[number].kind in _THROUGH:
            if self.types[number].name in ("__be16", "__be32", "__be64"):
                return True
            number = self.types[number].size
        return False

    def map_types(self, name: str) -> tuple[int, int]:
        """Key and value types of a map, or of a struct that defines an inner map. Raises KeyError."""
        named = self._named.get((_VAR, name)) or self.number(name)
        definition = self.resolved(named)
        fields = {member.name: member.type for member in self.members(definition)}
        return self.pointed(fields["key"]), self.pointed(fields["value"])
