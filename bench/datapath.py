"""What the XDP pipeline costs per packet: lists, limiter, GUE load balancing and counters, all on.

Thread-CPU time of BPF_PROG_TEST_RUN, cases interleaved round by round, the minimum of all rounds; an entry
program restores the packet and picks its source, so no round measures what the round before made of it. No
driver's time is in it. `empty_ns` is the harness with a program that does nothing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network, ip_address
from pathlib import Path

from bench.xdp_objects import BUILD, Case, Object
from tests.bpf.support.packets import SYN, Packet
from xds_agent.datapath.acl import AccessLists
from xds_agent.datapath.limit import Rate
from xds_agent.datapath.maglev import Ring, populate
from xds_agent.datapath.program import DROP, PASS, TX, Features, Generation, Sizes, load
from xds_agent.datapath.services import Real, Service, Settings, Tables

NAME = "datapath"
GOALS = {
    "spoofed_16m_ns": ("<=", 150.0),
    "acl_1m_extra_ns": ("<=", 60.0),
    "ratio_xdp_filter_1": ("<=", 3.0),
}
XDP_FILTER = [Path(f"/usr/lib/{os.uname().machine}-linux-gnu/bpf/xdpfilt_alw_ip.o")]
VIP = "203.0.113.1"
ACK = Packet(source="10.0.0.9", destination=VIP, dport=443, payload=b"")
OPENING = ACK.but(flags=SYN)
STRANGER = ACK.but(destination="203.0.113.2")
FLOWS = {"1": 0, "64k": 0xFFFF, "1m": 0xFFFFF}
SPOOFED, ANY = 0xFFFFFF, 0xFFFFFFFF
_FAST = Rate(1e9, burst=1_000_000_000)


def measure(*, quick: bool = False) -> dict[str, float]:
    """Nanoseconds per packet, and ratios between cases of the same rounds."""
    subprocess.run(["make", "-s", "-C", str(BUILD.parent)], check=True)
    rounds, repeat = (6, 50_000) if quick else (40, 200_000)
    with _programs() as (empty, full, moved, listed, unlisted, peer):
        cases = {f"empty_{name}": Case("empty", empty, ACK.bytes(), mask) for name, mask in FLOWS.items()}
        cases |= {f"ns_{n}": Case("full", full.program_fd, ACK.bytes(), mask) for n, mask in FLOWS.items()}
        cases["moved_ns_64k"] = Case("moved", moved.program_fd, ACK.bytes(), FLOWS["64k"])
        cases["moved_syn_ns_1m"] = Case("moved", moved.program_fd, OPENING.bytes(), FLOWS["1m"])
        cases["spoofed_16m_ns"] = Case("spoofed", full.program_fd, STRANGER.bytes(), SPOOFED)
        cases["listed_any_ns"] = Case("listed", listed.program_fd, STRANGER.bytes(), ANY)
        cases["unlisted_any_ns"] = Case("unlisted", unlisted.program_fd, STRANGER.bytes(), ANY)
        if peer is not None:
            cases |= {
                f"xdp_filter_ns_{n}": Case("peer", peer, ACK.bytes(), mask) for n, mask in FLOWS.items()
            }
        try:
            _check(cases)
            figures = _rounds(cases, rounds, repeat)
        finally:
            for case in cases.values():
                case.close()
        return _named(figures) | {"verified_instructions": float(full.instructions)}


def _named(figures: dict[str, float]) -> dict[str, float]:
    # From anywhere in IPv4: the directory's 16 MiB are never in the cache.
    figures["acl_1m_extra_ns"] = figures["listed_any_ns"] - figures["unlisted_any_ns"]
    figures["empty_ns"] = figures["empty_1"]
    for flows in FLOWS:
        figures[f"ratio_empty_{flows}"] = figures[f"ns_{flows}"] / figures.pop(f"empty_{flows}")
        if f"xdp_filter_ns_{flows}" in figures:
            figures[f"ratio_xdp_filter_{flows}"] = figures[f"ns_{flows}"] / figures[f"xdp_filter_ns_{flows}"]
    return figures


def _rounds(cases: dict[str, Case], rounds: int, repeat: int) -> dict[str, float]:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    best = {name: float("inf") for name in cases}
    for case in cases.values():
        case.run(repeat // 10)
    for _ in range(rounds):
        for name, case in cases.items():
            best[name] = min(best[name], case.run(repeat)[0])
    return best


def _check(cases: dict[str, Case]) -> None:
    """Each case does what its figure says: a fast mistake is no result."""
    wanted = {"ns": TX, "moved": TX, "spoofed": PASS, "unlisted": PASS, "empty": PASS}
    for name, case in cases.items():
        verdict = case.run(1000)[1]
        if name.split("_")[0] in wanted and verdict != wanted[name.split("_")[0]]:
            raise RuntimeError(f"{name}: the last packet met verdict {verdict} (drop is {DROP})")


@contextmanager
def _programs() -> Iterator[tuple[int, Generation, Generation, Generation, Generation, int | None]]:
    entry = Object(BUILD / "bench_entry.bpf.o")
    found = next((path for path in XDP_FILTER if path.exists()), None)
    peer = Object(found) if found else None
    generations = [_site(), _site(moved=True), _site(prefixes=1_000_000), _site(acl=False)]
    try:
        yield (entry.program("bench_empty"), *generations, peer.program() if peer else None)
    finally:
        for generation in generations:
            generation.close()
        for loaded in (entry, peer):
            if loaded is not None:
                loaded.close()


def _site(*, moved: bool = False, acl: bool = True, prefixes: int = 1_000) -> Generation:
    """Everything on: lists, source limits that never refuse, one service on eight reals by GUE."""
    program, features = BUILD / "xdp_main.bpf.o", Features(acl=acl, limit_seed=1, balance_seed=2)
    generation = load(program, sizes=Sizes(flows=1 << 21), features=features)
    tables = Tables(generation)
    tables.configure(
        Settings(source_packets=_FAST, source_syns=_FAST, tunnel_source4=ip_address("10.9.0.1"))  # type: ignore[arg-type]
    )
    reals = {number: (f"10.1.0.{number}", 1) for number in range(1, 9)}
    for number, (address, _) in reals.items():
        tables.put_real(number, Real(ip_address(address), bytes.fromhex("0200000000") + bytes([number])))
    ring = Ring(populate(reals))
    if moved:
        # Every other slot: half of all packets ask the flow table.
        ring.step([real % 8 + 1 if slot % 2 else real for slot, real in enumerate(ring.current)])
    tables.put_ring(1, ring)
    tables.put_service(Service(1, ip_address(VIP), 443, 6, "gue", 1, packets=_FAST, syns=_FAST))
    lists = AccessLists(generation)
    rules = [
        (IPv4Network((0x0B000000 + number * 256, 24)), lists.classes["deny"]) for number in range(prefixes)
    ]
    lists.replace(rules)
    return generation
