"""What Envoy refuses, or never finishes, costs no request: the agent takes it back under load, un-wedged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from tests.support.load import Doors, Load
from tests.support.processes import Node, ask
from tests.support.resources import cluster, endpoints, replaced, routes, site
from xds_agent.node.envoy_link import EnvoyLink
from xds_agent.protocol.boundary import Action, Send
from xds_agent.protocol.control import Acknowledged, Refused
from xds_agent.snapshot.resource import CLUSTER, EMPTY, ENDPOINTS

pytestmark = pytest.mark.envoy

COLD = "cold"


@pytest.fixture
async def load(listen):
    """Started by `load.start`; nothing may be lost in it."""
    running = Load(Doors(listen, "shop"))
    yield running
    tally = await running.stop()
    assert not tally.lost, tally.words
    assert tally.requests > 0


def begin(load: Load) -> Load:
    load.start(keep_alive=2, fresh=1, http2=2, pause_s=0.002)
    return load


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (lambda port: [cluster("ring", bad_ring=True), endpoints("ring", port)], "ring"),
        (lambda port: [cluster("shop", bad_ring=True)], "shop"),
        (
            lambda port: [
                cluster("ring", bad_ring=True), endpoints("ring", port), cluster("fine"),
                endpoints("fine", port), cluster("shop", connect_timeout_ms=777),
            ],
            "ring",
        ),
        (lambda port: [routes("edge", {"shop": "shop"}, regex="(unclosed")], "edge"),
    ],
    ids=["the ring-size wedge", "of a live cluster", "bad among good: the NACK is withheld", "routes"],
)  # fmt: skip
async def test_a_refusal_costs_nothing_and_leaves_no_wedge(
    control, node, backends, listen, load, bad: Callable, named
):
    good = site(listen, {"shop": [backends[0].port]})
    assert isinstance(await control.apply("edge1", good), Acknowledged)
    await begin(load).warm()
    answer = await control.apply("edge1", replaced(good, *bad(backends[1].port)))
    assert isinstance(answer, Refused), answer
    assert named in answer.names
    wider = routes("edge", {"shop": "shop", "later": "later"})
    after = replaced(good, cluster("later"), endpoints("later", backends[1].port), wider, number=50)
    assert isinstance(await control.apply("edge1", after), Acknowledged)
    assert (await ask(listen, "later"))[::2] == (200, "two")


def without_cold(actions: list[Action]) -> list[Action]:
    """What the agent says, but for the endpoints of one cluster, which get lost on the way."""
    kept: list[Action] = []
    for action in actions:
        if isinstance(action, Send):
            response = discovery_pb2.DeltaDiscoveryResponse.FromString(action.data)
            found = [one for one in response.resources if one.name != COLD]
            if response.type_url == ENDPOINTS and len(found) < len(response.resources):
                del response.resources[:]
                response.resources.extend(found)
                action = Send(action.streams, response.SerializeToString())
        kept.append(action)
    return kept


async def test_a_proxy_that_acknowledges_but_never_warms_is_taken_back(pki, tmp_path, backends, listen, load):
    """Envoy acknowledges the endpoints, and waits for those of one cluster for ever: rule 18, stalled."""
    node = Node(tmp_path / "edge1", pki, "edge1", ["127.0.0.1:1"])
    link = EnvoyLink(EMPTY, xds_socket=node.config.envoy.xds_socket, admin=node.envoy.admin, stall_s=6.0)
    transport = link._transport
    carry_out = transport.carry_out
    transport.carry_out = lambda actions: carry_out(without_cold(list(actions)))
    await link.start()
    try:
        await node.envoy.start()
        good = site(listen, {"shop": [backends[0].port]})
        async with asyncio.timeout(60):
            assert await link.apply(good) is None
            await begin(load).warm()
            cold = [cluster(COLD), endpoints(COLD, backends[1].port)]
            wider = routes("edge", {"shop": "shop", COLD: COLD})
            refusal = await link.apply(replaced(good, *cold, wider, cluster("shop", connect_timeout_ms=777)))
            assert refusal is not None
            assert (refusal.type_url, COLD in refusal.names) == (CLUSTER, True)
            assert "did not acknowledge within 6 s, waiting for clusters" in refusal.words
            assert await link.apply(replaced(good, endpoints("shop", backends[1].port))) is None
        assert (await ask(listen, "shop"))[::2] == (200, "two")
        await load.stop()
    finally:
        await link.stop()
        await node.close()
