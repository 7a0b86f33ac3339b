"""What the datapath link makes of health and routes, without a kernel."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from xds_agent.node.config import DatapathConfig
from xds_agent.node.datapath import DatapathLink, network
from xds_agent.node.datapath import link as datapath_link
from xds_agent.node.datapath.attachment import detach, end_detach
from xds_agent.node.datapath.cards import Cards
from xds_agent.node.datapath.lockout import Lockout
from xds_agent.node.datapath.network import Address, Hop, Interface, Network, NetworkError
from xds_agent.node.datapath.numbers import Numbers
from xds_agent.node.datapath.wanted import Front, RealKey, Wanted, WantedReal, WantedService
from xds_agent.node.datapath.ways import Ways
from xds_agent.node.probing import Answered, Check, Failed, Prober, Target
from xds_agent.snapshot.resource import EMPTY

KEY = RealKey(ip_address("10.1.0.1"), 80)
MAC = bytes([2, 0, 0, 0, 0, 1])


def wanted(check: Target | None = None) -> Wanted:
    front = Front(ip_address("203.0.114.1"), 80, 6)
    return Wanted({"db": WantedService("db", "nat", (front,), (WantedReal(KEY, 1, 0, check),))})


def target() -> Target:
    return Target("10.1.0.1", 80, Check(kind="tcp"), interval_s=1.0, timeout_s=1.0)


async def answers() -> str:
    return ""


@pytest.fixture
def link(tmp_path: Path) -> DatapathLink:
    config = DatapathConfig(interfaces=["eth0"], pins=tmp_path / "pins")
    return DatapathLink(config, Prober(), control_answers=answers, runtime=tmp_path)


def test_a_real_of_which_nothing_is_known_yet_is_what_it_was(link: DatapathLink) -> None:
    """After a restart, or with another check, until there are words of it or enough of silence."""
    asked = wanted(target())
    assert link.running.around.unhealthy(asked) == frozenset()
    link.running.around.down = frozenset({("db", KEY)})
    assert link.running.around.unhealthy(asked) == {("db", KEY)}
    assert link.running.around.unhealthy(wanted()) == frozenset()


async def test_a_real_that_never_answers_is_down_after_as_many_checks_as_any_other(
    link: DatapathLink,
) -> None:
    """Steering, which could ask elsewhere, still knows nothing by it."""
    check = replace(target(), unhealthy_after=2)
    asked = wanted(check)
    link._prober.watch("xdp", [check])
    told: list[bool | None] = []
    link._prober.listen(lambda _, result: told.append(result.healthy))
    for silences, down in ((1, frozenset()), (2, {("db", KEY)}), (3, {("db", KEY)})):
        link._prober._take(check, Failed("no answer", firm=False))
        assert link.running.around.unhealthy(asked) == down, silences
        assert link._prober.result(check).healthy is None
    # Whoever has to act is told once, though health is as unknown as before.
    assert told == [None]
    link._prober._take(check, Answered(1.0))
    assert link.running.around.unhealthy(asked) == frozenset() and told == [None, True]


def test_a_neighbour_nobody_knows_is_asked_for_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a boot nothing else may ever talk to a backend that has no check."""
    asked: list[tuple[Address, int]] = []
    monkeypatch.setattr(Network, "_neighbours", lambda self: {})
    monkeypatch.setattr(network, "_knock", lambda address, index: asked.append((address, index)))
    assert Network().macs([(KEY.address, 2)], wait=False) == {}
    assert asked == [(KEY.address, 2)]


def test_a_route_that_leads_elsewhere_is_refused_in_a_change_and_named_afterwards() -> None:
    ways = Ways({KEY.address: Hop(7, None)}, {}, frozenset({2}), frozenset({KEY.address}))
    with pytest.raises(NetworkError, match="reached over another interface"):
        ways.check(wanted())
    assert list(ways.astray(wanted())) == [("db", KEY)]
    assert replace(ways, indices=frozenset({7})).astray(wanted()) == {}


