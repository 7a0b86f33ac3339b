"""A node agent's stream to control, as FakeEnvoy speaks it."""

from __future__ import annotations

from typing import Any

from tests.support.fake_envoy import FakeEnvoy, Wire, without_features
from xds_agent.protocol.assembly import Assembly
from xds_agent.protocol.wire import AGENT
from xds_agent.snapshot.resource import EMPTY, Snapshot


def agent(
    wire: Wire, held: Snapshot = EMPTY, *, node: str = "edge1", inline: bool = False, **how: Any
) -> FakeEnvoy:
    """A node agent's stream that said what it holds; by default an older one, that takes parts one by one."""
    client = FakeEnvoy(wire, node=node, agent=AGENT, **how)
    first, *others = Assembly(held, node).open()
    for request in (first if inline else without_features(first), *others):
        client.say(request)
    return client
