"""What becomes of a program on probation, without a kernel; with one: tests/bpf/host/test_lockout.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from xds_agent.datapath.watch import Sample
from xds_agent.node.datapath import confirming as module
from xds_agent.node.datapath.confirming import Confirming
from xds_agent.node.datapath.lockout import Lockout


class Attached:
    """Remembers what was done; `before`: whether there is a program to go back to."""

    def __init__(self, *, before: bool) -> None:
        self.before, self.done = before, []  # type: ignore[var-annotated]

    def confirm(self, generation: object) -> None:
        self.done.append("confirmed")

    def take_back(self) -> bool:
        self.done.append("taken back")
        return self.before

    def put_on(self, generation: object, interfaces: object) -> None:
        self.done.append("put on")


async def in_thread(call: Callable[..., Any], *arguments: Any) -> object:
    return call(*arguments)


def sample(at_s: float, **packets: int) -> Sample:
    return Sample(at_s, {(1, reason): count for reason, count in packets.items()})


async def decide(one: Confirming, *, fresh: tuple[str, ...] = (), apart: str = "") -> bool:
    """`fresh`: tables of its own; `apart`: why the agent cannot serve the program before by the old ones."""

    async def resume() -> str:
        return apart

    generation: Any = SimpleNamespace(fresh=fresh)
    return await one.decide(generation, lambda: (), change=asyncio.Lock(), turn=asyncio.Lock(), resume=resume)


async def decided(
    monkeypatch: pytest.MonkeyPatch, attached: Attached, control: Callable[[], str], after: Sample
) -> tuple[bool, Confirming]:
    async def answers() -> str:
        return control()

    monkeypatch.setattr(module, "WATCH_S", 0.0)
    monkeypatch.setattr(module, "_sample", lambda generation: after)
    one = Confirming(attached, Lockout(answers, patience_s=0.05), in_thread)  # type: ignore[arg-type]
    one._samples = [sample(1.0, send_nat=1000), sample(2.0, send_nat=2000)]
    return await decide(one), one


WELL, ILL = sample(3.0, send_nat=3000), sample(3.0, send_nat=2500, drop_internal=500)


async def test_a_program_that_is_well_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    attached = Attached(before=True)
    over, one = await decided(monkeypatch, attached, lambda: "", WELL)
    assert (over, attached.done, one.problem) == (True, ["confirmed"], "")


@pytest.mark.parametrize("before", [True, False])
async def test_packets_that_fare_worse_take_it_back(monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    """Though control answers: this is no lock-out."""
    attached = Attached(before=before)
    over, one = await decided(monkeypatch, attached, lambda: "", ILL)
    assert over and attached.done == ["taken back"] and one.adrift is not before
    assert "drop_internal went from 0.0% to 50.0%" in one.problem


async def test_control_that_is_silent_without_it_too_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    attached = Attached(before=False)
    over, one = await decided(monkeypatch, attached, lambda: "away", WELL)
    assert (over, attached.done, one.problem) == (False, ["taken back", "put on"], "")
    for _ in range(3):
        assert not await decide(one)
    assert attached.done == ["taken back", "put on"], "packets were cut off once more"


@pytest.mark.parametrize(("answers_from", "guilty"), [(2, False), (3, False), (None, True)])
async def test_control_that_comes_meanwhile_makes_no_program_guilty(
    monkeypatch: pytest.MonkeyPatch, answers_from: int | None, guilty: bool
) -> None:
    """Looks: with the program, without it, with it again. None: it answers without the program alone."""
    attached = Attached(before=False)

    def control() -> str:
        looks = len(attached.done) + 1
        if answers_from is None:
            return "" if attached.done and attached.done[-1] == "taken back" else "away"
        return "" if looks >= answers_from else "away"

    over, one = await decided(monkeypatch, attached, control, WELL)
    if guilty:
        assert over and one.adrift and attached.done == ["taken back", "put on", "taken back"]
        return
    if not over:
        over = await decide(one)
    assert over and one.problem == "" and attached.done == ["taken back", "put on", "confirmed"]


@pytest.mark.parametrize("apart", ["", "its file was not kept"])
async def test_tables_that_the_program_before_does_not_share_are_adrift_unless_it_is_served_by_its_own(
    monkeypatch: pytest.MonkeyPatch, apart: str
) -> None:
    attached = Attached(before=True)
    _, one = await decided(monkeypatch, attached, lambda: "", ILL)
    assert not one.adrift
    assert await decide(one, fresh=("reals",), apart=apart)
    assert one.adrift is bool(apart) and one.problem.endswith(apart or "runs on")
