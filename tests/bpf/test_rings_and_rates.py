"""What needs no kernel: Maglev's table, ring steps, rates."""

from __future__ import annotations

import hashlib
import random
import struct
from collections import Counter
from ipaddress import IPv4Address

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.bpf.support.hashing import limit_cells
from xds_agent.datapath.limit import Rate, source_parameters, tick_ns
from xds_agent.datapath.maglev import SLOTS, Ring, populate
from xds_agent.datapath.program import Sizes
from xds_agent.node.datapath.rates import byte_rate

REALS = {number: (f"10.1.0.{number}", 1) for number in range(1, 21)}


def test_slots_are_shared_evenly() -> None:
    counts = Counter(populate(REALS))
    assert counts.keys() == REALS.keys()
    assert max(counts.values()) - min(counts.values()) <= 1


def test_weights_count() -> None:
    counts = Counter(populate({1: ("a", 1), 2: ("b", 3), 3: ("c", 10)}))
    assert [round(counts[number] / SLOTS * 14) for number in (1, 2, 3)] == [1, 3, 10]


def by_rounds(reals: dict[int, tuple[str, int]], slots: int) -> list[int]:
    """The definition: each round a real saves its weight, and chooses when it has that of the heaviest."""
    heaviest, table, saved = max(weight for _, weight in reals.values()), [0] * slots, dict.fromkeys(reals, 0)
    order = sorted(reals, key=lambda number: reals[number][0])
    places = {}
    for number in order:
        digest = hashlib.blake2b(reals[number][0].encode(), digest_size=16).digest()
        offset, skip = struct.unpack("<QQ", digest)
        places[number] = [offset % slots, skip % (slots - 1) + 1]
    while True:
        for number in order:
            saved[number] += reals[number][1]
            if saved[number] < heaviest:
                continue
            saved[number] -= heaviest
            while table[places[number][0]]:
                places[number][0] = sum(places[number]) % slots
            table[places[number][0]] = number
            if all(table):
                return table


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3, 7, 100, 10_000]), min_size=1, max_size=8))
def test_turns_are_those_of_rounds_whatever_the_weights(weights: list[int]) -> None:
    reals = {number: (f"10.1.0.{number}", weight) for number, weight in enumerate(weights, 1)}
    assert populate(reals, slots=101) == by_rounds(reals, 101)


def test_a_lost_real_moves_little_else() -> None:
    """Besides its own twentieth, a few per cent of the rest."""
    before, after = populate(REALS), populate({n: real for n, real in REALS.items() if n != 7})
    moved = sum(old != new for old, new in zip(before, after, strict=True) if old != 7)
    assert moved / SLOTS < 0.05


def test_the_table_does_not_depend_on_numbers_or_order() -> None:
    """Two edge hosts that number their reals differently find the same real."""
    names = [name for name, _ in REALS.values()]
    one = populate({number: (name, 1) for number, name in enumerate(names, 1)})
    two = populate({number + 100: (name, 1) for number, name in enumerate(reversed(names), 1)})
    assert [names[n - 1] for n in one] == [names[len(names) - (n - 100)] for n in two]


def test_no_reals_no_slots() -> None:
    assert not any(populate({}, slots=101))


_NUMBERS = st.sampled_from([0, 1, 2, 3, 1 << 16, (1 << 31) - 2, (1 << 31) - 1])


@settings(max_examples=50)
@given(st.lists(st.lists(_NUMBERS, min_size=13, max_size=13), min_size=1, max_size=6))
def test_a_slot_that_ever_moved_stays_marked(tables: list[list[int]]) -> None:
    """Also when it is back where it began: its flows may be elsewhere."""
    ring = Ring(tables[0])
    touched = [False] * 13
    for table in tables[1:]:
        changed = [now != real for now, real in zip(ring.current, table, strict=True)]
        touched = [before or now for before, now in zip(touched, changed, strict=True)]
        assert ring.step(table) == sum(changed)
    assert [bool(mark) for mark in ring.moved] == touched
    words = struct.unpack("13Q", ring.words())
    assert [bool(word >> 63) for word in words] == touched
    assert [word & 0xFFFFFFFF for word in words] == list(tables[-1])
    ring.finalise()
    assert not any(ring.moved) and ring.previous == ring.current


@settings(max_examples=50)
@given(
    st.lists(st.lists(_NUMBERS, min_size=13, max_size=13), min_size=1, max_size=6), st.booleans(), st.data()
)
def test_reals_of_a_ring_are_those_of_its_slots(
    tables: list[list[int]], knows: bool, data: st.DataObject
) -> None:
    """Whoever says what they are among only saves time; 0, which is nobody, it need not say."""
    ring, known = Ring(tables[0]), frozenset(tables[0])
    for table in tables[1:]:
        ring.finalise(data.draw(st.sets(st.integers(0, 12))))
        ring.step(table)
        exact = frozenset(ring.current) | frozenset(ring.previous)
        assert ring.moving() == sum(ring.moved)
        assert ring.reals() == exact
        found = ring.reals(frozenset(table), known - {0} if knows else None)
        assert found - {0} == exact - {0}
        known = exact


