"""Seeded simulation: the agent's core and a model of Envoy through changes, refusals and broken streams.

Whatever happens, it ends with Envoy holding exactly the held set, which is the last target if that was good
and the set before if Envoy refused it; and at no moment does a route meet a cluster that is not there.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.support.envoy_model import EnvoyModel
from tests.support.fake_envoy import Wire
from tests.support.xds_resources import cluster, endpoints, listener, routes, secret
from xds_agent.protocol.boundary import Core
from xds_agent.protocol.local import Active, LocalCore, PollRejected, Refused
from xds_agent.snapshot.resource import EMPTY, Resource, Snapshot

SERVICES = [f"s{n}" for n in range(5)]
SEEDS = range(60)


class Site:
    """An agent, its Envoy, and a dice."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.told: list[Any] = []
        self.core = LocalCore(EMPTY, self._hear)
        self.wire = Wire(self.core)
        self.envoy = EnvoyModel(self.wire)
        self.target: Snapshot | None = None
        self.bad = False
        self.poll = False
        self.restarts = 0

    def _hear(self, outcome: Any) -> None:
        self.told.append(outcome)
        if isinstance(outcome, PollRejected):
            self.poll = True

    def random_set(self, *, bad: bool) -> Snapshot:
        dice = self.dice
        names = dice.sample(SERVICES, dice.randint(1, len(SERVICES)))
        made: list[Resource] = []
        used = set()
        for name in names:
            credential = dice.choice(["", "", "ca1", "ca2"])
            used.add(credential)
            made.append(cluster(name, timeout_ms=dice.randint(1, 3), secret=credential))
            made.append(endpoints(name, dice.randint(1, 3)))
        for door in dice.sample(["l1", "l2", "l3"], dice.randint(0, 3)):
            certificate = dice.choice(["", "cert"])
            used.add(certificate)
            made.append(listener(door, f"r-{door}", secret=certificate, stat=dice.choice("xy")))
            made.append(routes(f"r-{door}", dice.choice(names)))
        if bad and dice.random() < 0.7:
            made += [cluster("bad", bad_ring=True), endpoints("bad", 1)]
        elif bad:
            made += [listener("broken", "r-broken", port=1), routes("r-broken", names[0])]
        made += [secret(name, dice.choice("ab")) for name in sorted(used - {""})]
        return Snapshot.of(made)

    def new_target(self) -> None:
        self.bad = self.dice.random() < 0.3
        self.target = self.random_set(bad=self.bad)
        self.told.clear()
        self.wire.do(self.core.set_target(self.target))

    def restart_agent(self) -> None:
        """Killed and started again: it knows the journal's set, and control brings the target again."""
        # The journal knows what was being applied, or was refused while Envoy was away.
        self.core = LocalCore(self.core.held, self._hear, unfinished=self.core.unfinished)
        self.wire.core = self.core
        self.wire.wakes.clear()
        self.envoy.reconnect()
        if self.target is not None and not any(isinstance(told, (Active, Refused)) for told in self.told):
            self.wire.do(self.core.set_target(self.target))

    def step(self) -> bool:
        """One thing happens. False when nothing can but the passing of time."""
        moves = [self.envoy.hear, self.envoy.speak]
        self.dice.shuffle(moves)
        moved = moves[0]() or moves[1]()
        if self.poll and (not moved or self.dice.random() < 0.3):
            self.poll = False
            self.wire.do(self.core.rejected(self.envoy.state.rejected))
            moved = True
        if self.envoy.live != self.core.live and self.core.connected:
            self.wire.do(self.core.ready(self.envoy.live))
        return moved

    def settle(self) -> None:
        for n in range(120):
            while self.step():
                pass
            self.wire.wait(self.dice.choice([0.03, 0.2, 2.0]))
            if n % 20 == 19:
                self.envoy.time_out()
        while self.step():
            pass

    def verdicts(self) -> list[Any]:
        return [told for told in self.told if isinstance(told, (Active, Refused))]

    def check(self) -> None:
        assert self.core.applying is None
        assert not self.envoy.difference(self.core.held)
        if self.target is None:
            return
        [verdict] = self.verdicts()
        assert verdict.snapshot is self.target
        if self.bad:
            assert isinstance(verdict, Refused)
            assert self.core.held is not self.target
        elif isinstance(verdict, Refused):
            assert "Envoy went away" in verdict.words or "stream ended" in verdict.words, verdict.words
        else:
            assert self.core.held is self.target


@pytest.mark.parametrize("seed", SEEDS)
def test_changes_end_active_or_as_before(seed):
    site = Site(seed)
    site.settle()
    site.check()
    for _ in range(6):
        site.new_target()
        site.settle()
        site.check()
    assert not site.envoy.served_503


@pytest.mark.parametrize("seed", SEEDS)
def test_broken_streams_and_restarts_in_the_middle_end_as_well(seed):
    site = Site(seed)
    site.settle()
    for _ in range(6):
        site.new_target()
        for _ in range(site.dice.randint(0, 3)):
            for _ in range(site.dice.randint(0, 12)):
                site.step()
            site.dice.choice([site.envoy.reconnect, site.envoy.restart, site.restart_agent])()
        site.settle()
        site.check()


def test_the_model_is_an_envoy_that_can_fail():
    """The simulation must be able to notice: routes ahead of their clusters are seen as 503s and NACKs."""
    site = Site(1)
    site.settle()
    assert site.envoy.live
    site.envoy.state.targets["r"] = "nowhere"
    site.envoy._settle()
    assert site.envoy.served_503 == ["r -> nowhere"]
    core: Core = site.core
    assert core.handle is not None
