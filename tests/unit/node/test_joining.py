"""A card that gets the program late keeps it only if nobody is shut out by it, without a kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from xds_agent.node.datapath import joining as module
from xds_agent.node.datapath.attachment import AttachError
from xds_agent.node.datapath.joining import Joining
from xds_agent.node.datapath.lockout import Baseline
from xds_agent.node.datapath.network import Interface

CARD = Interface("eth1", 3, 1500, bytes(6), "veth", (), 0)
GATEWAY = "192.0.2.1"


class Link:
    """On the card until it is closed."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def close(self) -> None:
        self.host.done.append("off")


class Host:
    """Running, Attached, Preflight and Lockout in one; `done`: what became of the card."""

    def __init__(self) -> None:
        self.attached = self.preflight = self
        self.refused = {"eth1": "its gateway did not answer"}
        self.done: list[str] = []
        self.known = self.same = self.by_hand = False
        # Whether control and the gateway answer, by what was done last.
        self.control: Callable[[str], bool] = lambda last: True
        self.gateway: Callable[[str], bool] = lambda last: True

    @property
    def to_try_again(self) -> list[str]:
        return list(self.refused)

    def refuse(self, name: str, words: str) -> None:
        self.refused[name] = words

    def carried(self, card: Interface) -> bool:
        return self.same

    def knows(self, name: str) -> bool:
        return self.known

    def check_by_hand(self) -> None:
        if self.by_hand:
            raise AttachError("taken off by hand")

    def drop(self, name: str) -> None:
        self.done.append("dropped")

    # Running and Preflight
    def card(self, which: object) -> Interface | None:
        if isinstance(which, str):
            return CARD
        self.done.append("tried")
        return None

    def try_on(self, card: Interface, trial: object) -> Link:
        self.done.append("on")
        return Link(self)

    def keep(self, card: Interface, link: Link, proved: bool) -> None:
        self.done.append("kept and proved" if proved else "kept")
        self.refused = {}

    # Lockout
    @property
    def last(self) -> str:
        return self.done[-1] if self.done else ""

    async def baseline(self, cards: object) -> Baseline:
        return Baseline() if self.control(self.last) else Baseline(words="control is away")

    async def gateways(self, indices: object) -> Baseline:
        return Baseline()

    async def silent_gateways(self, baseline: Baseline) -> dict[str, str]:
        return {} if self.gateway(self.last) else {GATEWAY: "the gateway is silent"}

    async def silent(self, baseline: Baseline) -> dict[str, str]:
        control = {} if self.control(self.last) else {"control": "control is silent"}
        return control | await self.silent_gateways(baseline)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(module, "index_of", lambda name: CARD.index)
    return Host()


def joining(host: Host, *, settled: bool = True) -> Joining:
    async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)

    anyone: Any = host
    return Joining(
        anyone, anyone, in_thread, change=asyncio.Lock(), turn=asyncio.Lock(), settled=lambda: settled
    )


@pytest.mark.parametrize("settled", [True, False])
async def test_a_card_stays_where_everybody_answers(host: Host, settled: bool) -> None:
    """On record only of a program that is on record itself."""
    assert await joining(host, settled=settled).once()
    assert host.done == ["tried", "on", "kept and proved" if settled else "kept"]


@pytest.mark.parametrize("who", ["control", "gateway"])
async def test_a_card_that_shuts_somebody_out_loses_the_program_and_its_place_at_boots(
    host: Host, who: str
) -> None:
    setattr(host, who, lambda last: last != "on")
    assert await joining(host).once()
    assert host.done == ["tried", "on", "off", "dropped"]
    assert (
        host.refused["eth1"] == f"eth1 lost the program again: {'the ' * (who == 'gateway')}{who} is silent"
    )


async def test_a_silence_that_goes_on_without_the_program_leaves_the_record_alone(host: Host) -> None:
    host.control = lambda last: last not in ("on", "off")
    assert await joining(host).once()
    assert host.done == ["tried", "on", "off"] and "control is silent" in host.refused["eth1"]


async def test_what_shuts_somebody_out_is_tried_ever_more_rarely(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, looks = 1000.0, []
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    host.control = lambda last: last != "on"
    one = joining(host)
    for second in range(0, 8000, 10):
        now = 1000.0 + second
        if await one.once():
            looks.append(second)
    assert looks == [0, 60, 180, 420, 900, 1860, 3780, 7380]


async def test_while_control_is_away_only_a_card_that_ran_it_before_gets_it(host: Host) -> None:
    """No change is taken then; what served before comes back, if its gateway answers with it."""
    host.control = lambda last: False
    assert await joining(host).once()
    assert host.done == [] and host.refused["eth1"].startswith("eth1 gets the program once control answers")
    host.known = True
    host.gateway = lambda last: last != "on"
    assert await joining(host).once()
    assert host.done == ["tried", "on", "off", "dropped"]
    host.gateway, host.done = lambda last: True, []
    assert await joining(host).once()
    assert host.done == ["tried", "on", "kept"]


async def test_a_program_that_was_lost_on_its_card_comes_back_without_a_trial(host: Host) -> None:
    host.same, host.control, host.gateway = True, lambda last: False, lambda last: False
    assert await joining(host).once()
    assert host.done == ["on", "kept"]


async def test_a_card_that_cannot_be_tried_says_why_and_costs_no_agent(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (AttachError("its gateway is silent"), KeyError("bug")):

        def fails(which: object, error: Exception = error) -> Interface:
            raise error

        monkeypatch.setattr(host, "card", fails)
        one = joining(host)
        assert await one.once() and not await one.once()
        assert host.refused["eth1"] in ("its gateway is silent", "KeyError('bug')")


async def test_a_trial_ends_once_the_program_is_taken_off_by_hand(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, however long control and gateways may take to answer."""

    async def nobody_yet(baseline: Baseline) -> dict[str, str]:
        host.by_hand = True
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(host, "silent", nobody_yet)
    assert await asyncio.wait_for(joining(host).once(), 20)
    assert host.done == ["tried", "on", "off"] and host.refused["eth1"] == "taken off by hand"
