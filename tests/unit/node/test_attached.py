"""Which cards are to get a program, and which one, without a kernel; with one: tests/bpf/host."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xds_agent.node.config import DatapathConfig
from xds_agent.node.datapath import attached as module
from xds_agent.node.datapath.attached import Attached
from xds_agent.node.datapath.attachment import LINKS, AttachError, OnCards, detach, end_detach
from xds_agent.node.datapath.network import Interface

MAC = bytes([2, 0, 0, 0, 0, 1])


class Link:
    """On the card of this number."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.ran: list[str] = []

    def update(self, generation: Any) -> None:
        if not self.index:
            raise OSError(errno.ENOLINK, "the card is gone")
        self.ran.append(generation.name)

    def detach(self) -> None:
        self.ran.append("nothing")
        self.index = 0

    def interface(self) -> int:
        return self.index

    def pin(self, path: Path) -> None:
        path.touch()

    def close(self) -> None:
        pass


def card(name: str, index: int) -> Interface:
    return Interface(name, index, 1500, MAC, "veth", (), 0)


class Cards:
    """Of a host: `indices` by name, and what was attached."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.indices = {name: number for number, name in enumerate(names, 2)}
        self.links: dict[str, Link] = {}
        self.folder = folder
        (folder / LINKS).mkdir(parents=True)

    def attach(self, generation: Any, interfaces: Any, **_: Any) -> OnCards:
        for one in interfaces:
            (self.folder / LINKS / one.name).touch()
            self.links[one.name] = Link(one.index)
        return OnCards({one.name: self.links[one.name] for one in interfaces}, {})  # type: ignore[misc]


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cards:
    made = Cards(tmp_path / "pins", "eth0", "eth1")
    monkeypatch.setattr(module, "attach", made.attach)
    monkeypatch.setattr(module, "index_of", lambda name: made.indices.get(name, 0))
    monkeypatch.setattr(module.Link, "open", lambda pin: made.links.get(pin.name) if pin.exists() else None)
    before = SimpleNamespace(name="confirmed", close=lambda: None)
    monkeypatch.setattr(module.pins, "kept_program", lambda path: before)
    return made


@pytest.fixture
def attached(tmp_path: Path, cards: Cards) -> Attached:
    program = tmp_path / "xdp_main.bpf.o"
    program.write_bytes(b"object")
    config = DatapathConfig(interfaces=list(cards.indices), program=program, pins=cards.folder)
    return Attached(config, record=tmp_path / "datapath.confirmed")


def test_no_card_gets_a_program_that_was_taken_back(attached: Attached, cards: Cards) -> None:
    """What the agent has loaded is that one until it serves the program before."""
    generation: Any = SimpleNamespace(name="new")
    attached.put_on(generation, [card("eth0", 2)])
    assert attached.take_back() and cards.links["eth0"].ran == ["confirmed"]
    cards.links["eth0"].index = 0
    anew, words = attached.look()
    assert anew == attached.to_try_again == [] and "eth0 lost the program before" in words
    attached.put_on(generation, [card("eth0", 2)])
    cards.links["eth0"].index = 0
    assert attached.look()[0] == ["eth0"]


def test_a_card_that_comes_back_as_another_waits_to_be_tried(attached: Attached, cards: Cards) -> None:
    """One that lost the program itself gets it at once."""
    generation: Any = SimpleNamespace(name="new")
    attached.put_on(generation, [card("eth0", 2), card("eth1", 3)])
    cards.indices["eth1"] = 9
    for link in cards.links.values():
        link.index = 0
    assert attached.look()[0] == ["eth0"]
    assert attached.to_try_again == ["eth1"] and "has come back as another card" in attached.refused["eth1"]
    assert detach(cards.folder) == ["eth0", "eth1"]
    anew, words = attached.look()
    assert anew == [] and "eth0 by hand" in words and "eth1 by hand" in words
    assert attached.to_try_again == []
    tried: Any = SimpleNamespace(interface=lambda: 9, close=lambda: None)
    with pytest.raises(AttachError, match="taken off eth0, eth1 by hand"):
        attached.try_on(generation, card("eth1", 9), None)
    with pytest.raises(AttachError, match="taken off eth0, eth1 by hand"):
        attached.keep(card("eth1", 9), tried, proved=True)
    end_detach(cards.folder)
    assert attached.look()[0] == ["eth0"] and attached.to_try_again == ["eth1"]


def test_what_is_taken_off_by_hand_is_put_on_again_at_no_moment(
    attached: Attached, cards: Cards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent looks while the command runs."""
    generation: Any = SimpleNamespace(name="new")
    attached.put_on(generation, [card("eth0", 2)])
    link, seen = cards.links["eth0"], []

    def take_off() -> None:
        link.index = 0
        seen.append(attached.look())
        with pytest.raises(AttachError, match="taken off eth0, eth1 by hand"):
            attached.put_on(generation, [card("eth0", 2)])

    monkeypatch.setattr(link, "detach", take_off)
    assert detach(cards.folder) == ["eth0"]
    [(anew, words)] = seen
    assert anew == [] and "eth0 by hand" in words


