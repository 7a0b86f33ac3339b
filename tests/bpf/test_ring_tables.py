"""Whatever was shared, stepped, closed or failed before: the kernel leads each number to the words that were
asked for, and no step of one shows in another."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.bpf.conftest import Loader
from xds_agent.datapath import ring_tables
from xds_agent.datapath.maglev import SLOTS, Ring
from xds_agent.datapath.program import Generation
from xds_agent.datapath.ring_tables import RingTables
from xds_agent.datapath.services import Tables

NUMBERS = range(1, 5)
RINGS = [Ring([real] * SLOTS) for real in range(1, 6)]
PUTS = st.lists(st.tuples(st.sampled_from(NUMBERS), st.sampled_from(RINGS)), min_size=1, max_size=6)
ABSENT = b""


def descriptors() -> int:
    """How many maps this process has open."""
    # The folder's own descriptor is gone when it is looked at.
    found = [one for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    return sum(str(one.readlink()) == "anon_inode:bpf-map" for one in found)


class _Numbers(RuleBasedStateMachine):
    """`may`: the words that each number may have now, by digest; one alone once it is live."""

    generation: Generation

    @initialize(open_tables=st.integers(1, 3))
    def begins(self, open_tables: int) -> None:
        self.open_tables, self.read, self.descriptors = open_tables, Tables(self.generation), descriptors()
        self.rings = RingTables(self.generation, open_tables=open_tables)
        self.may: dict[int, set[bytes]] = {number: {ABSENT} for number in NUMBERS}
        self.wanted: dict[int, bytes] = {}

    def teardown(self) -> None:
        for number in NUMBERS:
            self.rings.delete(number)
        self.rings.close()
        assert descriptors() == self.descriptors

    def put(self, number: int, ring: Ring) -> None:
        self.rings.put(number, ring)
        self.may[number] |= {ring.digest()}
        self.wanted[number] = ring.digest()
        self.each_leads_to_words_of_its_own()

    @rule(puts=PUTS, live=st.booleans())
    def put_several(self, puts: list[tuple[int, Ring]], live: bool) -> None:
        for number, ring in puts:
            self.put(number, ring)
        if live:
            self.flush()

    def flush(self) -> None:
        self.rings.flush()
        self.may |= {number: {digest} for number, digest in self.wanted.items()}

    @rule(number=st.sampled_from(NUMBERS))
    def delete(self, number: int) -> None:
        self.rings.delete(number)
        self.wanted.pop(number, None)
        self.may[number] = {ABSENT}

    @rule(written=st.integers(0, 2))
    def flush_fails_midway(self, written: int) -> None:
        array, whole = self.generation.maps["rings"], self.generation.maps["rings"].put_many

        def part(keys: Sequence[bytes], values: Sequence[bytes]) -> None:
            whole(keys[:written], values[:written])
            raise OSError(12, "out of memory")

        array.put_many = part  # type: ignore[method-assign]
        waited = dict(self.rings._waiting)
        try:
            self.rings.flush()
        except OSError:
            # Those have to be put again, others are what they were.
            for number in waited:
                self.wanted.pop(number)
        finally:
            array.put_many = whole  # type: ignore[method-assign]
        self.may |= {number: {digest} for number, digest in self.wanted.items()}

    @rule(number=st.sampled_from(NUMBERS), ring=st.sampled_from(RINGS))
    def there_is_no_memory(self, number: int, ring: Ring) -> None:
        def none(*arguments: object, **options: object) -> None:
            raise OSError(12, "out of memory")

        before = ring_tables.create_map, ring_tables.mapped
        ring_tables.create_map = ring_tables.mapped = none  # type: ignore[assignment]
        try:
            self.put(number, ring)
        except OSError:
            # The kernel leads it to what it did.
            pass
        finally:
            ring_tables.create_map, ring_tables.mapped = before

    @rule()
    def starts_again(self) -> None:
        """A successor knows nothing of the tables it finds."""
        self.rings.close()
        self.rings, self.wanted = RingTables(self.generation, open_tables=self.open_tables), {}

    @invariant()
    def each_leads_to_words_of_its_own(self) -> None:
        for number, allowed in self.may.items():
            ring = self.read.ring(number)
            assert (ABSENT if ring is None else ring.digest()) in allowed, number


def test_each_number_leads_to_the_words_that_were_put(loaded: Loader) -> None:
    class Numbers(_Numbers):
        generation = loaded()

    # To make an example shorter takes minutes of the kernel's time.
    few = settings(
        max_examples=60, stateful_step_count=20, phases=[Phase.generate], report_multiple_bugs=False
    )
    run_state_machine_as_test(Numbers, settings=few)  # type: ignore[no-untyped-call]


def test_a_table_that_was_closed_is_never_stepped_for_another_of_the_same_words(loaded: Loader) -> None:
    """1's table is closed for lack of room; 20 comes with the same words, gets another one and goes on."""
    generation = loaded()
    tables, read = RingTables(generation, open_tables=2), Tables(generation)
    for number, ring in ((1, RINGS[0]), (2, RINGS[1]), (3, RINGS[2]), (20, RINGS[0]), (20, RINGS[3])):
        tables.put(number, ring)
        tables.flush()
    tables.put(1, RINGS[4])
    tables.flush()
    found = read.ring(1)
    assert found is not None and found.current[0] == RINGS[4].current[0]
    tables.close()


def test_a_table_that_a_waiting_number_still_leads_to_is_not_stepped(loaded: Loader) -> None:
    generation = loaded()
    tables, read = RingTables(generation), Tables(generation)
    for number in (1, 2):
        tables.put(number, RINGS[0])
    tables.flush()
    tables.put(1, RINGS[1])
    tables.put(2, RINGS[2])
    found = read.ring(1)
    assert found is not None and found.current[0] == RINGS[0].current[0]
    tables.close()


def test_a_table_is_not_stepped_while_packets_of_a_number_that_left_may_be_under_way(
    loaded: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is led elsewhere at once; only the kernel's call, which ends later, waits for its packets."""
    generation, ended = loaded(), threading.Event()
    tables, array = RingTables(generation), generation.maps["rings"]
    for number in (1, 2):
        tables.put(number, RINGS[0])
    tables.flush()
    whole = array.put_many

    def lasts(keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        whole(keys, values)
        assert ended.wait(60)

    with monkeypatch.context() as slow:
        slow.setattr(array, "put_many", lasts)
        tables.put(1, RINGS[1])
        tables.flush()
        shared = array.get(2)
        tables.put(2, RINGS[2])
        ended.set()
    tables.flush()
    assert array.get(2) != shared
    tables.put(2, RINGS[3])
    found = Tables(generation).ring(2)
    assert found is not None and found.digest() == RINGS[3].digest()
    tables.close()
