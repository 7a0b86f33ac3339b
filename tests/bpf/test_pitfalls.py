"""What others' datapaths stumbled over, and the test here that would notice. A row without a test fails."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bpf.conftest import Loader
from tests.bpf.support.bench import BACKENDS, VIP4, VOICE, Bench
from tests.bpf.support.packets import OUR_MAC, UDP, Packet
from xds_agent.datapath.decap import load_decap
from xds_agent.datapath.info import verified_instructions
from xds_agent.datapath.libbpf import possible_cpus
from xds_agent.datapath.maglev_program import MaglevProgram
from xds_agent.datapath.program import COOKIE_PROGRAM
from xds_agent.datapath.tc import load_tc

# Pitfall -> module.test in this folder. What only a deployment can stumble over says who checks it there.
PITFALLS = {
    "the verifier's patience": "test_pitfalls.test_every_program_is_far_from_the_verifiers_bound",
    "per-CPU values need possible CPUs": "test_pitfalls.test_counters_sum_over_all_cpus",
    "a resized map loses its flows": "test_end_to_end.test_a_transfer_survives_reloads",
    "a SYN flood wipes an LRU table": "test_balance.test_a_syn_flood_evicts_no_live_flow",
    "a SYN flood takes NAT's ports": "test_nat_table.test_a_flood_takes_no_port_of_a_confirmed_flow",
    "UDP has no SYN": "test_pitfalls.test_udp_flows_stay_until_they_are_idle",
    "the coarse clock and small bursts": "test_protect.test_the_long_run_rate_is_kept_with_any_burst",
    "clocks of two CPUs": "test_protect.test_two_cpus_never_exceed_one_sources_limit",
    "XDP_TX to a peer without a program": "test_veth.test_without_a_program_on_the_peer_answers_vanish",
    "checksum offload": "test_end_to_end.test_10_mib_both_ways_by_nat",
    "VLAN tags": "test_parse.test_tags_are_seen_through_and_kept",
    "IP options": "test_parse.test_options_of_every_length",
    "a fragment's payload read as ports": "test_parse.test_payload_of_a_fragment_is_never_taken_for_ports",
    "a fragment before its first, or by a stranger": (
        "test_nat_fragments.test_a_later_fragment_is_nobodys_without_its_first"
    ),
    "a header cut in two": "test_parse.test_no_fragment_hides_a_header_or_writes_over_it",
    "fragments that flood": "test_nat_fragments.test_a_flood_takes_no_place_of_a_confirmed_flow",
    "ICMP errors with 8 bytes quoted": "test_balance.test_icmp_errors_reach_the_real_of_their_flow",
    "ICMP errors behind NAT": "test_nat_errors.test_errors_from_the_clients_side_reach_the_real",
    "MTU and encapsulation": (
        "test_balance.test_a_packet_that_does_not_fit_is_answered_with_the_size_that_does"
    ),
    "a map of another layout": "test_loading.test_a_map_of_another_layout_is_not_shared_and_all_others_are",
    "a table that means something else": "test_nat_table.test_a_table_of_another_meaning_starts_empty",
    "AF_XDP rebind right after close": "test_afxdp.test_a_queue_can_be_had_again_right_after_it_was_left",
    "a redirect to a socket takes the packet away": (
        "test_afxdp.test_a_reader_that_is_killed_or_sleeps_costs_no_packet"
    ),
    "tail calls swapped one by one": "test_pitfalls.test_stages_belong_to_one_generation",
}
BOUND = 200_000  # of the million the kernel allows: others prune less


@pytest.mark.parametrize("pitfall", PITFALLS)
def test_each_pitfall_has_its_test(pitfall: str) -> None:
    module, name = PITFALLS[pitfall].split(".")
    assert callable(getattr(importlib.import_module(f"tests.bpf.{module}"), name))


@pytest.mark.root
def test_every_program_is_far_from_the_verifiers_bound(
    loaded: Loader, program: Path, record_property: Callable[[str, object], None]
) -> None:
    generation = loaded()
    tc = load_tc(program.parent / "tc.bpf.o", beside=generation)
    decap = load_decap(program.parent / "decap.bpf.o", accept=[])
    walked = {"xdp_main": generation.instructions, "xdp_decap": decap.instructions}
    walked |= {f"tc_{direction}": count for direction, count in tc.instructions.items()}
    if not generation.missing:
        walked[COOKIE_PROGRAM] = verified_instructions(generation.fd(COOKIE_PROGRAM))
    maglev = MaglevProgram(program.parent / "maglev.bpf.o")
    walked["maglev"] = maglev.instructions
    maglev.close()
    tc.close()
    decap.close()
    for name, count in walked.items():
        print(f"{name}: {count} instructions verified")
        record_property(name, count)
    assert max(walked.values()) < BOUND and min(walked.values()) > 100


@pytest.mark.root
def test_counters_sum_over_all_cpus(bench: Bench) -> None:
    """As many packets on each CPU; the sum is right, and there is a value for every possible CPU."""
    frame, cpus = Packet(destination="203.0.113.77", dport=9).bytes(), sorted(os.sched_getaffinity(0))

    def send(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})  # of this thread
        bench.generation.run(frame, repeat=1000)

    for cpu in cpus:
        thread = threading.Thread(target=send, args=(cpu,))
        thread.start()
        thread.join()
    assert bench.counters.service(0)["pass_kernel"].packets == 1000 * len(cpus)
    row = bench.generation.maps["counters"].get(0)
    assert row is not None and len(row) == possible_cpus()
    assert sum(value["packets"] == 1000 for value in row) == len(cpus)


@pytest.mark.root
def test_udp_flows_stay_until_they_are_idle(bench: Bench) -> None:
    """Every slot moved from real 1 to 2: an old flow stays on 1; after `flow_idle_s` of silence it moves."""
    ring = bench.ring(1, [1] * 65537)
    ring.step([2] * 65537)
    bench.tables.put_ring(1, ring)
    packet = Packet(destination=VIP4, protocol=UDP, dport=5060)

    def leaves_for(number: int) -> bytes:
        return packet.but(source_mac=OUR_MAC, destination_mac=BACKENDS[number - 1].mac).bytes()

    for _ in range(3):
        bench.expect(packet, "send_dsr", service=VOICE, frame=leaves_for(1))
    flows = bench.generation.maps["flows"]
    (key,) = list(flows.keys())
    flow = flows.get(key)
    assert flow is not None
    # The program's clock is coarse: at most a second behind this one.
    flows.put(key, {**flow, "seen_s": int(time.clock_gettime(time.CLOCK_MONOTONIC)) - 120})
    bench.expect(packet, "send_dsr", service=VOICE, frame=leaves_for(2))
    bench.expect(packet, "send_dsr", service=VOICE, frame=leaves_for(2))


@pytest.mark.root
def test_stages_belong_to_one_generation(loaded: Loader) -> None:
    """Whatever the next generation takes over, it goes on to its own programs."""
    first = loaded()
    second = loaded(predecessor=first)
    if first.missing:
        pytest.skip(first.missing[0])
    assert second.fresh == ()
    one, other = first.maps["stages"].get(0), second.maps["stages"].get(0)
    assert one and other and one != other