@pytest.mark.parametrize("given_up", [True, False])
def test_what_is_off_on_probation_is_taken_off_by_hand_all_the_same(
    attached: Attached, cards: Cards, monkeypatch: pytest.MonkeyPatch, given_up: bool
) -> None:
    """Where nothing is on, or the program before, the command holds as anywhere."""
    generation: Any = SimpleNamespace(name="new")
    attached.put_on(generation, [card("eth0", 2)])
    if given_up:
        monkeypatch.setattr(module.pins, "kept_program", lambda path: None)
    attached.take_back()
    link = cards.links["eth0"]
    assert detach(cards.folder) == ([] if given_up else ["eth0"])
    assert attached.look()[0] == [] and "eth0 by hand" in attached.look()[1]
    with pytest.raises(AttachError, match="by hand"):
        attached.put_on(generation, [card("eth0", 2)])
    assert cards.links["eth0"] is link and link.index == 0 and attached.to_try_again == []
    end_detach(cards.folder)
    attached.put_on(generation, [card("eth0", 2)])
    assert cards.links["eth0"].index == 2 and attached.look() == ([], "")


def test_a_card_that_comes_back_while_the_program_is_off_on_probation_waits_to_be_tried(
    attached: Attached, cards: Cards, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation: Any = SimpleNamespace(name="new")
    attached.put_on(generation, [card("eth0", 2), card("eth1", 3)])
    monkeypatch.setattr(module.pins, "kept_program", lambda path: None)
    attached.take_back()
    cards.indices["eth1"] = 9
    assert attached.look() == ([], "")
    assert [attached.carried(card(name, index)) for name, index in cards.indices.items()] == [True, False]
    attached.put_on(generation, [card("eth0", 2)])
    assert attached.look()[0] == [] and attached.to_try_again == ["eth1"]
    assert attached.on().keys() == {"eth0"}


@pytest.mark.parametrize("joins", [True, False])
def test_a_program_that_comes_on_while_it_is_taken_off_by_hand_goes_again(
    attached: Attached, cards: Cards, monkeypatch: pytest.MonkeyPatch, joins: bool
) -> None:
    """The command has looked for pins before there was this one."""
    generation: Any = SimpleNamespace(name="new")
    made: Any = Link(2)

    def pin(path: Path) -> None:
        detach(cards.folder)
        path.touch()
        cards.links[path.name] = made

    def attach(generation: Any, interfaces: Any, **_: Any) -> OnCards:
        pin(cards.folder / LINKS / "eth0")
        return OnCards({"eth0": made}, {})

    monkeypatch.setattr(made, "pin", pin)
    monkeypatch.setattr(module, "attach", attach)
    with pytest.raises(AttachError, match="by hand"):
        if joins:
            attached.keep(card("eth0", 2), made, proved=False)
        else:
            attached.put_on(generation, [card("eth0", 2)])
    assert made.ran == ["nothing"] and not (cards.folder / LINKS / "eth0").exists()


@pytest.mark.parametrize(
    ("recorded", "unproven", "untried"),
    [("eth0 eth1", False, set()), ("eth0", False, {"eth1"}), ("eth2", True, {"eth0", "eth1"})],
)
def test_a_program_is_proved_card_by_card(
    attached: Attached, tmp_path: Path, recorded: str, unproven: bool, untried: set[str]
) -> None:
    """One that got none costs the others nothing at the next boot."""
    (tmp_path / "datapath.confirmed").write_text(f"{attached._what()} {recorded}")
    assert attached.unproven is unproven and attached.untried().keys() == untried


def test_another_object_kernel_or_mode_is_proved_anew(attached: Attached, tmp_path: Path) -> None:
    what = attached._what()
    assert attached.unproven
    (tmp_path / "datapath.confirmed").write_text(f"{what} eth0 eth1")
    assert not attached.unproven
    (tmp_path / "xdp_main.bpf.o").write_bytes(b"another")
    assert attached.unproven
    (tmp_path / "datapath.confirmed").write_text(f"{what.replace('native', 'skb')} eth0 eth1")
    assert attached.unproven


def test_a_card_that_is_away_at_a_boot_stays_on_record(
    attached: Attached, cards: Cards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A boot writes the record again; a card that is no longer asked for leaves it."""
    for place, name in ((module.pins, "keep_program"), (module.confirmed, "keep")):
        monkeypatch.setattr(place, name, lambda *_, **__: None)
    record = tmp_path / "datapath.confirmed"
    record.write_text(f"{attached._what()} eth0 eth1 eth9")
    assert not attached.unproven
    generation: Any = SimpleNamespace(name="new")
    attached.put_on(generation, [card("eth0", 2)])
    attached.confirm(generation, attached.on())
    assert record.read_text() == f"{attached._what()} eth0 eth1"


def test_a_card_that_joined_is_on_record_and_one_that_shut_somebody_out_is_not(
    attached: Attached, cards: Cards, tmp_path: Path
) -> None:
    record = tmp_path / "datapath.confirmed"
    record.write_text(f"{attached._what()} eth0")
    assert not attached.unproven
    attached.refuse("eth1", "why")
    link: Any = Link(3)
    attached.keep(card("eth1", 3), link, proved=True)
    assert record.read_text().endswith(" eth0 eth1") and not attached.refused
    attached.drop("eth1")
    assert record.read_text().endswith("native eth0")
    gone: Any = Link(0)
    with pytest.raises(AttachError, match="went away"):
        attached.keep(card("eth1", 3), gone, proved=True)
    assert record.read_text().endswith("native eth0")


@pytest.mark.parametrize("another", [True, False])
def test_a_card_that_is_gone_keeps_no_program_from_being_taken_back(
    attached: Attached, cards: Cards, monkeypatch: pytest.MonkeyPatch, another: bool
) -> None:
    """Its link takes none; and what is left of it is nothing that somebody took off by hand."""
    generation: Any = SimpleNamespace(name="new")
    attached.put_on(generation, [card("eth0", 2), card("eth1", 3)])
    cards.links["eth1"].index, cards.indices["eth1"] = 0, 9
    attached.look()
    if not another:
        monkeypatch.setattr(module.pins, "kept_program", lambda path: None)
    assert attached.take_back() is another
    assert cards.links["eth0"].ran == (["confirmed"] if another else ["nothing"])
    attached.put_on(generation, [card("eth0", 2)])
    assert attached.look() == ([], "") and attached.to_try_again == ["eth1"]


def test_the_confirmed_program_is_not_gone_back_to_from_itself(
    attached: Attached, cards: Cards, tmp_path: Path
) -> None:
    """On a card it was not proved on it may shut the host out: then none runs."""
    (tmp_path / "datapath.confirmed").write_text(attached._what())
    assert attached.unproven
    generation: Any = SimpleNamespace(name="same")
    attached.put_on(generation, [card("eth0", 2)])
    assert not attached.take_back() and cards.links["eth0"].ran == ["nothing"]


def test_a_card_that_has_no_program_is_not_proved_with_the_others(
    attached: Attached, cards: Cards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came back while the program was on probation, and waits."""
    for place, name in ((module.pins, "keep_program"), (module.confirmed, "keep")):
        monkeypatch.setattr(place, name, lambda *_, **__: None)
    generation: Any = SimpleNamespace(name="new")
    attached.put_on(generation, [card("eth0", 2), card("eth1", 3)])
    cards.links["eth1"].index, cards.indices["eth1"] = 0, 9
    attached.look()
    attached.confirm(generation, attached.on())
    assert (tmp_path / "datapath.confirmed").read_text() == f"{attached._what()} eth0"
