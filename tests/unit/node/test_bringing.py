"""A revision that this agent cannot take is refused with what it holds untouched, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from xds_agent.node.bringing import Bringing
from xds_agent.node.config import DatapathConfig
from xds_agent.node.datapath import DatapathLink
from xds_agent.node.datapath.cards import Cards
from xds_agent.node.datapath.lockout import Baseline, Lockout
from xds_agent.node.journal import Journal
from xds_agent.node.no_envoy import NoEnvoy
from xds_agent.node.probing import Prober
from xds_agent.proto import datapath_pb2 as pb
from xds_agent.protocol.assembly import Complete
from xds_agent.snapshot.resource import DATAPATH_SERVICE, EMPTY, Resource, Snapshot


async def answers() -> str:
    return ""


def complete(**fields: Any) -> Complete:
    service = pb.Service(name="db", protocol=pb.TCP, port=5432, **fields)
    target = Snapshot.of([Resource.of(DATAPATH_SERVICE, "db", service)], number=1)
    return Complete(target, {DATAPATH_SERVICE: frozenset({"db"})}, 1)


class Maps:
    """Take whatever is asked of them."""

    def nat_problem(self, wanted: object) -> str:
        return ""


class Host:
    """A host without Envoy, whose maps are as far away as the kernel."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "state")
        self.envoy = NoEnvoy(self.journal.snapshot)
        config = DatapathConfig(interfaces=["eth0"])
        self.datapath = DatapathLink(config, Prober(), control_answers=answers, runtime=folder)
        self.bringing = Bringing(self.journal, self.envoy, self.datapath, folder / "admin.sock")
        self.written: list[frozenset[str]] = []
        self.own: frozenset[object] = frozenset()

    def holds(self) -> tuple[Snapshot, Snapshot, set[str]]:
        return self.journal.snapshot, self.envoy.held, set(self.datapath.wanted.services)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host(tmp_path)

    async def baseline(self: Lockout, interfaces: object) -> Baseline:
        return Baseline()

    def write(writer: object, wanted: Any, ways: object) -> None:
        made.written.append(frozenset(wanted.services))
        made.own = wanted.own

    monkeypatch.setattr(Lockout, "baseline", baseline)
    monkeypatch.setattr(made.datapath.running, "writer", Maps())
    monkeypatch.setattr(made.datapath.cards, "look", lambda: False)
    monkeypatch.setattr(Cards, "sources", ())
    monkeypatch.setattr(made.datapath, "_describe", lambda: None)
    monkeypatch.setattr(made.datapath.running, "_write", write)
    yield made
    made.journal.close()


async def test_what_a_newer_control_sends_that_this_agent_does_not_know_is_refused_and_named(
    host: Host,
) -> None:
    """It was a KeyError, with Envoy on the new set already: the agent ended, and met the same again."""
    refusal = await host.bringing.bring(complete(forward=63))
    assert refusal is not None
    assert "this agent knows no forward 63, which service db asks for" in refusal.words
    assert host.holds() == (EMPTY, EMPTY, set())


@pytest.mark.parametrize("place", ["_read", "_lockout"])
async def test_a_bug_refuses_the_revision_and_ends_no_agent(
    host: Host, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the maps are written, and after."""

    def fails(*_: object) -> None:
        raise KeyError("bug")

    if place == "_read":
        read = host.datapath.running._read
        monkeypatch.setattr(
            host.datapath.running, "_read", lambda snapshot: read(snapshot) if snapshot is EMPTY else fails()
        )
    else:
        monkeypatch.setattr(Lockout, "shut_out", fails)
    refusal = await host.bringing.bring(complete(forward=pb.KERNEL))
    assert refusal is not None
    assert "KeyError('bug')" in refusal.words
    assert host.holds() == (EMPTY, EMPTY, set())
    assert host.written[-1] == frozenset()


@pytest.mark.parametrize("why", ["by the maps", "after it was live"])
async def test_an_edit_that_is_refused_brings_no_address_back_that_the_host_lost_meanwhile(
    host: Host, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The edit has seen the new address; nothing looks again before the cards change again."""
    addresses = [ip_address("192.0.2.1")]

    def look() -> bool:
        addresses[:] = [ip_address("192.0.2.2")]
        return True

    async def shut_out(self: Lockout, baseline: Baseline) -> str:
        return "control did not answer"

    monkeypatch.setattr(Cards, "own", property(lambda self: list(addresses)))
    monkeypatch.setattr(Cards, "mtu", 1500)
    monkeypatch.setattr(host.datapath.running, "_look_at_cards", look)
    monkeypatch.setattr(Lockout, "shut_out", shut_out)
    if why == "by the maps":
        monkeypatch.setattr(Maps, "nat_problem", lambda self, wanted: "no port is left")
    assert await host.bringing.bring(complete(forward=pb.KERNEL)) is not None
    assert host.own == host.datapath.wanted.own == set(addresses)


async def test_what_it_knows_is_taken(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(self: Lockout, baseline: Baseline) -> str:
        return ""

    monkeypatch.setattr(Lockout, "shut_out", nobody)
    asked = complete(forward=pb.KERNEL)
    assert await host.bringing.bring(asked) is None
    assert host.holds() == (asked.snapshot, asked.snapshot, {"db"})
