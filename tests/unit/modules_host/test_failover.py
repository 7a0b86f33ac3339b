"""Routes of a cloud follow a gateway that lives (role `interconnect_failover`)."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.support.role_programs import program

FAILOVER = program("interconnect_failover", "failover.py")
ONE, TWO = (FAILOVER.Gateway(f"edge-{n}", f"eni-{n}", f"10.0.0.{n}") for n in (1, 2))


RANGE, NETWORK = "10.1.0.0/16", "gcp/us-central1"
LEADS, ELSEWHERE = {NETWORK: "far", "azure/eastus": None}, {NETWORK: None, "azure/eastus": "far"}


class Router:
    """Tables that several may change."""

    def __init__(self) -> None:
        self.held = {"rtb-1": {RANGE: "eni-1"}, "rtb-2": {RANGE: "eni-1"}}
        self.moved: list[tuple[str, str]] = []
        self.refuses = 0

    def read(self, table: str) -> dict[str, str]:
        return dict(self.held[table])

    def move(self, table: str, range_: str, gateway: object) -> None:
        if self.refuses:
            self.refuses -= 1
            raise RuntimeError("RequestLimitExceeded")
        self.moved.append((table, gateway.name))  # type: ignore[attr-defined]
        self.held[table][range_] = gateway.interface  # type: ignore[attr-defined]


def tables(router: object) -> object:
    return FAILOVER.Tables(("rtb-1", "rtb-2"), {RANGE: NETWORK}, (ONE, TWO), router)


def rounds(kept: object, *answers: tuple[object, object]) -> None:
    for one, two in answers:
        kept.seen({ONE.address: one, TWO.address: two})  # type: ignore[attr-defined]
        kept.settle()  # type: ignore[attr-defined]


def test_routes_move_after_three_silences_and_stay_when_the_first_comes_back() -> None:
    router = Router()
    kept = tables(router)
    rounds(kept, (LEADS, LEADS), (None, LEADS), (None, LEADS))
    assert router.moved == []
    rounds(kept, (None, LEADS), *[(LEADS, LEADS)] * 20)
    assert router.moved == [("rtb-1", "edge-2"), ("rtb-2", "edge-2")]


def test_who_leads_elsewhere_does_not_lead_there() -> None:
    router = Router()
    rounds(tables(router), *[(ELSEWHERE, LEADS)] * 4)
    assert router.held["rtb-1"][RANGE] == "eni-2"
    stuck = Router()
    rounds(tables(stuck), *[(ELSEWHERE, None)] * 20)
    assert stuck.moved == [], "where nobody leads there, routes stay as they are"


def test_a_change_from_outside_is_seen_and_two_control_hosts_come_to_one_end() -> None:
    router = Router()
    first, second = tables(router), tables(router)
    for both in [(LEADS, LEADS)] * 3 + [(None, LEADS)] * 4:
        rounds(first, both)
        rounds(second, both)
    assert router.moved == [("rtb-1", "edge-2"), ("rtb-2", "edge-2")], "the second found it done"
    router.held["rtb-2"][RANGE] = "eni-of-somebody"
    rounds(first, *[(None, LEADS)] * (FAILOVER.READ_ROUNDS + 1))
    assert router.held["rtb-2"][RANGE] == "eni-2" and len(router.moved) == 3
    restarted = tables(router)
    rounds(restarted, *[(LEADS, LEADS)] * 3)
    assert len(router.moved) == 3, "a start moves nothing that leads on"


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_routes_point_at_a_gateway_that_answered_lately_if_any_did(seen: list[tuple[bool, bool]]) -> None:
    router = Router()
    kept = tables(router)
    for number, pair in enumerate(seen):
        before = router.held["rtb-1"][RANGE]
        rounds(kept, tuple(LEADS if good else None for good in pair))  # type: ignore[arg-type]
        lately = seen[max(0, number - 2) : number + 1]
        alive = [one.interface for one, index in ((ONE, 0), (TWO, 1)) if any(each[index] for each in lately)]
        assert router.held["rtb-1"][RANGE] in alive if alive else router.held["rtb-1"][RANGE] == before
        if before in alive:
            assert router.held["rtb-1"][RANGE] == before, "a gateway that lives is not left"


def test_what_the_cloud_refuses_is_tried_again_and_keeps_nobody_else_waiting(capsys) -> None:
    router = Router()
    router.refuses = 1
    kept = tables(router)
    rounds(kept, *[(None, LEADS)] * 3)
    assert router.moved == [("rtb-2", "edge-2")]
    rounds(kept, *[(None, LEADS)] * (FAILOVER.REFUSED_ROUNDS + 2))
    assert router.moved == [("rtb-2", "edge-2"), ("rtb-1", "edge-2")]
    assert "RequestLimitExceeded" in capsys.readouterr().err


def test_a_command_gets_table_range_and_gateway_and_its_words_are_told(tmp_path: Path, capsys) -> None:
    FAILOVER.Command(["/bin/sh", "-c", f'echo "$@" > {tmp_path}/said', "sh"]).move("t", "10.0.0.0/8", ONE)
    assert (tmp_path / "said").read_text().split() == ["t", "10.0.0.0/8", "edge-1", "10.0.0.1"]
    rounds(tables(FAILOVER.Command(["/bin/sh", "-c", "echo no way; false"])), (LEADS, LEADS))
    assert "no way" in capsys.readouterr().err


def test_a_router_that_cannot_be_asked_is_told_again_in_silence_and_a_gateway_that_lives_is_not_left(
    tmp_path: Path, capsys
) -> None:
    log = tmp_path / "told"
    kept = tables(FAILOVER.Command(["/bin/sh", "-c", f'echo "$1 $3" >> {log}', "sh"]))
    rounds(kept, (LEADS, LEADS), *[(None, LEADS)] * 3)
    assert log.read_text().split("\n")[-3:-1] == ["rtb-1 edge-2", "rtb-2 edge-2"]
    told, said = log.read_text().count("\n"), capsys.readouterr().out.count("\n")
    rounds(kept, *[(LEADS, LEADS)] * (2 * FAILOVER.READ_ROUNDS))
    again = log.read_text().splitlines()[told:]
    assert len(again) >= 2 and all(line.endswith("edge-2") for line in again)
    assert (said, capsys.readouterr().out) == (4, "")
