"""Access lists: prefixes to a DIR-24-8 directory and tries, put in place as a whole.

A generation is built aside and goes live by one write per IP version; packets see the old lists or the new,
never half. The longest prefix decides, deny and allow lists alike.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from itertools import compress, groupby
from operator import itemgetter

from xds_agent.datapath.layout import Layout
from xds_agent.datapath.maps import (
    ARRAY,
    BPF_F_MMAPABLE,
    BPF_F_NO_PREALLOC,
    LPM_TRIE,
    Map,
    create_map,
    mapped,
)
from xds_agent.datapath.prefixes import Network, Prefixes
from xds_agent.datapath.program import Generation

NETWORKS = 1 << 24
_FOUR = 4  # of them share a byte of the directory
# A /8: parts are written one by one, and those that say nothing not at all.
_PART = 1 << 16
_NOTHING = bytes(_PART)
_BATCH = 4096
# What the object has; a table without preallocation may be larger.
_TRIE = 1 << 20
# Maps of the kernel have so many numbers, and then those that are free again.
_NUMBERS = (1 << 31) - 2
_BEYOND = bytes(25) + b"\1" * 231
_ROW = struct.Struct(">IB")
Rule = tuple[Network, int]
Listed = tuple[Prefixes, int]
"""Networks, and the class of all of them."""


def paint(lists: Sequence[Listed], classes: bytearray, *, ask: int) -> tuple[bytes, Sequence[int]]:
    """Fill an empty directory, a byte of class per /24; what is longer gets the class `ask`.

    Returns keys of the trie that is asked then, and the class of each. Of lists that hold one prefix the last
    one counts, as in the tries. A /24 that asks must still find what it had before where the trie knows no
    longer match: that goes there too.
    """
    columns = [(one.addresses4(), one.lengths4(), number) for one, number in lists]
    for length in range(25):
        count, only = 1 << (24 - length), bytes(length) + b"\1" + bytes(255 - length)
        for addresses, lengths, number in columns:
            # A bytearray takes bytes as a bytearray of them, made for each write.
            patch = bytearray([number]) * count
            for address in compress(addresses, lengths.translate(only) if length in lengths else b""):
                first = address >> 8 & -count
                classes[first : first + count] = patch
    keys, numbers, covered = array("Q"), array("I"), array("I")
    before = bytearray()
    for (one, _), (addresses, lengths, number) in zip(lists, columns, strict=True):
        beyond = lengths.translate(_BEYOND)
        keys.extend(array("Q", compress(array("Q", one.keys(4)), beyond)))
        numbers.extend(array("I", [number]) * beyond.count(1))
        for network in (address >> 8 for address in compress(addresses, beyond)):
            if (was := classes[network]) != ask:
                classes[network] = ask
                if was:
                    covered.append(network << 8)
                    before.append(was)
    rest = Prefixes(b"".join(_ROW.pack(address, 24) for address in covered))
    return keys.tobytes() + rest.keys(4), [*numbers, *before]


def packed(classes: bytearray) -> bytes:
    """The directory as the program has it: two bits per /24, the first of four in the lowest bits."""
    # Each column is one large number, in whose bytes two bits each are taken: none runs over into the next.
    columns = (int.from_bytes(classes[at::_FOUR], "little") << 2 * at for at in range(_FOUR))
    return sum(columns).to_bytes(len(classes) // _FOUR, "little")


class AccessLists:
    """The lists of a loaded program."""

    def __init__(self, generation: Generation) -> None:
        self._maps, self._struct = generation.maps, generation.struct
        classes = generation.enum("acl_class")
        self.classes = {"exempt": classes["ACL_EXEMPT"], "deny": classes["ACL_DENY"]}
        self._ask = classes["ACL_ASK"]
        self._word = generation.maps["acl4"].value
        self._parity = self._live_parity()

    def _live_parity(self) -> int:
        """Of the generation in place, which may be another process's.

        What it has in its maps is not to be seen without CAP_SYS_ADMIN, but their numbers are, which the
        kernel gives one after the other: the long table that was made next after the directory is its own.
        One that is older was left by the generation before, one still younger by lists that never went live.
        """
        live = self._maps["acl4"].get(0)
        if live is None:
            return 0
        tables = {parity: self._maps["acl4_long"].get(parity) for parity in (0, 1)}
        since = {parity: (table - live) % _NUMBERS for parity, table in tables.items() if table is not None}
        return min(since, key=since.__getitem__, default=0)

    def replace(self, rules: Iterable[Rule]) -> None:
        """As `install`, from (network, class) pairs."""
        grouped = groupby(rules, key=itemgetter(1))
        self.install([(Prefixes.of(net for net, _ in group), number) for number, group in grouped])

    def install(self, lists: Sequence[Listed]) -> None:
        """Build the next generation and put it in place. Raises ValueError for what is no list, OSError."""
        for one, _ in lists:
            if one.problem:
                raise ValueError(one.problem)
        parity = self._parity ^ 1
        classes = bytearray(NETWORKS)
        keys, numbers = paint(lists, classes, ask=self._ask)
        # Before its long table: `_live_parity` knows the two by this order.
        table = self._directory(classes, parity)
        try:
            # The table before the directory that points to it; nobody asks the other parity's table by then.
            self._install("acl4_long", parity, self._trie("prefix4", keys, numbers))
        except BaseException:
            table.close()
            raise
        self._install("acl4", 0, table)
        # Live, whatever becomes of IPv6: the next generation leaves this one's table alone.
        self._parity = parity
        keys, numbers = b"".join(one.keys(6) for one, _ in lists), array("I")
        for one, number in lists:
            numbers.extend(array("I", [number]) * one.count(6))
        self._install("acl6", 0, self._trie("prefix6", keys, numbers))

    def _directory(self, classes: bytearray, parity: int) -> Map:
        row = self._struct("acl_row")
        # And one more, that says which long table is asked.
        rows = NETWORKS // _FOUR // row.size + 1
        table = create_map(
            "acl4_directory", ARRAY, key=self._word, value=row, entries=rows, flags=BPF_F_MMAPABLE
        )
        try:
            with mapped(table, rows * row.size) as memory:
                for start in range(0, NETWORKS, _PART):
                    part = classes[start : start + _PART]
                    if part != _NOTHING:
                        memory[start // _FOUR : (start + _PART) // _FOUR] = packed(part)
                memory[NETWORKS // _FOUR] = parity
        except BaseException:
            table.close()
            raise
        return table

    def _trie(self, kind: str, keys: bytes, numbers: Sequence[int]) -> Map:
        key: Layout = self._struct(kind)
        table = create_map(
            "acl_trie", LPM_TRIE, key=key, value=self._word, entries=max(_TRIE, len(numbers)),
            flags=BPF_F_NO_PREALLOC,
        )  # fmt: skip
        try:
            for start in range(0, len(numbers), _BATCH):
                part = array("I", numbers[start : start + _BATCH])
                table.put_packed(
                    keys[start * key.size : (start + _BATCH) * key.size], part.tobytes(), len(part)
                )
        except OSError:
            table.close()
            raise
        return table

    def _install(self, outer: str, row: int, table: Map) -> None:
        try:
            self._maps[outer].put(row, table.fd)
        finally:
            table.close()
