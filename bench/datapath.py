"""What the XDP pipeline costs per packet: the features of a host, all on, by GUE and by NAT.

Thread-CPU time of BPF_PROG_TEST_RUN, cases interleaved round by round, the minimum of all rounds; an entry
program restores the packet and picks its source, so no round measures what the round before made of it. No
driver's time is in it. `empty_ns` is the harness with a program that does nothing.

`--peer OBJECT` takes the first program of any other XDP object along; its packets go to 203.0.113.1:443 by
TCP. With empty maps a balancer does not find that address and lets them pass, no work to compare ours with:
`--peer-maps FILE` fills them, {"MAP": [["KEY", "VALUE"], ...], ...} in hex as they lie in memory. What the
packets met is `peer_verdict` (3 is XDP_TX); with any other there are figures of the peer, and no ratio.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv4Network, ip_address
from itertools import count, islice
from pathlib import Path

from bench.xdp_objects import BUILD, Case, Object
from tests.bpf.support.hashing import address_hash, mix
from tests.bpf.support.packets import SYN, Packet
from xds_agent.datapath.acl import AccessLists
from xds_agent.datapath.limit import Rate
from xds_agent.datapath.maglev import Ring, populate
from xds_agent.datapath.program import DROP, PASS, TX, Features, Generation, Sizes, load
from xds_agent.datapath.services import Forward, Real, Service, Settings, Tables

NAME = "datapath"
GOALS = {
    "spoofed_16m_ns": ("<=", 150.0),
    "acl_1m_extra_ns": ("<=", 60.0),
    "ratio_xdp_filter_1": ("<=", 3.0),
    "ratio_peer_1": ("<=", 0.70),
    "ratio_peer_64k": ("<=", 0.50),
    "ratio_peer_1m": ("<=", 0.30),
}
XDP_FILTER = [Path(f"/usr/lib/{os.uname().machine}-linux-gnu/bpf/xdpfilt_alw_ip.o")]
VIP = "203.0.113.1"
ACK = Packet(source="10.0.0.9", destination=VIP, dport=443, payload=b"")
FULL_SIZE = ACK.but(payload=bytes(1460))
OPENING = ACK.but(flags=SYN)
STRANGER = ACK.but(destination="203.0.113.2")
FLOWS = {"1": 0, "64k": 0xFFFF, "1m": 0xFFFFF}
SPOOFED, ANY = 0xFFFFFF, 0xFFFFFFFF
# 64 reals in as many banks, so that a million flows find ports.
BANKS, PORTS = 64, 24_000
WIRE_BYTES = {"64": 64, "1500": 1514}
Filling = Mapping[str, Sequence[tuple[str, str]]]
_FAST = Rate(1e9, burst=1_000_000_000)


def measure(
    *, quick: bool = False, peer: str | None = None, peer_maps: str | None = None
) -> dict[str, float]:
    """Nanoseconds per packet, and ratios between cases of the same rounds. `peer`: path of an object;
    `peer_maps`: of what its maps are filled with.

    Raises FileNotFoundError if one is not there, ValueError for maps that the object has not.
    """
    if peer_maps and not peer:
        raise ValueError("--peer-maps: there is no --peer whose maps they are")
    filled = json.loads(Path(peer_maps).read_bytes()) if peer_maps else {}
    if peer and not Path(peer).exists():
        raise FileNotFoundError(f"--peer: {peer} is not there")
    subprocess.run(["make", "-s", "-C", str(BUILD.parent)], check=True)
    rounds, repeat = (6, 50_000) if quick else (40, 200_000)
    with ExitStack() as stack:
        cases, instructions = _cases(stack, Path(peer) if peer else None, filled)
        verdicts = _check(cases)
        figures = fastest(cases, rounds, repeat)
    met = [verdict for name, verdict in verdicts.items() if name.startswith("peer_")]
    return named(figures, peer_met=met) | {"verified_instructions": float(instructions)}


def _cases(stack: ExitStack, peer: Path | None, filled: Filling) -> tuple[dict[str, Case], int]:
    entry = stack.enter_context(_object(BUILD / "bench_entry.bpf.o"))
    full, half = stack.enter_context(site()), stack.enter_context(site(moved=2))
    tenth = stack.enter_context(site(moved=10))
    nat, nat_half = (
        stack.enter_context(site(forward="nat")),
        stack.enter_context(site(forward="nat", moved=2)),
    )
    nat_tenth = stack.enter_context(site(forward="nat", moved=10))
    cases: dict[str, Case] = {}

    def add(name: str, kind: str, program: int, packet: Packet, mask: int) -> None:
        cases[name] = Case(kind, program, packet.bytes(), mask)
        stack.callback(cases[name].close)

    for flows, mask in FLOWS.items():
        add(f"empty_{flows}", "empty", entry.program("bench_empty"), ACK, mask)
        add(f"ns_{flows}", "full", full.program_fd, ACK, mask)
        add(f"nat_ns_{flows}", "nat", nat.program_fd, ACK, mask)
        for label, path in (("xdp_filter", XDP_FILTER[0]), ("peer", peer)):
            if path is not None and path.exists():
                other = stack.enter_context(_object(path))
                other.fill(filled if label == "peer" else {})
                add(f"{label}_ns_{flows}", "other", other.program(), ACK, mask)
    for share, gue, translated in ((10, tenth, nat_tenth), (50, half, nat_half)):
        add(f"moved{share}_ns_64k", "full", gue.program_fd, ACK, FLOWS["64k"])
        add(f"nat_moved{share}_ns_64k", "nat", translated.program_fd, ACK, FLOWS["64k"])
    add("moved50_syn_ns_1m", "full", half.program_fd, OPENING, FLOWS["1m"])
    add("nat_syn_ns_1m", "nat", nat.program_fd, OPENING, FLOWS["1m"])
    add("full_size_ns", "full", full.program_fd, FULL_SIZE, FLOWS["64k"])
    add("spoofed_16m_ns", "spoofed", full.program_fd, STRANGER, SPOOFED)
    listed = stack.enter_context(site(prefixes=1_000_000))
    unlisted = stack.enter_context(site(acl=False))
    add("listed_any_ns", "listed", listed.program_fd, STRANGER, ANY)
    add("unlisted_any_ns", "unlisted", unlisted.program_fd, STRANGER, ANY)
    denied = stack.enter_context(site(denied="10.0.0.0/8"))
    add("denied_syn_ns_16m", "dropped", denied.program_fd, STRANGER.but(flags=SYN), SPOOFED)
    add("denied_ack_ns_16m", "dropped", denied.program_fd, STRANGER, SPOOFED)
    # Connections have to begin: nearly each of the sources sends a request.
    for program, mask, packets in (
        (nat, FLOWS["1m"], 12_000_000),
        (nat_half, FLOWS["64k"], 1_000_000),
        (nat_tenth, FLOWS["64k"], 1_000_000),
    ):
        opening = Case("opening", program.program_fd, OPENING.bytes(), mask)
        opening.run(packets)
        opening.close()
    return cases, full.instructions


def named(figures: dict[str, float], *, peer_met: Sequence[int] = ()) -> dict[str, float]:
    """The figures that are shown. `peer_met`: verdicts of the peer's cases, whose ratios are only given where
    all are XDP_TX."""
    # From anywhere in IPv4: the directory's 4 MiB are in no near cache.
    figures["acl_1m_extra_ns"] = figures["listed_any_ns"] - figures["unlisted_any_ns"]
    figures["empty_ns"] = figures["empty_1"]
    for size, per_packet in (("64", figures["ns_64k"]), ("1500", figures["full_size_ns"])):
        figures[f"gbit_core_{size}"] = WIRE_BYTES[size] * 8 / per_packet
    for flows in FLOWS:
        figures[f"ratio_empty_{flows}"] = figures[f"ns_{flows}"] / figures.pop(f"empty_{flows}")
        for label in ("xdp_filter", "peer") if set(peer_met) <= {TX} else ("xdp_filter",):
            if f"{label}_ns_{flows}" in figures:
                ratio = figures[f"ns_{flows}"] / figures[f"{label}_ns_{flows}"]
                figures[f"ratio_{label}_{flows}"] = ratio
    if peer_met:
        other = [verdict for verdict in peer_met if verdict != TX]
        figures["peer_verdict"] = float(other[0] if other else TX)
        if other:
            print(
                f"no ratio: the peer's verdict is {other[0]}, not {TX} (XDP_TX); --peer-maps fills its maps"
            )
    return figures


def fastest(cases: dict[str, Case], rounds: int, repeat: int) -> dict[str, float]:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    best = {name: float("inf") for name in cases}
    for case in cases.values():
        case.run(repeat // 10)
    for _ in range(rounds):
        for name, case in cases.items():
            best[name] = min(best[name], case.run(repeat)[0])
    return best


def _check(cases: dict[str, Case]) -> dict[str, int]:
    """Each case does what its figure says: a fast mistake is no result. What each met."""
    wanted = {"full": TX, "nat": TX, "spoofed": PASS, "unlisted": PASS, "empty": PASS, "dropped": DROP}
    verdicts = {name: case.run(1000)[1] for name, case in cases.items()}
    for name, verdict in verdicts.items():
        if verdict != wanted.get(cases[name].name, verdict):
            raise RuntimeError(f"{name}: the last packet met verdict {verdict} (drop is {DROP})")
    return verdicts


@contextmanager
def _object(path: Path) -> Iterator[Object]:
    loaded = Object(path)
    try:
        yield loaded
    finally:
        loaded.close()


@contextmanager
def site(
    *,
    forward: Forward = "gue",
    moved: int = 0,
    acl: bool = True,
    prefixes: int = 1_000,
    sampling: bool = True,
    denied: str = "",
) -> Iterator[Generation]:
    """Everything a host has on, lists, source limits that never refuse, one service. `moved`: every
    so manieth slot; `denied`: one more prefix."""
    sizes = Sizes(flows=1 << 21, nat_ports=PORTS, nat_banks=BANKS if forward == "nat" else 1)
    features = Features(acl=acl, sampling=sampling, limit_seed=1, balance_seed=2)
    generation = load(BUILD / "xdp_main.bpf.o", sizes=sizes, features=features)
    try:
        _furnish(generation, forward, moved, prefixes, denied)
        yield generation
    finally:
        generation.close()


def _furnish(generation: Generation, forward: Forward, moved: int, prefixes: int, denied: str = "") -> None:
    tables, edge = Tables(generation), IPv4Address("10.9.0.1")
    tables.configure(Settings(source_packets=_FAST, source_syns=_FAST, tunnel_source4=edge, nat_source4=edge))
    reals = {number: (address, 1) for number, address in enumerate(_addresses(forward), start=1)}
    for number, (address, _) in reals.items():
        tables.put_real(number, Real(ip_address(address), bytes.fromhex("0200000000") + bytes([number])))
    ring = Ring(populate(reals))
    if moved:
        following = [real % len(reals) + 1 for real in ring.current]
        ring.step([following[slot] if slot % moved == 0 else real for slot, real in enumerate(ring.current)])
    tables.put_ring(1, ring)
    tables.put_service(Service(1, ip_address(VIP), 443, 6, forward, 1, packets=_FAST, syns=_FAST))
    lists = AccessLists(generation)
    rules = [
        (IPv4Network((0x0B000000 + number * 256, 24)), lists.classes["deny"]) for number in range(prefixes)
    ]
    rules += [(IPv4Network(denied), lists.classes["deny"])] if denied else []
    lists.replace(rules)


def _addresses(forward: Forward) -> list[str]:
    """Eight reals; for nat as many as there are banks, one in each."""
    named: Callable[[int], str] = lambda number: str(IPv4Address(0x0A010001 + number))  # noqa: E731
    if forward != "nat":
        return [named(number) for number in range(8)]
    banks: dict[int, str] = {}
    for address in (named(number) for number in islice(count(), 10_000)):
        banks.setdefault(mix(address_hash(address)) & (BANKS - 1), address)
    return sorted(banks.values())
