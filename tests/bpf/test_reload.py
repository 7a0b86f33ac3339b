"""Proof before a swap, the way back after it, and when to take it."""

from __future__ import annotations

import dataclasses
import json
import os
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.bpf.conftest import SEEDED, SMALL, Loader
from tests.bpf.support.bench import BACKENDS, VIP4, VIP6, WEB, Bench
from tests.bpf.support.oracle_parse import Stop, parse
from tests.bpf.support.packets import UDP, Packet
from tests.bpf.test_fuzz import RULES, Generator, answers, equipped, rest_of
from tests.bpf.test_loading import changed
from xds_agent.datapath import prove
from xds_agent.datapath.counters import Count
from xds_agent.datapath.fill import fills
from xds_agent.datapath.info import keep_run_time, run_time
from xds_agent.datapath.limit import Rate
from xds_agent.datapath.nat_range import local_ports, snat_problem
from xds_agent.datapath.program import Features
from xds_agent.datapath.services import Settings
from xds_agent.datapath.watch import Bounds, Sample, judge
from xds_agent.node.datapath.figures import _program

GOLDEN = Path(prove.__file__).parent / "fixtures.json"
FRAMES, LONGEST = 400, 140


def golden(bench: Bench) -> dict[str, Any]:
    """The fixtures as the oracle has them: small frames of the fuzz, and answers to what was translated.

    Nothing that depends on the clock or on the sockets of the host that is proved on.
    """
    oracle, generator = equipped(bench), Generator(2027)
    bench.configure(cookies_above=None, cookie_key=bytes(16))
    oracle.cookies, oracle.connected, oracle.own = None, frozenset(), frozenset()
    packets: list[dict[str, Any]] = []
    large = Packet(source="192.0.2.1", destination=VIP4, dport=443, payload=bytes(1460))
    cut = Packet(source="192.0.2.1", destination=VIP4, protocol=UDP, dport=27015, fragment=(0, True))
    waiting = [
        frame.bytes()
        for one in (large, cut)
        for frame in (one, one.but(source="2001:db8::1", destination=VIP6))
    ]
    while len(packets) < FRAMES:
        if waiting and len(packets) % 2:
            frame = waiting.pop(0)
        else:
            frame = next(made for _ in count() if len(made := generator.frame()) <= LONGEST)
        service, reason, leaves = oracle.fate(frame)
        if reason == "send_nat":
            waiting += [*answers(generator.random, leaves), *rest_of(frame)]
        entry = {"frame": frame.hex(), "service": service, "reason": reason}
        packets.append(entry | ({"leaves": leaves.hex()} if reason.startswith("send") else {}))
    return {**site(bench), "packets": packets}


def site(bench: Bench) -> dict[str, Any]:
    numbers = {ring: sorted(set(made.current) - {0}) for ring, made in bench.rings.items()}
    services = [service for entries in bench.services.values() for service in entries]
    return {
        "sizes": dataclasses.asdict(SMALL),
        "features": said(SEEDED, Features()),
        "settings": said(bench.settings, Settings()),
        "reals": [[b.number, b.address, b.mac.hex(), b.port] for b in BACKENDS],
        "rings": {str(ring): members for ring, members in numbers.items()},
        "services": [
            {key: plain(value) for key, value in dataclasses.asdict(one).items()} for one in services
        ],
        "rules": [list(rule) for rule in RULES],
    }


def said(value: Any, usual: Any) -> dict[str, Any]:
    """Fields that are not as usual."""
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {name: plain(held) for name, held in fields.items() if held != getattr(usual, name)}


def plain(value: Any) -> Any:
    if isinstance(value, Rate):
        return [value.per_second, value.burst]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


@pytest.mark.root
def test_the_fixtures_are_the_oracles(bench: Bench, request: pytest.FixtureRequest) -> None:
    """pytest tests/bpf/test_reload.py --write-golden makes them again."""
    made = golden(bench)
    if request.config.getoption("--write-golden"):
        GOLDEN.write_text(json.dumps(made, indent=0) + "\n")
    assert json.loads(GOLDEN.read_text()) == made
    reached = {packet["reason"] for packet in made["packets"]}
    assert reached >= {"send_nat", "send_answer", "send_gue", "send_dsr", "send_echo", "drop_denied"}
    assert reached >= {"send_too_big", "pass_ssh", "pass_fragment", "drop_no_real", "drop_truncated"}
    assert reached >= {"drop_tiny_fragment"}
    later = [one for one in made["packets"] if fragment_of(one) == "later"]
    assert {"send_nat", "send_answer"} <= {one["reason"] for one in later}


@pytest.mark.root
def test_a_good_program_is_proved(bench: Bench, program: Path) -> None:
    assert prove.prove(program) == []


@pytest.mark.root
@pytest.mark.parametrize(
    ("header", "old", "new", "said"),
    [
        ("acl.h", "class == ACL_ASK ?", "class > ACL_ASK ?", "not"),
        ("nat.h", "features->nat_first_port", "features->nat_first_port + 1", "send_answer"),
        ("forward.h", "#define OUTER_TTL 64", "#define OUTER_TTL 63", "left as"),
    ],
)
def test_a_bad_one_is_not(
    bench: Bench, program: Path, tmp_path: Path, header: str, old: str, new: str, said: str
) -> None:
    problems = prove.prove(changed(program, tmp_path, header, old, new))
    assert any(said in problem for problem in problems), problems[:3]


