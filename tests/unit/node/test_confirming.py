"""What becomes of a program on probation, without a kernel; with one: tests/bpf/host/test_lockout.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from xds_agent.datapath.watch import Sample
from xds_agent.node.datapath import confirming as module
from xds_agent.node.datapath.attachment import AttachError
from xds_agent.node.datapath.confirming import Confirming
from xds_agent.node.datapath.lockout import Baseline, Lockout
from xds_agent.node.datapath.network import Interface


class Attached:
    """Remembers what was done; `before`: whether there is a program to go back to; `links`: what is on."""

    def __init__(self, *, before: bool) -> None:
        self.before, self.done = before, []  # type: ignore[var-annotated]
        self.links = {"eth0": object()}
        self.by_hand = False

    def on(self) -> dict[str, object]:
        return {} if self.by_hand else dict(self.links)

    def carried(self, card: Interface) -> bool:
        return card.index == 2

    def confirm(self, generation: object, proved: list[str]) -> None:
        assert proved == list(self.links)
        self.done.append("confirmed")

    def take_back(self) -> bool:
        self.done.append("taken back")
        self.links = {}
        return self.before

    def put_on(self, generation: object, interfaces: Sequence[Interface]) -> None:
        if self.by_hand:
            raise AttachError("it was taken off by hand")
        assert all(map(self.carried, interfaces)), "no preflight was made of this card"
        self.done.append("put on")
        self.links = {"eth0": object()}


async def in_thread(call: Callable[..., Any], *arguments: Any) -> object:
    return call(*arguments)


def sample(at_s: float, **packets: int) -> Sample:
    return Sample(at_s, {(1, reason): count for reason, count in packets.items()})


async def decide(
    one: Confirming, *, fresh: tuple[str, ...] = (), apart: str = "", resumed: list[str] | None = None,
    cards: tuple[Interface, ...] = (),
) -> bool:  # fmt: skip
    """`fresh`: tables of its own; `apart`: why the agent cannot serve the program before by the old ones."""

    async def resume() -> str:
        if resumed is not None:
            resumed.append(apart)
        return apart

    generation: Any = SimpleNamespace(fresh=fresh)
    locks = {"change": asyncio.Lock(), "turn": asyncio.Lock()}
    return await one.decide(generation, lambda: cards, **locks, resume=resume)


def on_probation(
    monkeypatch: pytest.MonkeyPatch, attached: Attached, control: Callable[[], str], after: Sample
) -> Confirming:
    async def answers() -> str:
        return control()

    monkeypatch.setattr(module, "WATCH_S", 0.0)
    monkeypatch.setattr(module, "_sample", lambda generation: after)
    one = Confirming(attached, Lockout(answers, patience_s=0.05), in_thread)  # type: ignore[arg-type]
    one._samples = [sample(1.0, send_nat=1000), sample(2.0, send_nat=2000)]
    return one


async def decided(
    monkeypatch: pytest.MonkeyPatch, attached: Attached, control: Callable[[], str], after: Sample
) -> tuple[bool, Confirming]:
    one = on_probation(monkeypatch, attached, control, after)
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


@pytest.mark.parametrize("fresh", [(), ("reals",)])
async def test_the_program_before_is_served_by_its_own_tables_however_late(
    monkeypatch: pytest.MonkeyPatch, fresh: tuple[str, ...]
) -> None:
    """Also where it shares all of them: else a card that comes back would get the one that was taken back."""
    attached, resumed = Attached(before=True), []  # type: ignore[var-annotated]
    one = on_probation(monkeypatch, attached, lambda: "", ILL)
    assert not await decide(one, fresh=fresh, apart="no memory", resumed=resumed)
    assert one.adrift is bool(fresh) and one.problem.endswith("no memory") and not one.over
    assert await decide(one, fresh=fresh, resumed=resumed)
    assert not one.adrift and one.problem.endswith("runs on") and one.over
    assert attached.done == ["taken back"] and resumed == ["no memory", ""]


class Gateway(Lockout):
    """Control is away; the gateway answers as `answers` says of what was done last."""

    def __init__(self, attached: Attached, answers: Callable[[str], bool]) -> None:
        self._attached, self._answers = attached, answers

    async def silent(self, baseline: object) -> dict[str, str]:
        last = self._attached.done[-1] if self._attached.done else "put on"
        gateway = {} if self._answers(last) else {"192.0.2.1": "gateway 192.0.2.1 did not answer"}
        return {"control": "control did not answer", **gateway}


async def test_a_gateway_that_answers_without_the_program_alone_is_proof_though_control_is_away() -> None:
    attached = Attached(before=False)
    one = Confirming(attached, Gateway(attached, lambda last: last == "taken back"), in_thread)  # type: ignore[arg-type]
    assert await decide(one)
    assert attached.done == ["taken back", "put on", "taken back"]
    assert "taken back: gateway 192.0.2.1 did not answer" in one.problem


async def test_a_program_that_nobody_can_judge_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever more rarely: to be without it costs packets."""
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    attached = Attached(before=False)
    one = Confirming(attached, Gateway(attached, lambda last: True), in_thread)  # type: ignore[arg-type]
    looks = []
    for second in range(0, 8000, 10):
        now = 1000.0 + second
        before = len(attached.done)
        assert not await decide(one)
        if len(attached.done) > before:
            looks.append(second)
    assert looks == [0, 60, 180, 420, 900, 1860, 3780, 7380]


