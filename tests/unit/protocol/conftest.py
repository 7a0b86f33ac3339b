"""Fixtures of the protocol tests: a core of each hop on a wire, and what it told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.fake_envoy import FakeEnvoy, Wire
from xds_agent.protocol.control import ControlCore
from xds_agent.protocol.local import LocalCore
from xds_agent.snapshot.resource import CLUSTER, EMPTY, ENDPOINTS, LISTENER, ROUTES, SECRET, Snapshot


class Hop:
    """A core, its wire, and everything it told."""

    def __init__(self, make: Callable[[Callable[[Any], None]], Any]) -> None:
        self.told: list[Any] = []
        self.core = make(self.told.append)
        self.wire = Wire(self.core)

    def heard(self, kind: type) -> list[Any]:
        return [outcome for outcome in self.told if isinstance(outcome, kind)]

    def publish(self, snapshot: Snapshot, *more: str, node: str = "edge1") -> None:
        """Publish one snapshot to `node` and `more`."""
        self.wire.do(self.core.publish(dict.fromkeys((node, *more), snapshot)))


class Local(Hop):
    """The agent's hop, with an Envoy that can be brought up in one call."""

    def up(self, held: Snapshot = EMPTY) -> FakeEnvoy:
        """A fresh Envoy that took all of `held` and is LIVE."""
        envoy = FakeEnvoy(self.wire)
        envoy.request(CLUSTER).expect(CLUSTER, *held.of_type(CLUSTER)).ack()
        for kind in (ENDPOINTS,):
            if names := sorted(held.of_type(kind)):
                envoy.request(kind, *names).expect(kind, *names).ack()
        envoy.request(LISTENER).expect(LISTENER, *held.of_type(LISTENER)).ack()
        for kind in (SECRET, ROUTES):
            if names := sorted(held.of_type(kind)):
                envoy.request(kind, *names).expect(kind, *names).ack()
        return self.live(envoy)

    def live(self, envoy: FakeEnvoy, rejected: int | None = 0) -> FakeEnvoy:
        self.wire.do(self.core.rejected(rejected))
        self.wire.do(self.core.ready(True))
        return envoy

    def target(self, snapshot: Snapshot) -> None:
        self.wire.do(self.core.set_target(snapshot))


@pytest.fixture
def control() -> Hop:
    return Hop(ControlCore)


@pytest.fixture
def local() -> Local:
    return Local(lambda tell: LocalCore(EMPTY, tell))


@pytest.fixture
def local_with() -> Callable[..., Local]:
    def make(held: Snapshot, **settings: float) -> Local:
        return Local(lambda tell: LocalCore(held, tell, **settings))

    return make
