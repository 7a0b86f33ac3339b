"""How a C type lies in memory, taken from BTF: dictionaries of plain values in, bytes out, and back.

Numbers are plain integers; fields declared __be16 or __be32 are turned to network order here, so that callers
write ports as 443. Byte arrays and `union address` are bytes.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Mapping
from typing import Any, cast

from xds_agent.datapath.btf import Btf, Type

Value = Any


class Layout:
    """One type. `pack` starts from zeros, so that padding is always zero (hash maps compare it)."""

    def __init__(self, btf: Btf, number: int) -> None:
        self._btf, self._number = btf, number
        self.size = btf.size(number)

    def pack(self, value: Value) -> bytes:
        """Bytes of a value. Raises KeyError for an unknown field, ValueError for what does not fit."""
        target = bytearray(self.size)
        self._write(target, 0, self._number, value)
        return bytes(target)

    def unpack(self, data: bytes) -> Value:
        """The value in `data`."""
        if len(data) < self.size:
            raise ValueError(f"{len(data)} bytes cannot hold a value of {self.size}")
        return self._read(data, 0, self._number)

    def offset(self, name: str) -> int:
        """Where a field of the struct begins: of a million values one field is read without the rest."""
        members = self._btf.members(self._btf.resolved(self._number))
        return next(member.offset for member in members if member.name == name)

    def describe(self) -> str:
        """The layout as text: equal texts, equal layouts. Names count: a swap of fields must show."""
        return self._describe(self._number)

    def _order(self, number: int) -> str:
        return "big" if self._btf.is_big_endian(number) else sys.byteorder

    def _write(self, target: bytearray, at: int, number: int, value: Value) -> None:
        entry, size = self._btf.resolved(number), self._btf.size(number)
        if self._btf.is_number(entry):
            order = cast(Any, self._order(number))
            try:
                target[at : at + size] = int(value).to_bytes(size, order)
            except OverflowError as error:
                raise ValueError(f"{value} does not fit into {size} bytes") from error
        elif isinstance(value, bytes | bytearray):
            if len(value) > size:
                raise ValueError(f"{len(value)} bytes do not fit into {size}")
            target[at : at + len(value)] = value
        elif self._btf.is_array(entry):
            self._write_array(target, at, entry, value)
        else:
            self._write_record(target, at, entry, value)

    def _write_array(self, target: bytearray, at: int, entry: Type, values: Value) -> None:
        element, count = self._btf.element(entry)
        if len(values) > count:
            raise ValueError(f"{len(values)} elements do not fit into an array of {count}")
        step = self._btf.size(element)
        for index, value in enumerate(values):
            self._write(target, at + index * step, element, value)

    def _write_record(self, target: bytearray, at: int, entry: Type, value: Mapping[str, Value]) -> None:
        fields = {member.name: member for member in self._btf.members(entry)}
        for name, part in value.items():
            if name not in fields:
                raise KeyError(f"struct {entry.name} has no field '{name}'; it has {', '.join(fields)}")
            self._write(target, at + fields[name].offset, fields[name].type, part)

    def _read(self, data: bytes, at: int, number: int) -> Value:
        entry, size = self._btf.resolved(number), self._btf.size(number)
        if self._btf.is_number(entry):
            return int.from_bytes(data[at : at + size], cast(Any, self._order(number)))
        if self._btf.is_array(entry):
            element, count = self._btf.element(entry)
            step = self._btf.size(element)
            if step == 1:
                return bytes(data[at : at + size])
            return [self._read(data, at + index * step, element) for index in range(count)]
        members = self._btf.members(entry)
        if members and all(member.offset == 0 for member in members) and len(members) > 1:
            return bytes(data[at : at + size])  # a union: whoever reads it knows what is in it
        return {member.name: self._read(data, at + member.offset, member.type) for member in members}

    def _describe(self, number: int) -> str:
        entry = self._btf.resolved(number)
        if self._btf.is_number(entry):
            return f"{self._order(number)}{self._btf.size(number) * 8}"
        if self._btf.is_array(entry):
            element, count = self._btf.element(entry)
            return f"[{count}]{self._describe(element)}"
        if self._btf.is_record(entry):
            fields = (
                f"{member.name}@{member.offset}:{self._describe(member.type)}"
                for member in self._btf.members(entry)
            )
            return "{" + ",".join(fields) + "}"
        return f"kind{entry.kind}"


# What the rows of a map mean beside their types: enums whose numbers stand in them.
_MEANINGS = {
    "counters": ("reason",),
    "monitored": ("reason",),
    "reals": ("real_state",),
    "services4": ("forward", "service_flag"),
    "services6": ("forward", "service_flag"),
    "settings": ("setting_flag",),
    "nat_sets": ("nat_state",),
    "acl4": ("acl_class",),
    "acl4_long": ("acl_class",),
    "acl6": ("acl_class",),
    "sampling": ("reason", "tap_row", "tap_flag"),
    "sample_rings": ("reason", "tap_row"),
}
# Maps of maps say nothing of what is in them; a ring is plain numbers.
_INNER = {
    "acl4": "acl_row", "acl4_long": "prefix4", "acl6": "prefix6", "sample_rings": "sample_record",
}  # fmt: skip


def map_layouts(btf: Btf, plain: Collection[str], nested: Collection[str]) -> dict[str, str]:
    """A hash per map, over types and meaning of its rows: generations share a map only if it is equal."""
    return {name: _hash(btf, name, plain=name in plain) for name in (*plain, *nested)}


def _hash(btf: Btf, name: str, *, plain: bool) -> str:
    lines = [name]
    if plain:
        lines += [Layout(btf, number).describe() for number in btf.map_types(name)]
    elif name in _INNER:
        lines.append(Layout(btf, btf.number(_INNER[name])).describe())
    for meaning in _MEANINGS.get(name, ()):
        lines += [f"{label} {number}" for label, number in btf.enum(meaning).items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def layout_hash(layouts: Mapping[str, str]) -> str:
    """Of all maps together: names a generation's folder of pins."""
    lines = [f"{name} {layouts[name]}" for name in sorted(layouts)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