async def test_a_program_that_could_not_be_put_on_again_is_not_confirmed_while_it_is_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everybody answers then."""
    attached = Attached(before=False)
    put_on = attached.put_on

    def fails(generation: object, interfaces: object) -> None:
        raise AttachError("no memory")

    monkeypatch.setattr(attached, "put_on", fails)
    one = on_probation(monkeypatch, attached, lambda: "" if attached.done else "away", WELL)
    assert not await decide(one) and not await decide(one) and one.problem == "no memory"
    monkeypatch.setattr(attached, "put_on", put_on)
    assert await decide(one)
    assert attached.done == ["taken back", "put on", "confirmed"] and not one.problem


def test_of_a_card_that_went_no_gateway_is_expected_to_answer() -> None:
    """A program on probation would stay so for ever."""
    one, other = (ip_address("192.0.2.1"), 2), (ip_address("198.51.100.1"), 3)
    assert Baseline((one, other)).over({3, 7}) == Baseline((other,))


async def test_what_cannot_be_taken_back_at_once_is_taken_back_by_the_same_proof(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attached = Attached(before=False)
    take_back = attached.take_back

    def fails() -> bool:
        raise AttachError("no memory")

    monkeypatch.setattr(attached, "take_back", fails)
    one = on_probation(monkeypatch, attached, lambda: "", ILL)
    assert not await decide(one)
    monkeypatch.setattr(attached, "take_back", take_back)
    monkeypatch.setattr(module, "_sample", lambda generation: WELL)
    assert await decide(one) and "drop_internal" in one.problem and attached.done == ["taken back"]


async def test_a_look_that_could_not_begin_leaves_the_program_on_all_cards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may have left some of them by then."""
    attached = Attached(before=False)

    def fails() -> bool:
        raise AttachError("no memory")

    monkeypatch.setattr(attached, "take_back", fails)
    one = on_probation(monkeypatch, attached, lambda: "away", WELL)
    assert not await decide(one) and attached.done == []
    assert not await decide(one) and attached.done == ["put on"]


async def test_what_is_taken_off_by_hand_is_neither_put_on_nor_confirmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody is even asked: control may answer because the program is off."""
    attached, asked = Attached(before=False), []  # type: ignore[var-annotated]

    def control() -> str:
        asked.append(attached.by_hand)
        return "" if attached.by_hand else "away"

    one = on_probation(monkeypatch, attached, control, WELL)
    attached.by_hand = True
    for _ in range(3):
        assert not await decide(one)
    assert attached.done == asked == [] and not one.over


@pytest.mark.parametrize("look", ["with the program", "without it", "with it again"])
@pytest.mark.parametrize("answers", ["", "away"])
async def test_what_is_taken_off_by_hand_during_a_look_stays_off_and_is_proved_later(
    monkeypatch: pytest.MonkeyPatch, look: str, answers: str
) -> None:
    attached = Attached(before=False)
    looks = {"with the program": [], "without it": ["taken back"], "with it again": ["taken back", "put on"]}
    ends = asyncio.Event()

    def control() -> str:
        if ends.is_set():
            return ""
        if attached.done == looks[look]:
            attached.by_hand = True
            return answers
        return "" if attached.done == ["taken back"] else "away"

    one = on_probation(monkeypatch, attached, control, WELL)
    for _ in range(3):
        assert not await decide(one)
    assert attached.done == looks[look] and not one.over
    attached.by_hand = False
    attached.links = {"eth0": object()}
    ends.set()
    assert await decide(one) and one.problem == ""
    assert attached.done == [*looks[look], *["put on"] * (look == "without it"), "confirmed"]


async def test_packets_that_fare_worse_while_it_is_taken_off_by_hand_prove_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attached = Attached(before=True)
    one = on_probation(monkeypatch, attached, lambda: "", ILL)

    def sampled(generation: object) -> Sample:
        attached.by_hand = True
        return ILL

    monkeypatch.setattr(module, "_sample", sampled)
    assert not await decide(one) and attached.done == []


async def test_a_program_that_was_off_while_all_were_asked_is_not_confirmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lost and put on again meanwhile, or taken off by hand and attached: those who answered answered
    without it."""
    attached = Attached(before=False)

    def control() -> str:
        attached.links = {"eth0": object()}
        return ""

    one = on_probation(monkeypatch, attached, control, WELL)
    assert not await decide(one) and attached.done == []
    monkeypatch.setattr(attached, "on", dict)
    assert not await decide(one) and attached.done == []


async def test_a_look_that_breaks_off_leaves_no_program_off(monkeypatch: pytest.MonkeyPatch) -> None:
    attached = Attached(before=False)

    def control() -> str:
        if attached.done == ["taken back"]:
            raise OSError("no socket")
        return "away"

    one = on_probation(monkeypatch, attached, control, WELL)
    with pytest.raises(OSError, match="no socket"):
        await decide(one)
    assert not await decide(one) and attached.done == ["taken back", "put on"]


async def test_a_card_that_comes_back_while_the_program_is_off_gets_none_untried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its preflight and its trial are those of a card that joins."""
    attached, asked = Attached(before=False), []  # type: ignore[var-annotated]
    put_on = attached.put_on

    def on_cards(generation: object, interfaces: Sequence[Interface]) -> None:
        asked.append([one.name for one in interfaces])
        put_on(generation, interfaces)

    monkeypatch.setattr(attached, "put_on", on_cards)
    one = on_probation(monkeypatch, attached, lambda: "away", WELL)
    same, another = (Interface(f"eth{at}", at, 1500, bytes(6), "veth", (), 0) for at in (2, 9))
    assert not await decide(one, cards=(same, another)) and asked == [["eth2"]]