def test_a_real_that_only_late_slots_held_is_found() -> None:
    """Not in the part that is looked at first; and one that no slot held is not said to be there."""
    ring = Ring([1] * (SLOTS - 1) + [2])
    ring.step([3] * SLOTS)
    assert ring.reals(frozenset({3}), frozenset({1, 2, 9})) == {1, 2, 3}


def test_rates_become_intervals() -> None:
    assert Rate(1000).parameters() == {"interval_ns": 1_000_000, "burst_ns": tick_ns()}
    assert Rate(1000, burst=11).parameters()["burst_ns"] == 10_000_000 + tick_ns()


RATES = st.builds(Rate, st.floats(0.001, 1e9), burst=st.integers(1, 10**10))


BYTE_RATES = st.builds(Rate, st.floats(0.001, 1e11), burst=st.integers(1, 10**12))


@given(
    st.dictionaries(st.sampled_from(["packets", "syns", "ssh"]), st.none() | RATES, min_size=1),
    st.none() | BYTE_RATES,
)
def test_a_sources_cell_lets_no_more_through_than_the_rate_says(
    rates: dict[str, Rate | None], of_bytes: Rate | None
) -> None:
    """In whole units of a 32-bit cell: never faster, and no bucket that it cannot hold."""
    found = source_parameters(rates, {"bytes": of_bytes})
    interval, burst = found["bytes"]["interval"], found["bytes"]["burst"]
    if of_bytes is not None:
        assert of_bytes.time_ns(1024) <= interval << found["source_shift"]
        assert (burst - (tick_ns() >> found["source_shift"])) * 1024 <= of_bytes.burst * interval
        assert burst + 64 * interval <= found["source_full"]
    else:
        assert not interval
    shift, full = found["source_shift"], found["source_full"]
    assert full < 1 << 30
    for name, rate in rates.items():
        interval, burst = found[name]["interval"], found[name]["burst"]
        if rate is None:
            assert not interval
            continue
        assert rate.parameters()["interval_ns"] <= interval << shift
        assert burst // interval <= rate.burst - 1 + (tick_ns() >> shift)
        assert interval + burst <= full


@given(st.floats(1, 1e6), st.floats(1, 1e6), st.floats(1, 1e4), st.integers(1_000_000, 10**10))
@example(packets=1, syns=1, ssh=1, bits=1_021_996_087)  # a slow rate beside a short time of a frame
def test_rates_of_real_life_are_kept_to_two_per_cent(
    packets: float, syns: float, ssh: float, bits: int
) -> None:
    """With the bursts that hosts are told; those of bytes with the smallest frame, too."""
    per_second = {"packets": packets, "syns": min(syns, packets), "ssh": min(ssh, packets)}
    rates = {name: Rate(one, burst=max(1, int(one / 10))) for name, one in per_second.items()}
    of_bytes = byte_rate(bits)
    assert of_bytes is not None
    found = source_parameters(rates, {"bytes": of_bytes})
    shift, kibibyte = found["source_shift"], found["bytes"]["interval"]
    for size in (64, 1514):
        cost = -(-size * kibibyte // 1024) << shift
        assert of_bytes.time_ns(size) <= cost <= 1.02 * of_bytes.time_ns(size) + 1
    for name, rate in rates.items():
        exact = rate.parameters()["interval_ns"]
        assert exact <= found[name]["interval"] << found["source_shift"] <= 1.02 * exact


def test_no_source_pays_for_its_bytes_where_it_pays_for_its_packets() -> None:
    """Two cells that both limits shared would be used up by one for the other."""
    for number in range(5000):
        source = str(IPv4Address(number * 104_729))
        pairs = {
            turn: {*limit_cells(source, 0x243F6A88, 0x5EED, Sizes().limit_blocks - 1, turn)[1:]}
            for turn in (0, 1)
        }
        assert len(pairs[1]) == 2 and pairs[0] != pairs[1]


def test_ten_thousand_abusers_shut_out_few_innocents() -> None:
    """Of sources that share both cells with abusers; by default sizes."""
    chance = random.Random(5)
    blocks: dict[int, set[int]] = {}
    for source in (str(IPv4Address(chance.getrandbits(32))) for _ in range(10_000)):
        block, *cells = limit_cells(source, 0x243F6A88, 0x5EED, Sizes().limit_blocks - 1)
        blocks.setdefault(block, set()).update(cells)
    innocents = [str(IPv4Address(chance.getrandbits(32))) for _ in range(100_000)]
    places = [limit_cells(source, 0x243F6A88, 0x5EED, Sizes().limit_blocks - 1) for source in innocents]
    assert sum({one, other} <= blocks.get(block, set()) for block, one, other in places) <= 600


@pytest.mark.parametrize("rate", [Rate(0), Rate(-1), Rate(2e9), Rate(10, burst=0)])
def test_rates_that_cannot_be(rate: Rate) -> None:
    with pytest.raises(ValueError, match=r"rate of|burst of"):
        rate.parameters()


def test_a_slot_that_went_and_came_back_still_knows_whose_its_old_flows_are() -> None:
    """A flaps: a connection to A that was silent meanwhile is in no table, and is A's, not B's."""
    ring = Ring([1, 1])
    ring.step([2, 1])
    ring.step([1, 3])
    assert [list(one) for one in (ring.current, ring.previous, ring.moved)] == [[1, 3], [1, 1], [1, 1]]
    ring.step([4, 3])
    assert list(ring.previous) == [1, 1]
