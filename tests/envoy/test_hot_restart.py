"""A second Envoy takes over from the first while both hold a stream at one node agent: nothing is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import pytest

from tests.support.control import Control
from tests.support.ports import free_port
from tests.support.processes import Envoy, Node, ask, envoy_binary, until
from tests.support.resources import cluster, endpoints, replaced, routes, site
from xds_agent.protocol.control import Acknowledged

pytestmark = pytest.mark.envoy

DRAIN_S = 3


class Epoch(Envoy):
    """One Envoy of a chain of hot restarts."""

    def __init__(self, node: Node, number: int, base_id: int) -> None:
        super().__init__(node.config, node.folder)
        self.log = node.folder / f"envoy-{number}.log"
        self._number, self._base_id = number, base_id

    async def start(self, *arguments: str) -> None:
        await self.spawn(
            str(envoy_binary()), "-c", str(self._bootstrap), "--concurrency", "1", "-l", "info",
            "--base-id", str(self._base_id), "--restart-epoch", str(self._number),
            "--drain-time-s", str(DRAIN_S), "--parent-shutdown-time-s", str(DRAIN_S + 2), *arguments,
        )  # fmt: skip


class Requests:
    """Requests on new connections until it is stopped; every one that failed is remembered."""

    def __init__(self, port: int) -> None:
        self.answered, self.failed = 0, []
        self._port = port
        self._stopping = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._stopping:
            try:
                status, _, _ = await ask(self._port, "shop")
                if status != 200:
                    self.failed.append(str(status))
            except (OSError, EOFError) as error:
                self.failed.append(repr(error))
            self.answered += 1
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        self._stopping = True
        await self._task


@pytest.fixture
async def epochs(make_node, control: Control):
    """(node, one Envoy after the other): `await epochs.next()` starts the next one."""
    node = await make_node("edge1")
    await node.envoy.kill()
    # Other Envoys of this machine must not share the hot restart's memory with ours.
    base_id = random.SystemRandom().randrange(10_000, 1_000_000)
    running = [Epoch(node, 0, base_id)]
    await running[0].start()
    await running[0].live()

    class Epochs:
        agent = node
        envoys = running

        async def next(self) -> Epoch:
            running.append(Epoch(node, len(running), base_id))
            await running[-1].start()
            return running[-1]

    yield Epochs()
    for envoy in reversed(running):
        await envoy.kill()


async def test_a_hot_restart_in_mid_push_loses_nothing(control, epochs, backends):
    listen = free_port()
    snapshot = site(listen, {"shop": [backends[0].port]} | {f"s{n}": [backends[1].port] for n in range(20)})
    assert isinstance(await control.apply("edge1", snapshot), Acknowledged)
    load = Requests(listen)

    def moved(number: int):
        return replaced(
            snapshot,
            cluster("shop", connect_timeout_ms=1001 + number),
            endpoints("shop", backends[number % 2].port),
            routes("edge", {"shop": "shop"}, mark=f"n{number}"),
        )

    # The next epoch opens its stream somewhere within these pushes.
    following = await epochs.next()
    number = 0
    while not await following.admin.is_live() or number < 8:
        number += 1
        snapshot = moved(number)
        assert isinstance(await control.apply("edge1", snapshot), Acknowledged)
        assert following.running, following.said()[-3000:]
    # Both are there: the old one drains; what is published now is for the one that stays. Before the old one
    # was told to, new connections may come to it, too.
    await until(lambda: "closing and draining listeners" in epochs.envoys[0].said(), patience_s=60)
    snapshot = moved(number + 1)
    assert isinstance(await control.apply("edge1", snapshot), Acknowledged)
    assert (await ask(listen, "shop"))[1]["x-mark"] == f"n{number + 1}"
    await until(lambda: not epochs.envoys[0].running, patience_s=30)
    # And alone again.
    snapshot = moved(number + 2)
    assert isinstance(await control.apply("edge1", snapshot), Acknowledged)
    assert (await ask(listen, "shop"))[1]["x-mark"] == f"n{number + 2}"
    await load.stop()
    assert load.failed == []
    assert load.answered > 50


async def test_an_epoch_that_dies_young_leaves_the_old_one_serving(control, epochs, backends):
    listen = free_port()
    snapshot = site(listen, {"shop": [backends[0].port]})
    assert isinstance(await control.apply("edge1", snapshot), Acknowledged)
    load = Requests(listen)
    # Held without a configuration the young one cannot become LIVE, and only then does the old one step back.
    os.kill(epochs.agent.agent.pid, signal.SIGSTOP)
    try:
        young = await epochs.next()
        await until(lambda: "initializing epoch 1" in young.said())
        await asyncio.sleep(0.3)
        await young.kill()
    finally:
        os.kill(epochs.agent.agent.pid, signal.SIGCONT)
    await asyncio.sleep(1.0)
    assert (await ask(listen, "shop"))[::2] == (200, "one")
    await load.stop()
    assert load.failed == []
