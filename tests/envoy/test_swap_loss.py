"""Changes under load lose nothing; the same load notices what a type-ordered push loses."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.echoes import Echoes
from tests.support.load import Load
from tests.support.processes import ask
from tests.support.resources import cluster, endpoints, listener, routes
from tests.support.swapping_site import KINDS, SwappingSite
from tests.support.swaps import Led, Unled, drive
from xds_agent.protocol.control import Acknowledged
from xds_agent.snapshot.resource import Snapshot

pytestmark = pytest.mark.envoy

# A push that loses about one request in a hundred needs a few swaps to be caught at it.
_SWAPS_MOST = 200
_RECEIVED = "http.edge.downstream_rq_total"


def load_on(site: SwappingSite, held: int) -> Load:
    load = Load(site.doors)
    load.start(keep_alive=2, fresh=1, http2=2, streams=1, tcp=1, held=held)
    return load


async def test_every_kind_of_change_under_every_kind_of_load(pki, tmp_path):
    async with Echoes() as echoes:
        site = SwappingSite(echoes.ports)
        async with Led(tmp_path / "led", pki) as led:
            await led.apply(site.snapshot)
            load = load_on(site, held=10)
            await load.warm()
            tally, _ = await drive(led, site, load, changes=6 * len(KINDS), requests=2000, pause_s=0.02)
    assert not tally.lost, tally.words
    assert {"http1", "fresh", "http2", "grpc", "tcp", "held-grpc", "held-tcp"} <= tally.answered.keys()


async def test_the_load_notices_what_a_type_ordered_push_loses(pki, tmp_path):
    async with Echoes() as echoes:
        site = SwappingSite(echoes.ports)
        async with Unled(tmp_path / "unled", pki, site.snapshot) as unled:
            load = load_on(site, held=0)
            await load.warm()
            for _ in range(_SWAPS_MOST):
                _, snapshot = site.change()
                await unled.apply(snapshot)
                if load.tally.lost:
                    break
            tally = await load.stop()
    assert tally.lost, "nothing was lost: this load would not see it either if our own push lost something"


async def test_a_request_that_has_its_route_but_not_yet_its_cluster_is_answered(
    control, node, backends, listen
):
    """Rule 16: the routes are acknowledged, and yet this request will ask for the cluster that they left."""

    def using(name: str, port: int, number: int) -> Snapshot:
        resources = [
            listener("edge", listen, "edge", delay_ms=400), routes("edge", {"shop": name}),
            cluster(name), endpoints(name, port),
        ]  # fmt: skip
        return Snapshot.of(resources, number)

    assert isinstance(await control.apply("edge1", using("old", backends[0].port, 1)), Acknowledged)
    waiting = [asyncio.create_task(ask(listen, "shop")) for _ in range(5)]
    async with asyncio.timeout(20):
        while (await node.envoy.admin.counters(_RECEIVED)).get(_RECEIVED, 0) < len(waiting):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert isinstance(await control.apply("edge1", using("new", backends[1].port, 2)), Acknowledged)
    assert [(await one)[::2] for one in waiting] == [(200, "one")] * len(waiting)
    assert (await ask(listen, "shop"))[::2] == (200, "two")
