"""Where rings lie in the kernel: alike ones share one table, a step of one that is nobody else's is written
in place.

To put another table into the array of rings has the kernel wait for every packet under way (some ten
milliseconds), so many rings are put there by one call, and a step in place waits for nobody: slots are
independent of each other, and each is one word, which a packet sees old or new.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Sequence

from xds_agent.datapath.layout import Layout
from xds_agent.datapath.maglev import Ring
from xds_agent.datapath.maps import ARRAY, BPF_F_MMAPABLE, Map, create_map, mapped
from xds_agent.datapath.program import Generation

# Descriptors of tables that are kept open to be shared or stepped; a ring beyond them gets a new table.
OPEN_TABLES = 1024
_TOGETHER = 256


class RingTables:
    """The rings of one generation, by number. For one thread at a time; `close` closes descriptors only."""

    def __init__(self, generation: Generation, *, open_tables: int = OPEN_TABLES) -> None:
        self._generation, self._rings = generation, generation.maps["rings"]
        self._word = generation.btf.map_types("ring")[1]
        self._most = open_tables
        # By the digest of what lies in them; those that were asked for last come last.
        self._open: OrderedDict[bytes, Map] = OrderedDict()
        self._digests: dict[int, bytes] = {}
        self._users: dict[bytes, int] = {}
        self._waiting: dict[int, Map] = {}
        # Of tables that are wanted no more, but until `flush` a number may still lead to.
        self._unused: list[Map] = []

    def put(self, number: int, ring: Ring, slots: Sequence[int] | None = None) -> None:
        """Live at once where it could be stepped in place, else after `flush`.

        `slots`: those that differ from what was put last, where the caller knows. Raises OSError; put
        everything since `flush` again then.
        """
        digest, before = ring.digest(), self._digests.get(number)
        if digest == before:
            return
        table = self._open.get(digest)
        if table is None and before is not None and slots is not None and self._is_own(number, before):
            table = self._open.pop(before)
            # Until the last slot is written nobody knows what it is.
            self._forget(number)
            _write(table, ring.words(), slots)
            self._remember(number, digest, table)
            return
        if table is None:
            table = self._new(ring)
        self._forget(number)
        self._remember(number, digest, table)
        self._waiting[number] = table
        if len(self._waiting) >= _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """All that waits goes live. Raises OSError; put everything that waited again then."""
        waiting, self._waiting = self._waiting, {}
        try:
            word = struct.Struct("=I")
            self._rings.put_many(
                [word.pack(number) for number in waiting], [word.pack(one.fd) for one in waiting.values()]
            )
        except OSError:
            for number in waiting:
                self._forget(number)
            raise
        finally:
            self._close_unused()

    def delete(self, number: int) -> None:
        """Its half a mebibyte is given back where nobody shares it; no service may name it any more."""
        self._waiting.pop(number, None)
        self._forget(number)
        self._rings.delete(number)

    def close(self) -> None:
        self._close_unused()
        for table in self._open.values():
            table.close()
        self._open.clear()

    def _is_own(self, number: int, digest: bytes) -> bool:
        return self._users[digest] == 1 and digest in self._open and number not in self._waiting

    def _new(self, ring: Ring) -> Map:
        words = ring.words()
        table = create_map(
            "ring", ARRAY, key=self._rings.key, value=Layout(self._generation.btf, self._word),
            entries=len(words) // 8, flags=BPF_F_MMAPABLE,
        )  # fmt: skip
        with mapped(table, len(words)) as memory:
            memory[:] = words
        return table

    def _remember(self, number: int, digest: bytes, table: Map) -> None:
        self._digests[number] = digest
        self._users[digest] = self._users.get(digest, 0) + 1
        self._open[digest] = table
        self._open.move_to_end(digest)
        if len(self._open) > self._most:
            self._unused.append(self._open.popitem(last=False)[1])

    def _forget(self, number: int) -> None:
        digest = self._digests.pop(number, None)
        if digest is None:
            return
        self._users[digest] -= 1
        if not self._users[digest]:
            del self._users[digest]
            if (table := self._open.pop(digest, None)) is not None:
                self._unused.append(table)

    def _close_unused(self) -> None:
        for table in self._unused:
            table.close()
        self._unused = []


def _write(table: Map, words: bytes, slots: Sequence[int]) -> None:
    """Each slot by one store of eight bytes."""
    fresh = memoryview(words).cast("Q")
    with mapped(table, len(words)) as memory, memoryview(memory) as raw, raw.cast("Q") as live:
        for slot in slots:
            live[slot] = fresh[slot]
