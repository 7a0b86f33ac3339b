"""What tc keeps and loses of ours, without a kernel; with one: tests/bpf/host/test_shaping.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xds_agent.datapath.link import Link
from xds_agent.datapath.tc import TcLink
from xds_agent.node.datapath import shaping as module
from xds_agent.node.datapath.attachment import LINKS, _forget_others, detach, end_detach
from xds_agent.node.datapath.network import Interface
from xds_agent.node.datapath.routes import NetlinkEvents
from xds_agent.node.datapath.shaped import Record
from xds_agent.node.datapath.shaping import PINS, Shape, Shaping, take_off

CARD = Interface("eth0", 2, 1500, bytes(6), "veth", (), 0)
SHAPED, NOTHING = Shape({1: 0}, {}, cookies=False), Shape({}, {}, cookies=False)
GENERATION: Any = SimpleNamespace()


class Host:
    """`done`: what became of links, in order, each by the name of its pin."""

    def __init__(self, folder: Path, record: Path) -> None:
        self.pins, self.record = folder, Record(record)
        self.done: list[str] = []

    def open(self, pin: Path) -> Link | None:
        if not pin.exists():
            return None

        def detached() -> None:
            assert not pin.exists(), "an agent that looks now puts it on again"
            self.done.append(f"{pin.name} off")

        link: Any = SimpleNamespace(detach=detached, close=lambda: self.done.append(f"{pin.name} closed"))
        return link  # type: ignore[no-any-return]

    def leave(self, name: str, *, on_record: bool = True) -> None:
        """As a predecessor left it."""
        self.pinned(self.pins / PINS / name)
        if on_record:
            self.record.put_on("eth0", CARD.index, "egress")

    def attach(self, loaded: object, index: int, direction: str) -> Any:
        self.done.append("on")
        return SimpleNamespace(pin=self.pinned, attached=lambda: True, close=lambda: None)

    def pinned(self, pin: Path) -> None:
        pin.parent.mkdir(parents=True, exist_ok=True)
        pin.touch()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path / "pins", tmp_path / "shaping.json")
    made.pins.mkdir()
    loaded = SimpleNamespace(
        fds={"egress": 3}, missing=(), put_class=lambda *_: None, put_egress=lambda *_, **__: None
    )
    monkeypatch.setattr(module, "load_tc", lambda path, beside: loaded)
    monkeypatch.setattr(module, "index_of", lambda name: CARD.index)
    monkeypatch.setattr(module.htb, "bring", lambda *_, **__: None)
    monkeypatch.setattr(NetlinkEvents, "count", lambda _: 1)
    monkeypatch.setattr(Link, "open", made.open)
    monkeypatch.setattr(TcLink, "attach", made.attach)
    gone = SimpleNamespace(detach=lambda: made.done.append("filter off"))
    monkeypatch.setattr(TcLink, "filter", lambda *_: gone)
    return made


def shaping(host: Host, tmp_path: Path) -> Shaping:
    return Shaping(program=tmp_path / "xdp.o", pins=host.pins, record=tmp_path / "shaping.json")


@pytest.mark.parametrize("on_record", [True, False])
def test_what_a_predecessor_left_is_off_at_once(host: Host, tmp_path: Path, on_record: bool) -> None:
    """Its pin alone holds it: removed, that leaves the program on until the kernel finds time."""
    host.leave("eth0-egress", on_record=on_record)
    shaping(host, tmp_path).bring(NOTHING, GENERATION, [CARD])
    assert host.done == ["eth0-egress off", "eth0-egress closed"]


def test_a_filter_which_is_pinned_nowhere_is_taken_off(host: Host, tmp_path: Path) -> None:
    host.record.put_on("eth0", CARD.index, "egress")
    shaping(host, tmp_path).bring(NOTHING, GENERATION, [CARD])
    assert host.done == ["filter off"]


def test_an_interface_that_is_taken_out_loses_its_program_at_once(host: Host) -> None:
    for name in ("eth0", "eth1"):
        host.pinned(host.pins / LINKS / name)
    _forget_others(host.pins / LINKS, {"eth0"})
    assert host.done == ["eth1 off", "eth1 closed"]


def test_by_hand_off_tc_stays_off_until_that_is_over(host: Host, tmp_path: Path) -> None:
    """Whatever is written meanwhile: an edit that asks for the first class, a card that comes back."""
    one = shaping(host, tmp_path)
    detach(host.pins)
    one.bring(SHAPED, GENERATION, [CARD])
    assert "on" not in host.done
    end_detach(host.pins)
    one.bring(SHAPED, GENERATION, [CARD])
    one.bring(SHAPED, GENERATION, [CARD])
    assert host.done == ["on"]


def test_tc_that_comes_on_while_it_is_taken_off_by_hand_goes_again(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attach(*given: Any) -> Any:
        detach(host.pins)
        take_off(pins=host.pins, record=tmp_path / "shaping.json")
        return host.attach(*given)

    monkeypatch.setattr(TcLink, "attach", attach)
    shaping(host, tmp_path).bring(SHAPED, GENERATION, [CARD])
    assert host.done == ["filter off", "on", "eth0-egress off", "eth0-egress closed"]
