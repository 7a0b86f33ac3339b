"""NAT while rings move: flows stay with their reals, and nothing else is remembered."""

from __future__ import annotations

import mmap
import time

import pytest

from tests.bpf.support.bench import BACKENDS, BALANCE_SEED, GAME, NAT_RINGS, SHOP, Bench
from tests.bpf.support.hashing import flow_hash, slot
from tests.bpf.support.nat import BOTH, SHOP4, back, begin, bytes_to, establish, sent_port
from tests.bpf.support.packets import ACK, RST, UDP, Packet
from xds_agent.datapath import drain
from xds_agent.datapath.drain import open_flows, pinned_reals, pinned_slots
from xds_agent.datapath.maps import Map, mapped

pytestmark = pytest.mark.root


@BOTH
def test_a_flow_stays_while_the_ring_moves(bench: Bench, opening: Packet) -> None:
    """Fail, failback and finalise of the other slots: an established flow keeps real and port."""
    ring = bench.ring(NAT_RINGS[opening.version], [1 if opening.version == 4 else 3] * 65537)
    first, second = (1, 2) if opening.version == 4 else (3, 4)
    ring.step([second] * 65537)
    bench.tables.put_ring(NAT_RINGS[opening.version], ring)
    opening = opening.but(sport=3333)
    sent_frame = bench.run(opening)[1]
    backend = BACKENDS[second - 1]
    sent = bench.translated(opening, backend, sent_port(sent_frame, opening.version))
    assert sent_frame == sent.bytes()
    ring.step([first] * 65537)
    bench.tables.put_ring(NAT_RINGS[opening.version], ring)
    onward = opening.but(flags=ACK)
    bench.expect(onward, "send_nat", service=SHOP, frame=bytes_to(bench, onward, sent))
    answer = bench.answer(sent, flags=ACK)
    bench.expect(answer, "send_answer", service=SHOP, frame=back(opening, answer).bytes())


@BOTH
@pytest.mark.parametrize("left", ["another real", "none"])
def test_a_flow_that_sends_while_its_real_is_down_is_its_reals_after_failback(
    bench: Bench, opening: Packet, left: str
) -> None:
    """TCP cannot go on elsewhere: what it sends pins it to nobody else, and its real has it again at once."""
    number, (first, second) = NAT_RINGS[opening.version], (1, 2) if opening.version == 4 else (3, 4)
    ring = bench.ring(number, [first] * 65537)
    sent = establish(bench, opening)
    onward = opening.but(flags=ACK, payload=b"are you there?")
    bench.real(BACKENDS[first - 1], "down")
    ring.step([second if left == "another real" else 0] * 65537)
    bench.tables.put_ring(number, ring)
    for _ in range(3):
        bench.expect(onward, "send_nat", service=SHOP, frame=bytes_to(bench, onward, sent))
    newcomer = opening.but(sport=opening.sport + 1)
    if left == "none":
        bench.expect(newcomer, "drop_no_real", service=SHOP)
    else:
        assert bench.run(newcomer)[0] == "TX"
    bench.real(BACKENDS[first - 1], "up")
    ring.step([first] * 65537)
    bench.tables.put_ring(number, ring)
    bench.expect(onward, "send_nat", service=SHOP, frame=bytes_to(bench, onward, sent))
    answer = bench.answer(sent, flags=ACK)
    bench.expect(answer, "send_answer", service=SHOP, frame=back(opening, answer).bytes())


@BOTH
def test_what_nat_does_not_know_pins_nothing(bench: Bench, opening: Packet) -> None:
    """A flood of acknowledgements to a moved slot writes no flow table."""
    number, (first, second) = NAT_RINGS[opening.version], (1, 2) if opening.version == 4 else (3, 4)
    ring = bench.ring(number, [first] * 65537)
    ring.step([second] * 65537)
    bench.tables.put_ring(number, ring)
    for port in range(2000, 2050):
        bench.expect(opening.but(sport=port, flags=ACK), "drop_nat_unknown", service=SHOP)
    bench.expect(opening.but(ttl=1), "drop_hop_limit", service=SHOP)
    assert all(not list(bench.generation.maps[name].keys()) for name in ("flows", "flows_new"))
    begin(bench, opening)
    assert len(list(bench.generation.maps["flows_new"].keys())) == 1


@BOTH
def test_datagrams_leave_a_real_that_is_down(bench: Bench, opening: Packet) -> None:
    """Without connections nothing is lost elsewhere; and what is new goes where new flows go."""
    number, (first, second) = NAT_RINGS[opening.version], (1, 2) if opening.version == 4 else (3, 4)
    ring = bench.ring(number, [first] * 65537)
    old = opening.but(protocol=UDP, dport=27015, payload=b"hello", dscp_ecn=46 << 2)
    sent, _ = begin(bench, old, GAME)
    ring.step([second] * 65537)
    bench.tables.put_ring(number, ring)
    bench.expect(old, "send_nat", service=GAME, frame=bytes_to(bench, old, sent))
    new, elsewhere = begin(bench, old.but(sport=4444), GAME)
    assert elsewhere.number == second and new.destination != sent.destination
    bench.real(BACKENDS[first - 1], "down")
    assert begin(bench, old, GAME)[1].number == second


@BOTH
def test_a_silent_connection_keeps_its_slot_from_being_finalised(bench: Bench, opening: Packet) -> None:
    """Nothing was sent since the ring moved, and the flow is known all the same; until it ends."""
    number, (first, second) = NAT_RINGS[opening.version], (1, 2) if opening.version == 4 else (3, 4)
    ring = bench.ring(number, [first] * 65537)
    sent = establish(bench, opening)
    assert pinned_slots(bench.generation) == {}
    ring.step([second] * 65537)
    bench.tables.put_ring(number, ring)
    here = slot(flow_hash(opening.source, opening.sport, opening.dport, BALANCE_SEED))
    assert pinned_slots(bench.generation) == {number: {here}}
    assert pinned_reals(bench.generation) == {first}
    ring.finalise(sorted(ring.moved_slots() - {here}))
    bench.tables.put_ring(number, ring)
    onward = opening.but(flags=ACK)
    bench.expect(onward, "send_nat", service=SHOP, frame=bytes_to(bench, onward, sent))
    bench.run(opening.but(flags=RST))
    for table in (bench.generation.maps[name] for name in ("flows", "flows_new")):
        for key in list(table.keys()):
            table.delete(key)
    assert pinned_slots(bench.generation) == {} and pinned_reals(bench.generation) == set()


def test_what_sends_in_a_second_that_begins_meanwhile_is_open(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question and the look at the table."""
    number, (first, second) = NAT_RINGS[4], (1, 2)
    ring = bench.ring(number, [first] * 65537)
    establish(bench, SHOP4)
    ring.step([second] * 65537)
    bench.tables.put_ring(number, ring)

    def later(table: Map, size: int) -> mmap.mmap:
        if table.name == "nat_sets":
            time.sleep(1.1)
            assert bench.run(SHOP4.but(flags=ACK))[0] == "TX"
        return mapped(table, size)

    monkeypatch.setattr(drain, "mapped", later)
    assert open_flows(bench.generation) == {SHOP: 1}
    here = slot(flow_hash(SHOP4.source, SHOP4.sport, SHOP4.dport, BALANCE_SEED))
    assert pinned_slots(bench.generation) == {number: {here}}