def test_a_neighbour_that_the_kernel_forgot_is_where_it_was() -> None:
    ways = Ways({}, {}, frozenset(), frozenset({KEY.address}))
    gone = ip_address("10.1.0.9")
    assert ways.or_macs({KEY.address: MAC, gone: MAC}).macs == {KEY.address: MAC}


async def test_control_is_asked_again_once_a_late_datapath_runs(
    link: DatapathLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was refused meanwhile would stay refused until the next edit."""
    asked, starts = asyncio.Event(), 0

    async def again() -> None:
        asked.set()

    def start(held: object, confirming: object) -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise NetworkError("there is no interface eth0")
        link.running.writer = object()  # type: ignore[assignment]

    link._on_late_start = again
    monkeypatch.setattr(link.running, "start", start)
    monkeypatch.setattr(link, "_describe", lambda: None)
    monkeypatch.setattr(link.running, "follow", lambda: False)
    monkeypatch.setattr(link.running, "settle", lambda: False)
    monkeypatch.setattr(datapath_link, "TRY_AGAIN_S", 0.0)
    monkeypatch.setattr(datapath_link, "LOOK_S", 0.01)
    await link.start(EMPTY)
    assert link.problem == "there is no interface eth0"
    running = asyncio.create_task(link.run())
    try:
        await asyncio.wait_for(asked.wait(), 20)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_set_on_disk_that_meets_a_bug_keeps_no_agent_from_serving(
    link: DatapathLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Envoy is served, and control is told what is wrong with the maps."""

    def start(held: object, confirming: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(link.running, "start", start)
    await link.start(EMPTY)
    assert link.problem == "KeyError('bug')"


async def test_what_is_taken_off_by_hand_while_it_cannot_start_comes_on_with_another_start_of_the_agent(
    link: DatapathLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A predecessor's program was on; what is in the way may go at any time."""

    def gone() -> bool:
        raise NetworkError("there is no interface eth0")

    monkeypatch.setattr(link.cards, "look", gone)
    link.config.pins.mkdir()
    for _ in range(2):
        await link.start(EMPTY)
        assert link.problem == "there is no interface eth0"
        detach(link.config.pins)
        await link._try_to_start()
        assert "taken off eth0 by hand" in link.problem


def test_tc_comes_on_again_after_what_was_done_by_hand(
    link: DatapathLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where XDP needs nothing done to it."""
    told: list[bool] = []
    monkeypatch.setattr(link.running.around, "outdated", lambda: told.append(True))
    monkeypatch.setattr(link.running, "_say_what_is_off", lambda words: False)
    link.running.writer = object()  # type: ignore[assignment]
    link.config.pins.mkdir()
    for act, times in ((detach, 0), (end_detach, 1), (end_detach, 1)):
        act(link.config.pins)
        link.running._look_after_links()
        assert len(told) == times


async def test_a_kernel_that_does_not_answer_refuses_a_change_and_ends_no_agent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(self: Network, indices: object) -> list[object]:
        raise NetlinkError(4, "dump interrupted")

    monkeypatch.setattr(Network, "gateways", interrupted)
    baseline = await Lockout(answers, patience_s=1.0).baseline(())
    assert "the kernel did not say how the network is" in baseline.words


def test_a_host_whose_only_address_is_its_vip_sends_from_it(tmp_path: Path) -> None:
    """Else backends would see packets from 0.0.0.0."""
    vip, other = ip_address("10.0.0.1"), ip_address("10.0.0.2")
    cards = Cards(["eth0"], [vip], record=tmp_path / "vips")
    cards.interfaces = (Interface("eth0", 2, 1500, MAC, "veth", (vip,), 0),)
    assert cards.sources == (vip,)
    cards.interfaces = (Interface("eth0", 2, 1500, MAC, "veth", (vip, other), 0),)
    assert (cards.sources, cards.own) == ((other,), [other])


def test_numbers_are_read_while_others_come_and_go() -> None:
    """Metrics walk them in another thread than the writer's."""
    numbers = Numbers("reals", 8, "raise xdp_reals", {"a": 1, "b": 2})
    for name, _ in numbers.items():
        numbers.give_back(name)
    assert numbers.used == 0
