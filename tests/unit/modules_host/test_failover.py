"""Routes of a cloud follow a gateway that lives (role `interconnect_failover`)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[3]


def program() -> ModuleType:
    """The program as control hosts run it."""
    path = ROOT / "roles/interconnect_failover/files/failover.py"
    spec = importlib.util.spec_from_file_location("marchproxy_failover", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


FAILOVER = program()
ONE, TWO = (FAILOVER.Gateway(f"edge-{n}", f"eni-{n}", f"10.0.0.{n}") for n in (1, 2))


def tables(move) -> object:
    return FAILOVER.Tables(("rtb-1", "rtb-2"), ("10.1.0.0/16",), (ONE, TWO), move)


def test_routes_move_after_three_silences_and_stay_when_the_first_comes_back() -> None:
    moved = []
    kept = tables(lambda table, range_, gateway: moved.append((table, gateway.name)))
    rounds = [(True, True), (False, True), (False, True), (False, True), (True, True), (True, True)]
    for one, two in rounds:
        kept.seen({ONE.address: one, TWO.address: two})
        kept.settle()
    assert moved == [(table, name) for name in ("edge-1", "edge-2") for table in ("rtb-1", "rtb-2")]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_routes_point_at_a_gateway_that_answered_lately_if_any_did(rounds: list[tuple[bool, bool]]) -> None:
    kept = tables(lambda *_: None)
    for number, (one, two) in enumerate(rounds):
        before = kept.current
        kept.seen({ONE.address: one, TWO.address: two})
        kept.settle()
        lately = rounds[max(0, number - 2) : number + 1]
        alive = [gateway for gateway, index in ((ONE, 0), (TWO, 1)) if any(seen[index] for seen in lately)]
        assert kept.current in alive if alive else kept.current == before
        if before in alive:
            assert kept.current == before, "a gateway that lives is not left"


def test_what_the_cloud_refuses_is_tried_again_and_keeps_nobody_else_waiting(capsys) -> None:
    asked = []

    def move(table: str, range_: str, gateway: object) -> None:
        asked.append(table)
        if table == "rtb-1" and len(asked) < 3:
            raise RuntimeError("RequestLimitExceeded")

    kept = tables(move)
    for _ in range(1 + FAILOVER.REFUSED_ROUNDS + 1):
        kept.seen({ONE.address: True, TWO.address: True})
        kept.settle()
    assert asked == ["rtb-1", "rtb-2", "rtb-1", "rtb-2"] and kept.current == ONE
    assert "RequestLimitExceeded" in capsys.readouterr().err


def test_a_command_gets_table_range_and_gateway_and_its_words_are_told(tmp_path: Path) -> None:
    FAILOVER.by_command(["/bin/sh", "-c", f'echo "$@" > {tmp_path}/said', "sh"])("t", "10.0.0.0/8", ONE)
    assert (tmp_path / "said").read_text().split() == ["t", "10.0.0.0/8", "edge-1", "10.0.0.1"]
    kept = tables(FAILOVER.by_command(["/bin/false"]))
    kept.seen({ONE.address: True, TWO.address: True})
    kept.settle()
    assert kept.current is None
