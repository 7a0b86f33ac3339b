"""Agent, Envoy and control die, alone and together; requests do not notice, nothing unchanged is resent."""

from __future__ import annotations

import asyncio
import resource
import socket

import pytest

from tests.support.control import Control
from tests.support.processes import Node, ask, until
from tests.support.resources import cluster, endpoints, replaced, routes, site
from xds_agent.protocol.control import Acknowledged, Connected, Refused

pytestmark = pytest.mark.envoy


class Load:
    """Requests one after the other for as long as it runs; remembers every one that failed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered = 0
        self.failed: list[str] = []
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                status, _, _ = await ask(self.port, "shop")
                if status != 200:
                    self.failed.append(str(status))
            except (OSError, EOFError) as error:
                self.failed.append(repr(error))
            self.answered += 1
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def big(control, node, backends, listen):
    """Fifty services, live on edge1."""
    services = {"shop": [backends[0].port]} | {f"s{n}": [backends[1].port] for n in range(50)}
    snapshot = site(listen, services)
    assert isinstance(await control.apply("edge1", snapshot), Acknowledged)
    return snapshot


async def sent(node) -> float:
    """Resources this agent process has sent to Envoy since it started."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, _, body = await ask(node.config.metrics.port, "any", "/metrics")
                break
            except OSError:  # the agent serves Envoy before it opens this port
                await asyncio.sleep(0.02)
    for line in body.splitlines():
        if line.startswith("marchproxy_resources_sent_total "):
            return float(line.split()[1])
    raise AssertionError("no marchproxy_resources_sent_total")


async def connected(control, node_name="edge1", count=1):
    def streams():
        return [o for o in control.outcomes if isinstance(o, Connected) and o.node == node_name]

    await until(lambda: len(streams()) >= count)


async def test_a_killed_agent_comes_back_and_resends_nothing(control, node, big, listen):
    load = Load(listen)
    await node.agent.kill()
    await asyncio.sleep(0.2)
    control.reports.clear()
    await node.start_agent()
    await connected(control, count=2)
    # There is nothing to tell it, and yet it must report.
    await until(lambda: any(getattr(r, "active_revision", "") == big.revision for _, r in control.reports))
    await until(lambda: "Envoy is LIVE" in node.agent.said().rpartition("to Envoy")[2])
    assert await sent(node) == 0
    await load.stop()
    assert load.failed == []
    assert load.answered > 10


async def test_an_agent_killed_in_mid_push_ends_on_the_new_set(control, node, big, backends, listen):
    load = Load(listen)
    snapshot = big
    for number in range(6):
        snapshot = replaced(
            snapshot,
            cluster("shop", connect_timeout_ms=1001 + number),
            endpoints("shop", backends[number % 2].port),
            routes("edge", {"shop": "shop"}, mark=f"n{number}"),
        )
        control.publish({"edge1": snapshot})
        # Somewhere inside the push: between the first frame and Envoy's last answer.
        await asyncio.sleep(0.001 * number)
        await node.agent.kill()
        await node.start_agent()
        assert isinstance(await control.answer("edge1", snapshot), Acknowledged)
        # Three changed: taken back where the push had got to, told again, and one nudge.
        assert await sent(node) <= 8
    await load.stop()
    assert load.failed == []
    assert (await ask(listen, "shop"))[1]["x-mark"] == "n5"


async def test_envoy_restarted_alone_is_served_at_once(control, node, big, listen):
    before = await sent(node)
    await node.envoy.kill()
    await node.envoy.start()
    await node.envoy.live()
    assert await sent(node) == before + 2 + 2 * 51  # listener, routes; clusters and their endpoints
    assert (await ask(listen, "shop"))[::2] == (200, "one")


async def test_with_control_dead_a_rebooted_host_serves_its_last_good_set(
    control, node, big, backends, listen
):
    await control.stop()
    await node.envoy.kill()
    await node.agent.kill()
    await node.start()
    await node.envoy.live()
    assert (await ask(listen, "shop"))[::2] == (200, "one")
    await control.start()
    moved = replaced(big, endpoints("shop", backends[1].port))
    assert isinstance(await control.apply("edge1", moved), Acknowledged)
    assert (await ask(listen, "shop"))[::2] == (200, "two")


async def test_a_refused_revision_is_not_what_a_reboot_serves(control, node, big, listen):
    bad = replaced(big, routes("edge", {"shop": "shop"}, regex="(bad"))
    assert isinstance(await control.apply("edge1", bad), Refused)
    await control.stop()
    await node.envoy.kill()
    await node.agent.kill()
    await node.start()
    await node.envoy.live()
    assert (await ask(listen, "shop"))[::2] == (200, "one")


async def test_the_next_control_host_takes_over_and_resends_nothing(pki, tmp_path, backends, listen):
    one, two = Control(pki), Control(pki, name="control2")
    await one.start()
    await two.start()
    node = Node(tmp_path / "edge1", pki, "edge1", [one.address, two.address], ("control1", "control2"))
    try:
        await node.start()
        first = site(listen, {"shop": [backends[0].port]})
        assert isinstance(await one.apply("edge1", first), Acknowledged)
        two.publish({"edge1": first})
        before = await sent(node)
        await one.stop()
        await two.until(Acknowledged, node="edge1")
        assert await sent(node) == before
        moved = replaced(first, endpoints("shop", backends[1].port))
        assert isinstance(await two.apply("edge1", moved), Acknowledged)
        assert (await ask(listen, "shop"))[::2] == (200, "two")
    finally:
        await node.close()
        await one.stop()
        await two.stop()


async def test_a_full_disk_refuses_the_revision_and_the_old_set_stays(control, node, big, listen):
    """The limit on file sizes fails the journal's write just as a full disk does."""
    journal = node.config.state_dir / "journal"
    limit = journal.stat().st_size + 64
    before = resource.prlimit(node.agent.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    marked = replaced(big, routes("edge", {"shop": "shop"}, mark="full"))
    answer = await control.apply("edge1", marked)
    assert isinstance(answer, Refused)
    assert "journal" in answer.words
    assert "x-mark" not in (await ask(listen, "shop"))[1]
    resource.prlimit(node.agent.pid, resource.RLIMIT_FSIZE, before)
    again = replaced(marked, routes("edge", {"shop": "shop"}, mark="room"))
    assert isinstance(await control.apply("edge1", again), Acknowledged)
    assert (await ask(listen, "shop"))[1]["x-mark"] == "room"


async def test_systemd_hears_ready_and_sigterm_ends_the_agent_while_envoy_serves(
    control, node, big, listen, tmp_path
):
    await node.agent.kill()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        await node.start_agent(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")
        said = [
            await asyncio.wait_for(asyncio.get_running_loop().sock_recv(systemd, 200), 20) for _ in range(3)
        ]
        assert said[0].startswith(b"READY=1")
        assert said[1:] == [b"WATCHDOG=1"] * 2
    await connected(control, count=2)
    assert await node.agent.end() == 0
    assert (await ask(listen, "shop"))[::2] == (200, "one")


async def test_control_restarted_sends_nothing_that_did_not_change(control, node, big, listen):
    before = await sent(node)
    await control.stop()
    await control.start()
    control.publish({"edge1": big})
    await connected(control, count=2)
    assert isinstance(await control.answer("edge1", big), Acknowledged)
    assert await sent(node) == before
