"""Where rings lie in the kernel: alike ones share one table, a step of one that is nobody else's is written
in place.

To put another table into the array of rings has the kernel wait for every packet under way (some ten
milliseconds), so many rings are put there by one call, and a thread of its own sits that wait out. A step in
place waits for nobody: slots are independent of each other, each one word, which a packet sees old or new.
"""

from __future__ import annotations

import struct
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from xds_agent.datapath.info import object_id
from xds_agent.datapath.layout import Layout
from xds_agent.datapath.maglev import Ring
from xds_agent.datapath.maps import ARRAY, BPF_F_MMAPABLE, Map, create_map, mapped
from xds_agent.datapath.program import Generation

# Descriptors of tables that are kept open to be shared or stepped; a ring beyond them gets a new table.
OPEN_TABLES = 1024
_TOGETHER = 256
_LOOK_S = 0.0001


@dataclass(eq=False, slots=True)
class _Table:
    """One table of the kernel: alike words may lie in several, if one was not open when it was asked for."""

    map: Map
    digest: bytes
    """Of its words."""
    users: int = 0
    """Numbers that the kernel's array leads to it, or may."""
    left: Future[None] | None = None
    """The call that led one of them elsewhere; until it ends a packet of that one may still read here."""


class RingTables:
    """The rings of one generation, by number. For one thread at a time; `close` closes descriptors only."""

    def __init__(self, generation: Generation, *, open_tables: int = OPEN_TABLES) -> None:
        self._generation, self._rings = generation, generation.maps["rings"]
        self._word = generation.btf.map_types("ring")[1]
        self._most = open_tables
        # By digest; those that were asked for last come last.
        self._open: OrderedDict[bytes, _Table] = OrderedDict()
        # What was put, of numbers that have it or wait for it.
        self._digests: dict[int, bytes] = {}
        # Where the kernel's array may lead a number: several while it waits or after a call that failed.
        self._leads: dict[int, tuple[_Table, ...]] = {}
        self._waiting: dict[int, _Table] = {}
        # Of tables that are wanted no more, but until `flush` a number may still be led to.
        self._unused: list[Map] = []
        self._caller = ThreadPoolExecutor(1, thread_name_prefix="rings")

    def put(self, number: int, ring: Ring) -> None:
        """Live at once where it could be stepped in place, else after `flush`.

        Raises OSError; put everything since `flush` again then.
        """
        digest = ring.digest()
        if digest == self._digests.get(number):
            return
        table = self._open.get(digest)
        if table is None and (own := self._own(number)) is not None:
            self._step(own, number, ring)
            return
        if table is None:
            table = self._new(ring)
        self._digests[number] = digest
        self._lead(number, table)
        self._keep_open(table)
        if len(self._waiting) >= _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """All that waits goes live. Raises OSError; put everything that waited again then."""
        waiting, self._waiting = self._waiting, {}
        try:
            self._go_live(waiting)
        except OSError:
            # Each leads to what it led to before or to what it waited for.
            for number in waiting:
                del self._digests[number]
            raise
        finally:
            self._close_unused()

    def _go_live(self, waiting: Mapping[int, _Table]) -> None:
        wanted = {number: object_id(table.map.fd) for number, table in waiting.items()}
        # Some are there: a call that failed came so far, or they left and came back without a flush.
        due = [number for number, table in wanted.items() if self._rings.get(number) != table]
        call, word = None, struct.Struct("=I")
        if due:
            tables = [word.pack(waiting[number].map.fd) for number in due]
            call = self._caller.submit(self._rings.put_many, [word.pack(one) for one in due], tables)
            self._until_live(call, {number: wanted[number] for number in due})
        for number, table in waiting.items():
            self._settle(number, table, call)

    def _until_live(self, call: Future[None], wanted: Mapping[int, int]) -> None:
        """Until packets find the tables of these numbers, which is before the kernel's call ends: it then
        waits for every packet under way with the tables before, and nothing here needs that."""
        try:
            for number, table in wanted.items():
                while not call.done() and self._rings.get(number) != table:
                    time.sleep(_LOOK_S)
        except OSError:
            # The descriptors are its own until it ends.
            wait([call])
            raise
        if call.done():
            call.result()

    def delete(self, number: int) -> None:
        """Its half a mebibyte is given back where nobody shares it; no service may name it any more."""
        self._waiting.pop(number, None)
        self._digests.pop(number, None)
        self._rings.delete(number)
        self._settle(number, None, None)

    def close(self) -> None:
        self._caller.shutdown()
        self._close_unused()
        for table in self._open.values():
            table.map.close()
        self._open.clear()

    def _own(self, number: int) -> _Table | None:
        """The table that this number's packets read and no others', if it is open and known to the word."""
        if number not in self._digests or number in self._waiting:
            return None
        [table] = self._leads[number]
        shared = table.users > 1 or (table.left is not None and not table.left.done())
        return None if shared or self._open.get(table.digest) is not table else table

    def _step(self, table: _Table, number: int, ring: Ring) -> None:
        del self._open[table.digest]
        # Until the last slot is written nobody knows what it is.
        del self._digests[number]
        try:
            _write(table.map, ring.words())
        except OSError:
            self._unused.append(table.map)
            raise
        self._digests[number] = table.digest = ring.digest()
        self._keep_open(table)

    def _lead(self, number: int, table: _Table) -> None:
        """Not before `flush`; until then it may be any of those."""
        self._waiting[number] = table
        before = self._leads.get(number, ())
        if table not in before:
            self._leads[number] = (*before, table)
            table.users += 1

    def _settle(self, number: int, table: _Table | None, call: Future[None] | None) -> None:
        """It leads to this one, and to those before no more, as soon as `call` ends."""
        for one in self._leads.pop(number, ()):
            if one is not table:
                one.users, one.left = one.users - 1, call
                if not one.users and self._open.get(one.digest) is one:
                    self._unused.append(self._open.pop(one.digest).map)
        if table is not None:
            self._leads[number] = (table,)

    def _new(self, ring: Ring) -> _Table:
        words = ring.words()
        table = create_map(
            "ring", ARRAY, key=self._rings.key, value=Layout(self._generation.btf, self._word),
            entries=len(words) // 8, flags=BPF_F_MMAPABLE,
        )  # fmt: skip
        try:
            with mapped(table, len(words)) as memory:
                memory[:] = words
        except OSError:
            table.close()
            raise
        return _Table(table, ring.digest())

    def _keep_open(self, table: _Table) -> None:
        self._open[table.digest] = table
        self._open.move_to_end(table.digest)
        if len(self._open) > self._most:
            self._unused.append(self._open.popitem(last=False)[1].map)

    def _close_unused(self) -> None:
        for table in self._unused:
            table.close()
        self._unused = []


def _write(table: Map, words: bytes) -> None:
    """Each slot by one store of eight bytes: every second one, for neighbours would be copied as a block."""
    fresh = memoryview(words).cast("Q")
    with mapped(table, len(words)) as memory, memoryview(memory) as raw, raw.cast("Q") as live:
        live[::2] = fresh[::2]
        live[1::2] = fresh[1::2]
