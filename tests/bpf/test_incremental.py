"""The writer looks only at what an edit is about; the maps hold what a look at everything would give."""

from __future__ import annotations

import random
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.bpf.conftest import Loader
from xds_agent.datapath.services import Settings
from xds_agent.node.datapath.index import Index
from xds_agent.node.datapath.predecessor import live_services
from xds_agent.node.datapath.rings import RingFiles
from xds_agent.node.datapath.state import ServiceTexts
from xds_agent.node.datapath.wanted import Front, RealKey, RealOf, Wanted, WantedReal, WantedService
from xds_agent.node.datapath.writer import Writer

ADDRESSES = [ip_address(text) for text in ("10.1.0.1", "10.1.0.2", "10.1.0.3", "2001:db8::1")]
MACS = {address: bytes([2, 0, 0, 0, 0, number]) for number, address in enumerate(ADDRESSES)}
FRONTS = [Front(ip_address("203.0.114.1"), port, 6) for port in (1, 2, 3, 4)]
FRONTS += [Front(ip_address("2001:db8:114::1"), 1, 6)]


def drawn(rng: random.Random, before: Wanted) -> tuple[Wanted, set[RealOf], dict[Any, bytes]]:
    """Another revision, most services of which are the very ones of `before`; reals that are out; MACs."""
    services, taken = dict(before.services), set[Front]()
    for name in rng.sample("abcd", rng.randint(0, 2)):
        services.pop(name, None)
        taken = {front for one in services.values() for front in one.fronts}
        left = [front for front in FRONTS if front not in taken]
        if rng.random() < 0.8 and left:
            forward = rng.choice(["nat", "gue", "dsr", "echo", "kernel"])
            reals = tuple(
                WantedReal(
                    RealKey(one, 80 if forward == "nat" else 0), rng.choice([0, 1, 1]), rng.choice([0, 1])
                )
                for one in rng.sample(ADDRESSES, rng.randint(0, 3))
            )
            fronts = tuple(rng.sample(left, rng.randint(1, min(2, len(left)))))
            services[name] = WantedService(name, forward, fronts, () if forward == "kernel" else reals)
    out = {(n, real.key) for n, one in services.items() for real in one.reals if rng.random() < 0.2}
    macs = {address: mac for address, mac in MACS.items() if rng.random() < 0.9}
    return Wanted(services), out, macs


def held(writer: Writer) -> dict[Any, Any]:
    """What the maps say, without numbers: two writers may number differently."""
    generation = writer.generation
    names = {number: name for name, number in writer.services.items()}
    keys = {number: str(key) for key, number in writer.reals.items()} | {0: ""}
    states = {number: generation.maps["reals"].get(number)["state"] for number in keys if number}  # type: ignore[index,call-overload]
    found: dict[Any, Any] = {}
    for front, (number, ring) in live_services(generation).items():
        live = writer.tables.ring(ring) if ring else None
        slots = [keys[real] for real in live.current] if live is not None else []
        found[front] = names[number], slots[:500]
    wanted = {str(key) for key in writer._index.users}
    found["reals"] = {keys[number]: state for number, state in states.items() if keys[number] in wanted}
    return found


@pytest.mark.parametrize("seed", range(3))
def test_an_edit_leaves_the_maps_as_a_whole_pass_would(loaded: Loader, tmp_path: Path, seed: int) -> None:
    rng, wanted, texts = random.Random(seed), Wanted(), ServiceTexts()
    writers = [
        Writer(loaded(), rings=RingFiles(tmp_path / name), mtu=1500) for name in ("incremental", "whole")
    ]
    for _ in range(12):
        wanted, out, macs = drawn(rng, wanted)
        writers[1]._index, writers[1]._whole = Index(), True
        for writer in writers:
            writer.apply(wanted, Settings(), macs, out)
        assert held(writers[0]) == held(writers[1])
        assert writers[0].leaving() == writers[1].leaving()
        for writer in writers:
            writer.settle(wanted)
        if rng.random() < 0.7:
            # The state file too: what is kept of the services that no edit touched is what they are.
            why_down = dict.fromkeys(out, "its next hop does not answer")
            kept = texts.of(wanted, writers[0], why_down)
            assert kept == ServiceTexts().of(wanted, writers[0], why_down)
    for writer in writers:
        writer.rings.close()
