"""Exemptions, limits, monitor mode; lists are in test_lists.py."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest

from tests.bpf.conftest import Loader
from tests.bpf.support.bench import BACKENDS, LIMIT_SEED, LOCAL, VIP4, WEB, Bench
from tests.bpf.support.packets import ACK, ICMPV6, SYN, TCP, UDP, Packet
from xds_agent.datapath.limit import Rate, source_parameters, tick_ns
from xds_agent.datapath.program import Features
from xds_agent.datapath.services import Service
from xds_agent.node.datapath.rates import settings_of
from xds_agent.node.datapath.wanted import Limits

pytestmark = pytest.mark.root

HOST4 = Packet(destination="203.0.113.77", dport=9)
HOST6 = Packet(source="2001:db8::7", destination="2001:db8:ffff::77", dport=9)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (HOST4.but(dport=22, flags=SYN), "pass_ssh"),
        (HOST6.but(dport=22), "pass_ssh"),
        (HOST4.but(protocol=UDP, sport=67, dport=68), "pass_dhcp"),
        (HOST6.but(protocol=UDP, sport=547, dport=546), "pass_dhcp"),
        (HOST6.but(protocol=ICMPV6, icmp=(135, 0, 0), ttl=255), "pass_neighbour"),
        (HOST6.but(protocol=ICMPV6, icmp=(136, 0, 0), ttl=255), "pass_neighbour"),
        (HOST6.but(protocol=ICMPV6, icmp=(135, 0, 0), ttl=254), "drop_denied"),
        (HOST4.but(protocol=UDP, sport=68, dport=67), "drop_denied"),
        (HOST4.but(protocol=UDP, dport=22), "drop_denied"),
        (HOST4.but(sport=22, dport=9), "drop_denied"),
        (HOST4.but(protocol=TCP, transport=b"\0\x16\0\x16" + bytes(20), fragment=(64, False)), "drop_denied"),
    ],
)
def test_exemptions_and_what_only_resembles_them(bench: Bench, packet: Packet, reason: str) -> None:
    bench.lists_of(deny=["0.0.0.0/0", "::/0"])
    bench.expect(packet, reason)


# One packet in 1,000 s: whatever passes is the burst.
def burst_of(count: int) -> Rate:
    return Rate(per_second=0.001, burst=count)


@pytest.mark.parametrize("burst", [1, 5, 50])
@pytest.mark.parametrize("base", [HOST4, HOST6], ids=["IPv4", "IPv6"])
def test_a_source_gets_its_burst_and_no_more(bench: Bench, base: Packet, burst: int) -> None:
    bench.configure(source_packets=burst_of(burst))
    for _ in range(burst):
        bench.expect(base, "pass_kernel")
    for _ in range(3):
        bench.expect(base, "drop_source_rate")
    other = base.but(source="198.51.100.99" if base.version == 4 else "2001:db8:0:9::7")
    bench.expect(other, "pass_kernel")


def test_a_cell_that_was_idle_while_the_clock_went_round_is_an_empty_bucket(bench: Bench) -> None:
    """No time of the past shuts anybody out, whatever 32 bits make of it."""
    rate = burst_of(3)
    bench.configure(source_packets=rate)
    parameters, table = source_parameters({"packets": rate}), bench.generation.maps["limit_blocks"]
    full, shift = parameters["source_full"], parameters["source_shift"]
    now = (time.clock_gettime_ns(time.CLOCK_MONOTONIC) >> shift) & 0xFFFFFFFF

    def age(cell: int) -> None:
        for row in range(bench.generation.sizes.limit_blocks):
            table.put(row, {"cells": [cell & 0xFFFFFFFF] * 15, "touched": 0})

    for ahead, reason in [
        (full - 100, "drop_source_rate"),
        (full + 100, "pass_kernel"),
        (1 << 31, "pass_kernel"),
        ((1 << 32) - 100, "pass_kernel"),
        (0, "pass_kernel"),
    ]:
        age(now + ahead)
        bench.expect(HOST4, reason)


def test_an_ipv6_customer_is_a_64(bench: Bench) -> None:
    bench.configure(source_packets=burst_of(1))
    bench.expect(HOST6, "pass_kernel")
    bench.expect(HOST6.but(source="2001:db8::ffff:1"), "drop_source_rate")
    bench.expect(HOST6.but(source="2001:db8:0:1::7"), "pass_kernel")


def test_syns_and_ssh_have_limits_of_their_own(bench: Bench) -> None:
    bench.configure(source_packets=burst_of(1), source_syns=burst_of(2), ssh_packets=burst_of(1))
    opening = HOST4.but(flags=SYN)
    for packet, reason in [
        (HOST4, "pass_kernel"),
        (HOST4, "drop_source_rate"),
        (opening, "pass_kernel"),
        (opening, "pass_kernel"),
        (opening, "drop_syn_rate"),
        (HOST4.but(dport=22), "pass_ssh"),
        (HOST4.but(dport=22), "drop_ssh_rate"),
    ]:
        bench.expect(packet, reason)


def test_bytes_of_a_source_are_counted_over_all_its_frames(bench: Bench) -> None:
    """Of whole frames, SYNs too; while anything is left, the last one may be as long as it likes."""
    frames = [HOST4.but(payload=bytes(1000)), HOST4.but(flags=SYN), HOST4.but(payload=bytes(1400))]
    left = sum(len(one.bytes()) for one in frames[:2])
    bench.configure(source_bytes=Rate(per_second=0.001, burst=left + 1))
    for packet in frames:
        bench.expect(packet, "pass_kernel")
    for packet in (*frames, HOST4):
        bench.expect(packet, "drop_source_bytes")
    bench.expect(HOST4.but(dport=22), "pass_ssh")
    bench.expect(HOST4.but(source="198.51.100.99"), "pass_kernel")
    bench.expect(HOST6, "pass_kernel")
    bench.expect(HOST6.but(source="2001:db8::ffff:1", payload=bytes(1400)), "pass_kernel")
    bench.expect(HOST6, "drop_source_bytes")


LEASES = {
    "IPv4": (HOST4.but(protocol=UDP, sport=67, dport=68), "198.51.100.{}", "198.51.100.200/32"),
    "IPv6": (HOST6.but(protocol=UDP, sport=547, dport=546), "2001:db8:{}::7", "2001:db8:200::/48"),
}


@pytest.mark.parametrize("kind", LEASES)
def test_a_flood_of_leases_is_capped_for_each_source_and_for_all(bench: Bench, kind: str) -> None:
    """Denied sources have this way to the host and port 22; in a flood from everywhere the exempt pass."""
    lease, source, exempt = LEASES[kind]
    bench.lists_of(deny=["0.0.0.0/0", "::/0"], exempt=[exempt])
    bench.configure(dhcp_packets=burst_of(2), dhcp_total=burst_of(5), ssh_packets=burst_of(1))
    one, other, third, fourth = (lease.but(source=source.format(last)) for last in (1, 2, 3, 200))
    for packet, reason in [
        (one, "pass_dhcp"), (one, "pass_dhcp"), (one, "drop_dhcp_rate"),
        (other, "pass_dhcp"), (other, "pass_dhcp"), (other, "drop_dhcp_rate"),
        (third, "pass_dhcp"), (third, "drop_dhcp_rate"), (third, "drop_dhcp_rate"),
        (fourth, "pass_dhcp"),
        (lease.but(protocol=TCP, dport=22, source=one.source), "pass_ssh"),
    ]:  # fmt: skip
        bench.expect(packet, reason)
    bench.lists_of()
    bench.expect(one, "drop_dhcp_rate")
    bench.expect(lease.but(dport=9), "pass_kernel")


def test_one_flooder_takes_no_lease_from_the_others(bench: Bench) -> None:
    """A source that is over its own rate takes nothing from what all have together."""
    lease, source, _ = LEASES["IPv4"]
    bench.configure(dhcp_packets=burst_of(1), dhcp_total=burst_of(2))
    flooder, server = (lease.but(source=source.format(last)) for last in (1, 2))
    bench.expect(flooder, "pass_dhcp")
    for _ in range(20):
        bench.expect(flooder, "drop_dhcp_rate")
    bench.expect(server, "pass_dhcp")


def test_a_server_that_broadcasts_to_a_whole_rack_is_no_flood(bench: Bench) -> None:
    """What it answers to others comes here, too."""
    hosts = settings_of(Limits(), (), cookie_key=bytes(16))
    bench.configure(dhcp_packets=hosts.dhcp_packets, dhcp_total=hosts.dhcp_total)
    answer = LEASES["IPv4"][0].but(destination="255.255.255.255")
    for _ in range(48):
        bench.expect(answer, "pass_dhcp")


def test_hosts_cap_leases_whatever_the_inventory_says() -> None:
    """Caps of a lease cost limits of sources none of their accuracy, up to 200,000 a second."""
    found = settings_of(Limits(source_packets=200_000), (), cookie_key=bytes(16))
    rates = {"source_packets": found.source_packets, "dhcp_packets": found.dhcp_packets}
    assert found.dhcp_total is not None and all(rates.values())
    parameters = source_parameters(rates)
    alone = source_parameters({"source_packets": found.source_packets})
    assert parameters["source_shift"] == alone["source_shift"]


def test_services_have_limits_over_all_sources(bench: Bench) -> None:
    service = Service(LOCAL, ip_address(VIP4), 8443, TCP, packets=burst_of(2), syns=burst_of(1))
    bench.tables.put_service(service)
    packets = [HOST4.but(destination=VIP4, dport=8443, source=f"198.51.100.{last}") for last in range(4)]
    bench.expect(packets[0], "pass_kernel", service=LOCAL)
    bench.expect(packets[1], "pass_kernel", service=LOCAL)
    bench.expect(packets[2], "drop_service_rate", service=LOCAL)
    bench.expect(packets[2].but(flags=SYN), "pass_kernel", service=LOCAL)
    bench.expect(packets[3].but(flags=SYN), "drop_service_syn_rate", service=LOCAL)


def test_exempt_sources_have_no_limit(bench: Bench) -> None:
    bench.lists_of(exempt=["198.51.100.0/24"])
    bench.configure(source_packets=burst_of(1))
    for _ in range(3):
        bench.expect(HOST4, "pass_kernel")


# A sender that is kept from its CPU uses less of its limit: one window of all in this time has to come near.
PATIENCE_S, NEAR = 120.0, 0.8


def windows() -> Iterator[int]:
    deadline = time.monotonic() + PATIENCE_S
    for window in itertools.count():
        yield window
        if time.monotonic() > deadline:
            return


def never_above_and_once_near(bench: Bench, limit: Rate, send: Callable[[], object]) -> None:
    """`send` sends more than may pass, for a time: never more than that does, and 80 % of it once."""
    parameters, shares = limit.parameters(), []

    def passed_so_far() -> int:
        found = bench.counters.service(0).get("pass_kernel")
        return found.packets if found else 0

    for window in windows():
        before, started = passed_so_far(), time.monotonic_ns()
        send()
        took_ns = time.monotonic_ns() - started
        passed = passed_so_far() - before
        assert passed <= (took_ns + tick_ns() + parameters["burst_ns"]) / parameters["interval_ns"] + 2
        shares.append(passed * parameters["interval_ns"] / took_ns)
        # The first one had the burst, too.
        if window and shares[-1] >= NEAR:
            return
    pytest.fail(f"none of {len(shares)} windows came near the limit: {max(shares[1:]):.0%} at most")


@pytest.mark.parametrize("burst_ms", [1, 5, 20, 50])
def test_the_long_run_rate_is_kept_with_any_burst(bench: Bench, burst_ms: int) -> None:
    """The coarse clock stands still for a tick: in a time T at most rate x T + burst + one tick may pass."""
    rate = 100_000
    limit = Rate(rate, burst=max(1, rate * burst_ms // 1000))
    bench.configure(source_packets=limit)
    frame = HOST4.bytes()

    # One call over many ticks: between two, the kernel waits for about four.
    never_above_and_once_near(bench, limit, lambda: bench.generation.run(frame, repeat=1_000_000))


def test_monitor_counts_what_it_lets_pass(bench: Bench) -> None:
    bench.lists_of(deny=["198.51.100.0/24"])
    bench.configure(monitor=True)
    packet = HOST4.but(destination=VIP4, dport=443)
    backend = bench.real_of(packet, 1)
    assert backend in BACKENDS
    bench.expect(packet, "send_gue", service=WEB, frame=bench.encapsulated(packet, backend))
    assert bench.counters.monitored(WEB)["drop_denied"].packets == 1
    broken = HOST4.but(fields={"ihl": 4})
    bench.expect(broken, "pass_kernel")
    assert bench.counters.monitored(0)["drop_bad_header"].packets == 1


def connected(kind: int, family: int, address: str) -> tuple[socket.socket, socket.socket, int, int]:
    """Two sockets of this host, connected; ports of the near and the far end."""
    far = socket.socket(family, kind)
    far.bind((address, 0))
    near = socket.socket(family, kind)
    if kind == socket.SOCK_STREAM:
        far.listen()
    near.connect(far.getsockname()[:2])
    return near, far, near.getsockname()[1], far.getsockname()[1]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["TCP", "UDP"])
def test_answers_to_this_hosts_connections_come_in(loaded: Loader, kind: int, family: int) -> None:
    """Denied and expected: in. A listener, or a UDP socket that is open to all, expects nobody."""
    bench = Bench(loaded(features=Features(limit_seed=LIMIT_SEED)))
    bench.lists_of(deny=["0.0.0.0/0", "::/0"])
    address = "127.0.0.1" if family == socket.AF_INET else "::1"
    near, far, near_port, far_port = connected(kind, family, address)
    with near, far:
        answer = Packet(
            source=address,
            destination=address,
            protocol=TCP if kind == socket.SOCK_STREAM else UDP,
            sport=far_port,
            dport=near_port,
            flags=ACK,
        )
        bench.expect(answer, "pass_expected")
        bench.expect(answer.but(sport=far_port ^ 1), "drop_denied")
        bench.expect(answer.but(sport=near_port ^ 1, dport=far_port, flags=SYN), "drop_denied")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.parametrize("sizes", [(1460,), (0, 200, 1460)], ids=["one size", "mixed sizes"])
def test_two_cpus_never_exceed_one_sources_bytes(bench: Bench, sizes: tuple[int, ...]) -> None:
    """As a host is told: beside the limit of packets, which is far. One frame more than the burst passes."""
    told = settings_of(Limits(source_packets=10_000_000, source_bits=100_000_000), (), cookie_key=bytes(16))
    bench.configure(source_packets=told.source_packets, source_bytes=told.source_bytes)
    limit, shares = told.source_bytes, []
    assert limit is not None
    frames, cpus = (
        [HOST4.but(payload=bytes(one)).bytes() for one in sizes],
        sorted(os.sched_getaffinity(0))[:2],
    )
    longest = max(map(len, frames))

    def send(cpu: int, started: int) -> None:
        os.sched_setaffinity(0, {cpu})  # of this thread
        while time.monotonic_ns() - started < 400_000_000:
            for frame in frames:
                bench.generation.run(frame, repeat=2_000)

    def passed_so_far() -> int:
        found = bench.counters.service(0).get("pass_kernel")
        return found.bytes if found else 0

    for window in windows():
        before, started = passed_so_far(), time.monotonic_ns()
        threads = [threading.Thread(target=send, args=(cpu, started)) for cpu in cpus]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s = (time.monotonic_ns() - started + tick_ns()) / 1e9
        passed = passed_so_far() - before
        assert passed <= (took_s + tick_ns() / 1e9) * limit.per_second + limit.burst + 2 * longest
        shares.append(passed / took_s / limit.per_second)
        if window and shares[-1] >= NEAR:
            break
    else:
        pytest.fail(f"none of {len(shares)} windows came near the limit: {max(shares[1:]):.0%} at most")
    assert bench.counters.service(0)["drop_source_bytes"].packets


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_two_cpus_never_exceed_one_sources_limit(bench: Bench) -> None:
    """Both CPUs send as the same source: compare and exchange lets through what the limit says, once."""
    limit = Rate(100_000, burst=2000)
    bench.configure(source_packets=limit)
    frame, cpus = HOST4.bytes(), sorted(os.sched_getaffinity(0))[:2]

    def send(cpu: int, started: int) -> None:
        os.sched_setaffinity(0, {cpu})  # of this thread
        while time.monotonic_ns() - started < 200_000_000:
            bench.generation.run(frame, repeat=20_000)

    def both() -> None:
        now = time.monotonic_ns()
        threads = [threading.Thread(target=send, args=(cpu, now)) for cpu in cpus]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    never_above_and_once_near(bench, limit, both)
    counts = bench.counters.service(0)
    assert counts["drop_source_rate"].packets > counts["pass_kernel"].packets
