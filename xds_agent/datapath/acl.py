"""Access lists: prefixes to a DIR-24-8 directory and tries, put in place as a whole.

A generation is built aside and goes live by one write per IP version; packets see the old lists or the new,
never half. The longest prefix decides, deny and allow lists alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
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
    open_map,
)
from xds_agent.datapath.program import Generation

NETWORKS = 1 << 24
_ROW_BYTES = 64
_BATCH = 4096
Rule = tuple[IPv4Network, int] | tuple[IPv6Network, int]


@dataclass(slots=True)
class Directory:
    """What the IPv4 lists compile to: a class per /24, and the prefixes of those /24 that need more."""

    classes: bytearray = field(default_factory=lambda: bytearray(NETWORKS))
    long: list[tuple[int, int, int]] = field(default_factory=list)  # address, length, class


def build_directory(rules: Iterable[tuple[IPv4Network, int]], *, ask: int) -> Directory:
    """Paint prefixes up to /24 by growing length, then mark what lies beyond with class `ask`.

    Of rules for one prefix the last one counts, as in the tries.

    A marked /24 whose trie knows no longer match must still find what it had before: that goes there too.
    """
    built = Directory()
    short = [
        (rule.prefixlen, int(rule.network_address), number) for rule, number in rules if rule.prefixlen <= 24
    ]
    for length, address, number in sorted(short, key=itemgetter(0)):
        first, count = address >> 8, 1 << (24 - length)
        built.classes[first : first + count] = bytes([number]) * count
    covered: dict[int, int] = {}
    for rule, number in rules:
        if rule.prefixlen > 24:
            network = int(rule.network_address) >> 8
            covered.setdefault(network, built.classes[network])
            built.long.append((int(rule.network_address), rule.prefixlen, number))
    for network, number in covered.items():
        if number:
            built.long.append((network << 8, 24, number))
        built.classes[network] = ask
    return built


class AccessLists:
    """The lists of a loaded program."""

    def __init__(self, generation: Generation) -> None:
        self._maps, self._struct = generation.maps, generation.struct
        classes = generation.enum("acl_class")
        self.classes = {"exempt": classes["ACL_EXEMPT"], "deny": classes["ACL_DENY"]}
        self._ask = (classes["ACL_ASK_EVEN"], classes["ACL_ASK_ODD"])
        self._word = generation.maps["acl4"].value
        self._parity = self._live_parity()

    def _live_parity(self) -> int:
        """Of the generation in place, which may be another process's: its directory names its table."""
        live = self._maps["acl4"].get(0)
        if live is None:
            return 0
        try:
            table = open_map(live, self._maps["acl4"], value=self._struct("acl_row"))
        except PermissionError:
            # Without CAP_SYS_ADMIN nobody looks into a map within a map. Whoever starts again puts the same
            # lists in place first, and then either parity is right.
            return 0
        try:
            with mapped(table, NETWORKS) as memory:
                return int(memory.find(bytes([self._ask[1]])) >= 0)
        finally:
            table.close()

    def replace(self, rules: Sequence[Rule]) -> None:
        """Build the next generation from (network, class) pairs and put it in place. Raises OSError."""
        parity = self._parity ^ 1
        ipv4 = [(net, number) for net, number in rules if isinstance(net, IPv4Network)]
        ipv6 = [(net, number) for net, number in rules if isinstance(net, IPv6Network)]
        directory = build_directory(ipv4, ask=self._ask[parity])
        # The table before the directory that points to it; nobody asks the other parity's table by then.
        self._install(
            "acl4_long", parity, self._trie("prefix4", [self._long(entry) for entry in directory.long])
        )
        self._install("acl4", 0, self._directory(directory.classes))
        six = [
            ({"length": net.prefixlen, "address": net.network_address.packed}, number) for net, number in ipv6
        ]
        self._install("acl6", 0, self._trie("prefix6", six))
        self._parity = parity

    @staticmethod
    def _long(entry: tuple[int, int, int]) -> tuple[dict[str, object], int]:
        address, length, number = entry
        return {"length": length, "address": address}, number

    def _directory(self, classes: bytearray) -> Map:
        row = self._struct("acl_row")
        rows = NETWORKS // _ROW_BYTES
        table = create_map(
            "acl4_directory", ARRAY, key=self._word, value=row, entries=rows, flags=BPF_F_MMAPABLE
        )
        with mapped(table, NETWORKS) as memory:
            memory[:] = bytes(classes)
        return table

    def _trie(self, struct: str, entries: Sequence[tuple[dict[str, object], int]]) -> Map:
        key: Layout = self._struct(struct)
        table = create_map(
            "acl_trie", LPM_TRIE, key=key, value=self._word, entries=1 << 20, flags=BPF_F_NO_PREALLOC
        )
        for start in range(0, len(entries), _BATCH):
            part = entries[start : start + _BATCH]
            table.put_many([key.pack(entry) for entry, _ in part], [self._word.pack(n) for _, n in part])
        return table

    def _install(self, outer: str, row: int, table: Map) -> None:
        try:
            self._maps[outer].put(row, table.fd)
        finally:
            table.close()