def fragment_of(packet: dict[str, Any]) -> str:
    try:
        return parse(bytes.fromhex(packet["frame"])).fragment
    except Stop:
        return ""


def sample(at_s: float, **packets: int) -> Sample:
    """Of service 1."""
    return Sample.of({1: {reason: Count(count, 0) for reason, count in packets.items()}}, at_s)


START = sample(0, send_nat=0)
FLIP = sample(10, send_nat=10_000, drop_denied=10, drop_nat_unknown=20)


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (sample(20, send_nat=20_000, drop_denied=20, drop_nat_unknown=40), None),
        (sample(20, send_nat=20_000, drop_denied=90_000, drop_nat_unknown=20), None),
        (
            sample(20, send_nat=19_000, drop_denied=10, drop_nat_unknown=1020),
            "unknown went from 0.2%",
        ),
        (sample(20, send_nat=19_000, drop_denied=10, drop_internal=1000), "drop_internal went from 0.0% to"),
        (sample(20, send_nat=19_000, drop_nat_unknown=20, drop_nat_fragment=1000), "drop_nat_fragment went"),
        (sample(20, send_nat=19_000, drop_nat_unknown=20, drop_fragments_full=1000), "fragments_full went"),
        (sample(20, send_nat=10_100, drop_denied=10_010, drop_nat_unknown=20), "10 packets a second pass"),
        (sample(20, send_nat=10_050, drop_denied=10, drop_nat_unknown=20), None),
        # The counters began anew with the generation.
        (sample(20, send_nat=9_000, drop_denied=9), None),
        (sample(20, send_nat=9_000, drop_no_real=900), "drop_no_real"),
    ],
    ids=[
        "as before",
        "a flood",
        "lost flows",
        "a mistake",
        "lost fragments",
        "refused fragments",
        "denied wrongly",
        "quiet",
        "anew",
        "anew, bad",
    ],
)
def test_when_to_roll_back(after: Sample, says: str | None) -> None:
    said = judge(START, FLIP, after)
    assert (said is None) if says is None else (said is not None and says in said)


def test_too_little_is_no_judgement() -> None:
    after = sample(20, send_nat=10_000, drop_nat_unknown=70)
    assert judge(START, FLIP, after) is None
    assert judge(START, FLIP, after, Bounds(packets=10)) is not None
    with pytest.raises(ValueError, match="one after the other"):
        judge(FLIP, START, after)


def test_nat_and_the_kernel_share_no_port() -> None:
    local = local_ports("32768\t60999\n")
    assert snat_problem(20000, 12768, local) is None
    assert snat_problem(61000, 4536, local) is None
    problem = snat_problem(20000, 12776, local)
    assert problem and "begin at 32776" in problem


@pytest.mark.root
def test_how_full_and_how_long(bench: Bench) -> None:
    before = fills(bench.generation)
    assert (before["services4"].used, before["services4"].capacity) == (9, 64)
    assert before["nat"].used == 0
    for port in range(5):
        bench.run(Packet(destination=VIP4, dport=80, flags=2, sport=2000 + port))
    after = fills(bench.generation)
    assert after["nat"].used == 5 and after["nat_open"].used == 0
    beside = SimpleNamespace(generation=bench.generation)
    assert {one.name for one in _program(beside)} == {"marchproxy_datapath_program_instructions"}  # type: ignore[arg-type]
    counting = keep_run_time()
    try:
        was = run_time(bench.generation.program_fd)
        bench.generation.run(Packet(destination=VIP4).bytes(), repeat=1000)
        now = run_time(bench.generation.program_fd)
    finally:
        os.close(counting)
    assert now.runs - was.runs == 1000 and now.ns > was.ns
    said = {one.name: one.samples[0].value for one in _program(beside)}  # type: ignore[arg-type]
    assert said["marchproxy_datapath_program_runs"] == now.runs
    assert said["marchproxy_datapath_program_seconds"] == now.ns / 1e9


@pytest.mark.root
def test_counters_of_many_services(bench: Bench) -> None:
    for port in (443, 443, 8443):
        bench.run(Packet(destination=VIP4, dport=port))
    found = bench.counters.services(range(64))
    assert found[WEB] == bench.counters.service(WEB)
    assert set(found) == {WEB, 3}
    assert bench.counters.services([3]) == {3: bench.counters.service(3)}


@pytest.mark.root
def test_tables_built_aside(bench: Bench, loaded: Loader) -> None:
    """What is named anew starts empty in the next generation and stays as it is in the live one."""
    following = loaded(predecessor=bench.generation, anew=("services4",))
    assert following.fresh == ("services4",)
    packet = Packet(destination=VIP4, dport=443)
    assert following.run(packet.bytes())[0] == 2
    bench.expect(packet, "send_gue", service=WEB, frame=bench.run(packet)[1])
